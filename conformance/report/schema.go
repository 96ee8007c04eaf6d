package report

import (
	"bytes"
	_ "embed"
	"fmt"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

//go:embed schema.json
var schemaText []byte

// SchemaJSON returns the JSON Schema of reports.
func SchemaJSON() []byte { return bytes.Clone(schemaText) }

// schemaID is the $id in schema.json.
const schemaID = "https://sandbar.dev/schema/conformance-report-v1.json"

// checkSchema validates a document. The schema is compiled for each call: a
// program that validates none must not pay for it.
func checkSchema(raw []byte) error {
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(schemaText))
	if err != nil {
		return fmt.Errorf("the schema of reports is broken: %w", err)
	}
	compiler := jsonschema.NewCompiler()
	if err := compiler.AddResource(schemaID, doc); err != nil {
		return fmt.Errorf("the schema of reports is broken: %w", err)
	}
	schema, err := compiler.Compile(schemaID)
	if err != nil {
		return fmt.Errorf("the schema of reports is broken: %w", err)
	}
	instance, err := jsonschema.UnmarshalJSON(bytes.NewReader(raw))
	if err != nil {
		return fmt.Errorf("the report is no JSON: %w", err)
	}
	if err := schema.Validate(instance); err != nil {
		return fmt.Errorf("the report does not have the form of %s: %w", Schema, err)
	}
	return nil
}
