package image

import (
	"context"
	"fmt"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/types"
)

// BenchmarkPull measures a pull from a registry on loopback until the image can
// be used, synced to disk, in bytes of the files in it.
func BenchmarkPull(b *testing.B) {
	var small, text []item
	for n := range 10_000 {
		small = append(small, file(fmt.Sprintf("d%d/f%d", n%100, n), noise(uint64(n), 4<<10)))
	}
	words := make([]byte, 64<<20) // compresses about as well as programs do
	for n, c := range noise(1, len(words)) {
		words[n] = c & 0x1f
	}
	text = append(text, file("text", words))
	big := tarOf(b, file("big", noise(1, 64<<20)))
	cases := []struct {
		name  string
		bytes int64
		plain []byte
		gzip  bool
	}{
		{"uncompressed64MiB", 64 << 20, big, false},
		{"gzip64MiBText", 64 << 20, tarOf(b, text...), true},
		{"uncompressed10000Files", 40_960_000, tarOf(b, small...), false},
	}
	for _, c := range cases {
		b.Run(c.name, func(b *testing.B) {
			reg := newRegistry(b)
			layer := layerOf(b, c.plain, c.plain, types.OCIUncompressedLayer)
			if c.gzip {
				layer = layerOf(b, gzipped(b, c.plain), c.plain, types.OCILayer)
			}
			ref := reg.push(b, imageOf(b, layer), "app")
			dir := b.TempDir()
			b.SetBytes(c.bytes)
			n := 0
			for b.Loop() {
				n++
				s, err := Open(context.Background(), filepath.Join(dir, strconv.Itoa(n)), Options{})
				if err != nil {
					b.Fatal(err)
				}
				pull(b, s, ref, PullOptions{})
				if err := s.Close(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkKnownImage is the price of an image for a sandbox that is not the first.
func BenchmarkKnownImage(b *testing.B) {
	reg := newRegistry(b)
	ref := reg.push(b, imageOf(b, gzipLayer(b, file("a", nil))), "app")
	s := openStore(b, b.TempDir(), Options{})
	pull(b, s, ref, PullOptions{})
	b.Run("bare", func(b *testing.B) {
		for b.Loop() {
			pull(b, s, ref, PullOptions{})
		}
	})
	b.Run("leased", func(b *testing.B) {
		n := 0
		for b.Loop() {
			n++
			pull(b, s, ref, PullOptions{Owner: fmt.Sprint("sandbox ", n)})
		}
	})
}
