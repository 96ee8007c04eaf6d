package report

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"golang.org/x/mod/sumdb/note"
)

// Seal sets the digest over everything else. A signature that was there is
// removed, because it no longer holds.
func (r *Report) Seal() error {
	r.Digest, r.Signature = "", ""
	raw, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("encode the report: %w", err)
	}
	r.Digest, err = digest(raw)
	return err
}

// digest is the SHA-256 over the canonical form of a report's JSON: the same
// document without digest and signature, keys sorted, no space, numbers as they
// are written.
func digest(raw []byte) (string, error) {
	if err := noDuplicates(raw); err != nil {
		return "", err
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	var doc map[string]any
	if err := dec.Decode(&doc); err != nil {
		return "", fmt.Errorf("the report is no JSON object: %w", err)
	}
	delete(doc, "digest")
	delete(doc, "signature")
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(doc); err != nil {
		return "", fmt.Errorf("encode the report: %w", err)
	}
	sum := sha256.Sum256(bytes.TrimSuffix(buf.Bytes(), []byte("\n")))
	return hex.EncodeToString(sum[:]), nil
}

// noDuplicates refuses an object that names a key twice: two readers could then
// see two reports under one digest.
func noDuplicates(raw []byte) error {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	if err := walk(dec, ""); err != nil {
		return err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return errors.New("the report goes on after its end: want one JSON object")
	}
	return nil
}

// walk reads one value.
func walk(dec *json.Decoder, path string) error {
	tok, err := dec.Token()
	if err != nil {
		return fmt.Errorf("the report is no JSON: %w", err)
	}
	open, ok := tok.(json.Delim)
	if !ok {
		return nil
	}
	seen := map[string]bool{}
	for i := 0; dec.More(); i++ {
		at := fmt.Sprintf("%s[%d]", path, i)
		if open == '{' {
			key, err := dec.Token()
			if err != nil {
				return fmt.Errorf("the report is no JSON: %w", err)
			}
			name, ok := key.(string)
			if at = path + "." + name; !ok || seen[name] {
				return fmt.Errorf("%s stands twice in the report", strings.TrimPrefix(at, "."))
			}
			seen[name] = true
		}
		if err := walk(dec, at); err != nil {
			return err
		}
	}
	_, err = dec.Token() // the closing bracket
	if err != nil {
		return fmt.Errorf("the report is no JSON: %w", err)
	}
	return nil
}

// statement is what is signed.
func statement(digest string) string { return Schema + "\n" + digest + "\n" }

// Sign signs a sealed report with a key as NewKey makes it.
func (r *Report) Sign(key string) error {
	if r.Digest == "" {
		return errors.New("sign the report: it has no digest yet")
	}
	signer, err := note.NewSigner(strings.TrimSpace(key))
	if err != nil {
		return fmt.Errorf("sign the report: %w", err)
	}
	signed, err := note.Sign(&note.Note{Text: statement(r.Digest)}, signer)
	if err != nil {
		return fmt.Errorf("sign the report: %w", err)
	}
	r.Signature = string(signed)
	return nil
}

// NewKey makes a pair of keys for a name without spaces or plus signs. The
// private one signs, the public one verifies; each is one line of text.
func NewKey(name string) (private, public string, err error) {
	if name == "" || strings.ContainsAny(name, " +\t\n") {
		return "", "", fmt.Errorf("key name is %q: want one word without a plus sign, such as example.com", name)
	}
	private, public, err = note.GenerateKey(nil, name)
	if err != nil {
		return "", "", fmt.Errorf("make a key: %w", err)
	}
	return private, public, nil
}

// checkSignature checks a report's signature. Without a key nothing is checked,
// and the signer's name is returned as the signature claims it.
func checkSignature(r *Report, public string) (signer string, err error) {
	if r.Signature == "" {
		if public != "" {
			return "", errors.New("the report is not signed, and a key was given to verify it with")
		}
		return "", nil
	}
	if public == "" {
		return claimed(r.Signature), nil
	}
	verifier, err := note.NewVerifier(strings.TrimSpace(public))
	if err != nil {
		return "", fmt.Errorf("the key to verify with: %w", err)
	}
	opened, err := note.Open([]byte(r.Signature), note.VerifierList(verifier))
	if err != nil {
		return "", fmt.Errorf("the signature does not hold: %w", err)
	}
	if opened.Text != statement(r.Digest) {
		return "", errors.New("the signature is over another report")
	}
	return verifier.Name(), nil
}

// claimed is the name of the first signature of a note.
func claimed(signed string) string {
	for line := range strings.Lines(signed) {
		if rest, ok := strings.CutPrefix(line, "— "); ok {
			name, _, _ := strings.Cut(rest, " ")
			return name
		}
	}
	return ""
}
