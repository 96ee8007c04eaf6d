package erofs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// bufferSize is how much is gathered before it is written: one system call for
// hundreds of small files.
const bufferSize = 1 << 20

// holeSize is the smallest run of zeros that becomes a hole: a page.
const holeSize = 4 << 10

var zeros [LargeBlockSize]byte

// Writer writes one image into one file. After an error it must not be used
// further.
type Writer struct {
	f         *os.File
	blockSize int64
	// buf holds what belongs at offset flushed; flushed is on a block boundary.
	buf     []byte
	flushed int64
}

// NewWriter returns a writer into f, which must be empty, writable and seekable
// and stays the caller's to sync and close. blockSize is BlockSize or
// LargeBlockSize.
func NewWriter(f *os.File, blockSize int) *Writer {
	// Block 0 is for the superblock, which Finish writes.
	return &Writer{f: f, blockSize: int64(blockSize), buf: make([]byte, 0, bufferSize), flushed: int64(blockSize)}
}

// blocks returns how many blocks so many bytes take.
func (w *Writer) blocks(size int64) int64 { return (size + w.blockSize - 1) / w.blockSize }

// offset is where the next byte goes.
func (w *Writer) offset() int64 { return w.flushed + int64(len(w.buf)) }

// WriteFile appends the size bytes that r has and returns their place. It is
// io.ErrUnexpectedEOF if r has fewer; what r has beyond them is not read.
func (w *Writer) WriteFile(r io.Reader, size int64) (Extent, error) {
	if size == 0 {
		return Extent{}, nil
	}
	block := w.offset() / w.blockSize
	if size < 0 || w.blocks(size) > maxBlocks-block {
		return Extent{}, fmt.Errorf("file of %d bytes does not fit an image of at most %d blocks", size, int64(maxBlocks))
	}
	for left := size; left > 0; {
		n := min(left, int64(cap(w.buf)-len(w.buf)))
		room := w.buf[len(w.buf) : int64(len(w.buf))+n]
		if _, err := io.ReadFull(r, room); err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return Extent{}, fmt.Errorf("read file content: %w", err)
		}
		w.buf = w.buf[:int64(len(w.buf))+n]
		left -= n
		if err := w.flushFull(); err != nil {
			return Extent{}, err
		}
	}
	return Extent{Block: uint32(block), Size: size}, w.align(w.blockSize)
}

// Discard gives back the space of an extent that no inode of the image will
// name. Its blocks read as zeros from then on.
func (w *Writer) Discard(e Extent) error {
	if e.Size == 0 {
		return nil
	}
	if err := w.flush(); err != nil {
		return err
	}
	from, length := int64(e.Block)*w.blockSize, w.blocks(e.Size)*w.blockSize
	// Blocks of zeros at the end were left for Finish to give to the file; a
	// hole beyond the end of the file is nothing to punch.
	err := unix.Fallocate(int(w.f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, from, length)
	if errors.Is(err, unix.EOPNOTSUPP) {
		return w.overwrite(from, length)
	}
	if err != nil {
		return fmt.Errorf("punch a hole into %q: %w", w.f.Name(), err)
	}
	return nil
}

// overwrite is Discard on file systems without holes: the space stays taken,
// but the bytes are gone and the image is the same.
func (w *Writer) overwrite(from, length int64) error {
	for end := from + length; from < end; from += w.blockSize {
		if _, err := w.f.WriteAt(zeros[:w.blockSize], from); err != nil {
			return fmt.Errorf("clear discarded data: %w", err)
		}
	}
	return nil
}

// append adds bytes that lie on no boundary of their own.
func (w *Writer) append(b []byte) error {
	for len(b) > 0 {
		n := min(len(b), cap(w.buf)-len(w.buf))
		w.buf = append(w.buf, b[:n]...)
		b = b[n:]
		if err := w.flushFull(); err != nil {
			return err
		}
	}
	return nil
}

// align pads with zeros to a boundary that divides the block size.
func (w *Writer) align(boundary int64) error {
	if rest := w.offset() % boundary; rest != 0 {
		return w.append(zeros[:boundary-rest])
	}
	return nil
}

func (w *Writer) flushFull() error {
	if len(w.buf) < cap(w.buf) {
		return nil
	}
	return w.flush()
}

// flush writes the gathered blocks and leaves holes for those that are all
// zeros. The buffer must end on a block boundary.
func (w *Writer) flush() error {
	for start := 0; start < len(w.buf); {
		end := start
		for end < len(w.buf) && !bytes.Equal(w.buf[end:end+holeSize], zeros[:holeSize]) {
			end += holeSize
		}
		if end > start {
			if _, err := w.f.WriteAt(w.buf[start:end], w.flushed+int64(start)); err != nil {
				return err
			}
		}
		start = end + holeSize
	}
	w.flushed += int64(len(w.buf))
	w.buf = w.buf[:0]
	return nil
}
