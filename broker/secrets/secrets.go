// Package secrets says where a secret is, so that no file that names one holds it.
package secrets

import (
	"fmt"
	"os"
)

// Source says where a secret is; exactly one field is set.
type Source struct {
	// Env is the name of an environment variable of the broker.
	Env string `yaml:"env"`
	// File is a path; one newline at the end is not part of the secret.
	File string `yaml:"file"`
}

// maxSecret is far above any key, and keeps a wrong path from filling memory.
const maxSecret = 64 << 10

// Value returns the secret itself. lookup reads the environment.
func (s Source) Value(lookup func(string) (string, bool)) ([]byte, error) {
	if s.Env != "" {
		v, ok := lookup(s.Env)
		if !ok {
			return nil, fmt.Errorf("environment variable %s is not set", s.Env)
		}
		return []byte(v), nil
	}
	data, err := os.ReadFile(s.File)
	if err != nil {
		return nil, err
	}
	if len(data) > maxSecret {
		return nil, fmt.Errorf("%s has %d bytes: want at most %d", s.File, len(data), maxSecret)
	}
	if n := len(data); n > 0 && data[n-1] == '\n' {
		data = data[:n-1]
	}
	return data, nil
}
