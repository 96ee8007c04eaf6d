package report

import (
	"bytes"
	_ "embed"
	"fmt"
	"sync"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

//go:embed schema.json
var schemaText []byte

// SchemaJSON returns the JSON Schema of reports.
func SchemaJSON() []byte { return bytes.Clone(schemaText) }

// schemaID is the $id in schema.json.
const schemaID = "https://sandbar.dev/schema/conformance-report-v1.json"

// compiled is the schema, made when it is first needed: a program that validates
// nothing must not pay for it.
var compiled = sync.OnceValues(func() (*jsonschema.Schema, error) {
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(schemaText))
	if err != nil {
		return nil, err
	}
	compiler := jsonschema.NewCompiler()
	if err := compiler.AddResource(schemaID, doc); err != nil {
		return nil, err
	}
	return compiler.Compile(schemaID)
})

// checkSchema validates a document.
func checkSchema(raw []byte) error {
	schema, err := compiled()
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
