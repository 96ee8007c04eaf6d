package runner

import (
	"errors"
	"io"
	"testing"
)

func TestSpool(t *testing.T) {
	asked := 0
	s := newSpool(func() { asked++ })
	put := func(offset int64, text string, news bool) {
		t.Helper()
		if got, err := s.put(offset, []byte(text)); got != news || err != nil {
			t.Errorf("%q at %d is news: %t, %v", text, offset, got, err)
		}
	}
	put(0, "hello", true)
	put(0, "hello", false)
	put(2, "llo, world", true)
	if _, err := s.put(100, []byte("x")); !errors.Is(err, errGap) {
		t.Errorf("a gap is answered with %v", err)
	}
	if _, err := s.end(100); !errors.Is(err, errGap) {
		t.Errorf("an end beyond a gap is answered with %v", err)
	}
	if _, err := s.put(12, make([]byte, 2*window)); !errors.Is(err, errLine) {
		t.Errorf("more than a window is answered with %v", err)
	}
	if news, err := s.end(12); !news || err != nil || !s.whole() {
		t.Errorf("the end is news: %t, %v, whole: %t", news, err, s.whole())
	}
	text, err := io.ReadAll(s)
	if string(text) != "hello, world" || err != nil || s.read() != 12 || asked != 0 {
		t.Errorf("%q was read, %v, %d bytes, asked %d times", text, err, s.read(), asked)
	}
	s.fail(io.ErrClosedPipe)
	if _, err := s.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("what is whole ends with %v after a failure", err)
	}
}

func TestSpoolAsks(t *testing.T) {
	asked := 0
	s := newSpool(func() { asked++ })
	for at := int64(0); at < 2*window; at += window / 4 {
		if _, err := s.put(at, make([]byte, window/4)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(s, make([]byte, window/4)); err != nil {
			t.Fatal(err)
		}
	}
	if asked != 4 {
		t.Errorf("while two windows were read it asked %d times: want each half of one", asked)
	}
	s.fail(errGap)
	if _, err := s.Read(make([]byte, 1)); !errors.Is(err, errGap) {
		t.Errorf("a stream that is not whole ends with %v", err)
	}
}
