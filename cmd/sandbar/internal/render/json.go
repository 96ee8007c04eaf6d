package render

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// marshal names fields as the contract does and shows zero values, so that a
// program can rely on every field being there.
var marshal = protojson.MarshalOptions{UseProtoNames: true, EmitDefaultValues: true}

// Message writes one message as one indented JSON document.
func Message(w io.Writer, msg proto.Message) error {
	raw, err := marshal.Marshal(msg)
	if err != nil {
		return fmt.Errorf("encode %s: %w", msg.ProtoReflect().Descriptor().Name(), err)
	}
	return indent(w, raw)
}

// Raw is one message as JSON, to be a part of a value of our own.
func Raw(msg proto.Message) (json.RawMessage, error) {
	raw, err := marshal.Marshal(msg)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", msg.ProtoReflect().Descriptor().Name(), err)
	}
	return raw, nil
}

// MessageLine writes one message as one line of JSON, for streams.
func MessageLine(w io.Writer, msg proto.Message) error {
	raw, err := marshal.Marshal(msg)
	if err != nil {
		return fmt.Errorf("encode %s: %w", msg.ProtoReflect().Descriptor().Name(), err)
	}
	return line(w, raw)
}

// Line writes a value of our own as one line of JSON.
func Line(w io.Writer, v any) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode JSON: %w", err)
	}
	return line(w, raw)
}

func line(w io.Writer, raw []byte) error {
	var buf bytes.Buffer
	if err := json.Compact(&buf, raw); err != nil {
		return fmt.Errorf("compact JSON: %w", err)
	}
	buf.WriteByte('\n')
	_, err := w.Write(buf.Bytes())
	return err
}

// Messages writes a list as one JSON array, [] when it is empty.
func Messages[M proto.Message](w io.Writer, msgs []M) error {
	raws := make([]json.RawMessage, 0, len(msgs))
	for _, msg := range msgs {
		raw, err := marshal.Marshal(msg)
		if err != nil {
			return fmt.Errorf("encode %s: %w", msg.ProtoReflect().Descriptor().Name(), err)
		}
		raws = append(raws, raw)
	}
	return Value(w, raws)
}

// Value writes a value of our own as one indented JSON document.
func Value(w io.Writer, v any) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode JSON: %w", err)
	}
	return indent(w, raw)
}

// indent gives protojson's deliberately unstable spacing one stable form.
func indent(w io.Writer, raw []byte) error {
	var buf bytes.Buffer
	if err := json.Indent(&buf, raw, "", "  "); err != nil {
		return fmt.Errorf("indent JSON: %w", err)
	}
	buf.WriteByte('\n')
	_, err := w.Write(buf.Bytes())
	return err
}
