package batch

import "sync"

// buffers holds byte slices of length 0 and capacity bufferBytes, so that streams
// without traffic hold none.
var buffers = sync.Pool{New: func() any {
	b := make([]byte, 0, bufferBytes)
	return &b
}}

func getBuffer() *[]byte {
	b, _ := buffers.Get().(*[]byte)
	return b
}

func putBuffer(b *[]byte) {
	*b = (*b)[:0]
	buffers.Put(b)
}
