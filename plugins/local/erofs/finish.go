package erofs

import (
	"fmt"
)

// Stats describes a finished image.
type Stats struct {
	// Size is the length of the image file; holes count.
	Size int64
	// Inodes is the number of files, directories and other objects.
	Inodes int64
}

// Finish writes the tree below root and the superblock, and gives the file its
// length. It does not sync. The inodes must not be changed or used for another
// image afterwards. The error is *Crowded for a directory that only a larger
// block size may take.
func (w *Writer) Finish(root *Inode) (Stats, error) {
	if !root.is(TypeDir) {
		return Stats{}, fmt.Errorf("root has mode %#o: it must be a directory", root.Mode)
	}
	root.parent = root
	p := plan{blockSize: w.blockSize, next: rootNid << slotBits}
	if err := p.add(root); err != nil {
		return Stats{}, err
	}
	for _, i := range p.inodes {
		if i.outside(w.blockSize) > 0 {
			if err := w.writeOutside(i); err != nil {
				return Stats{}, err
			}
		}
	}
	meta := w.offset()
	if end := (meta + p.next) / w.blockSize; end >= maxBlocks {
		return Stats{}, fmt.Errorf("image of %d blocks: the format allows %d", end, int64(maxBlocks))
	}
	for n, i := range p.inodes {
		if err := w.writeInode(i, meta, uint32(n+1)); err != nil {
			return Stats{}, err
		}
	}
	if err := w.align(w.blockSize); err != nil {
		return Stats{}, err
	}
	if err := w.flush(); err != nil {
		return Stats{}, err
	}
	stats := Stats{Size: w.offset(), Inodes: int64(len(p.inodes))}
	super := superblock(w.blockSize, uint64(stats.Inodes), uint32(stats.Size/w.blockSize), uint32(meta/w.blockSize))
	if _, err := w.f.WriteAt(super, 0); err != nil {
		return Stats{}, err
	}
	// Trailing blocks of zeros were never written.
	return stats, w.f.Truncate(stats.Size)
}

// plan gives every inode its number, in the order of a walk by name.
type plan struct {
	blockSize int64
	inodes    []*Inode
	// next is the first free byte of the metadata area.
	next int64
}

func (p *plan) add(i *Inode) error {
	if i.nid != 0 {
		if i.is(TypeDir) {
			return fmt.Errorf("directory %d has two names", i.nid)
		}
		i.links++
		return nil
	}
	if err := i.prepare(p.blockSize); err != nil {
		return err
	}
	// An inode and its tail share one block.
	need := inodeSize + i.tail
	if rest := p.blockSize - p.next%p.blockSize; need > rest {
		p.next += rest
	}
	i.nid, i.links = uint64(p.next>>slotBits), 1
	p.next += (need + 1<<slotBits - 1) &^ (1<<slotBits - 1)
	p.inodes = append(p.inodes, i)
	if !i.is(TypeDir) {
		return nil
	}
	i.links = 2
	for _, block := range i.blocks {
		for _, e := range block {
			if e.Name == "." || e.Name == ".." {
				continue
			}
			if e.Inode.is(TypeDir) {
				i.links++
				if e.Inode.parent == nil {
					e.Inode.parent = i
				}
			}
			if err := p.add(e.Inode); err != nil {
				return err
			}
		}
	}
	return nil
}

// writeOutside writes the full blocks of a directory, or a symbolic link too
// long to lie beside its inode.
func (w *Writer) writeOutside(i *Inode) error {
	i.block = uint32(w.offset() / w.blockSize)
	if i.is(TypeSymlink) {
		if err := w.append([]byte(i.Target)); err != nil {
			return err
		}
		return w.align(w.blockSize)
	}
	var scratch []byte
	for _, entries := range i.blocks[:i.outside(w.blockSize)] {
		scratch = direntBlock(scratch[:0], entries)
		if err := w.append(scratch); err != nil {
			return err
		}
		if err := w.align(w.blockSize); err != nil {
			return err
		}
	}
	return nil
}

func (w *Writer) writeInode(i *Inode, meta int64, number uint32) error {
	at := meta + int64(i.nid<<slotBits)
	// The gap is shorter than a block: what did not fit one, or a slot.
	if err := w.append(zeros[:at-w.offset()]); err != nil {
		return err
	}
	b := i.encode(make([]byte, 0, inodeSize+i.tail), number)
	if i.tail > 0 {
		if i.is(TypeSymlink) {
			b = append(b, i.Target...)
		} else {
			b = direntBlock(b, i.blocks[len(i.blocks)-1])
		}
	}
	return w.append(b)
}
