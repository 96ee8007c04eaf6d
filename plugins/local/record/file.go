package record

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// version of the files' encoding; a reader refuses a newer one instead of
// guessing.
const version = 1

// envelope is what every record file holds: named messages in JSON.
type envelope struct {
	Version  int                        `json:"version"`
	Messages map[string]json.RawMessage `json:"messages"`
}

// write replaces path with the messages. The folder must exist.
func write(path string, messages map[string]proto.Message) error {
	env := envelope{Version: version, Messages: make(map[string]json.RawMessage, len(messages))}
	for name, m := range messages {
		raw, err := protojson.Marshal(m)
		if err != nil {
			return fmt.Errorf("encode %s of %s: %w", name, path, err)
		}
		env.Messages[name] = raw
	}
	data, err := json.Marshal(env)
	if err != nil {
		return fmt.Errorf("encode %s: %w", path, err)
	}
	return WriteFile(path, data)
}

// WriteFile replaces a file as a whole: after a crash it holds the old content
// or the new. Its mode is 0600.
func WriteFile(path string, data []byte) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), ".tmp-*")
	if err != nil {
		return fmt.Errorf("write %q: %w", path, err)
	}
	_, err = tmp.Write(data)
	if err == nil {
		err = tmp.Sync()
	}
	if cerr := tmp.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		_ = os.Remove(tmp.Name())
		return fmt.Errorf("write %q: %w", path, err)
	}
	return nil
}

// read fills the messages from path. fs.ErrNotExist passes through.
func read(path string, messages map[string]proto.Message) error {
	data, err := os.ReadFile(path)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return fs.ErrNotExist
		}
		return fmt.Errorf("read record: %w", err)
	}
	var env envelope
	if err := json.Unmarshal(data, &env); err != nil {
		return fmt.Errorf("read record %q: %w", path, err)
	}
	if env.Version > version {
		return fmt.Errorf("read record %q: version %d is newer than this plugin, which knows %d", path, env.Version, version)
	}
	for name, m := range messages {
		raw, ok := env.Messages[name]
		if !ok {
			continue
		}
		if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(raw, m); err != nil {
			return fmt.Errorf("read %s of record %q: %w", name, path, err)
		}
	}
	return nil
}
