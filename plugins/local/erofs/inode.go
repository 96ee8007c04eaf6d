package erofs

import (
	"fmt"
	"slices"
	"strings"
)

// Inode is one file, directory or other object of an image. An inode that is
// named by several entries is a hard link; a directory has one name.
type Inode struct {
	// Mode holds the type and the twelve permission bits.
	Mode uint32
	UID  uint32
	GID  uint32
	// Seconds and Nanoseconds are the modification time since 1970.
	Seconds     int64
	Nanoseconds uint32
	// Device is the number of a device node; see the function Device.
	Device uint32
	// Target is what a symbolic link points to.
	Target string
	// Data is the content of a regular file.
	Data Extent
	// Entries are the children of a directory, in any order.
	Entries []Entry

	nid    uint64
	links  uint32
	layout uint8
	parent *Inode
	// blocks are the directory's entries, "." and ".." among them, as they are
	// spread over blocks.
	blocks  [][]Entry
	dirSize int64
	// tail is how many bytes follow the inode in the metadata area.
	tail int64
	// block is where what is kept out of the inode starts, unless Data says it.
	block uint32
}

// Entry names an inode in a directory.
type Entry struct {
	Name  string
	Inode *Inode
}

// Extent is the place of a regular file's content; the zero value is an empty
// file.
type Extent struct {
	Block uint32
	Size  int64
}

func (i *Inode) is(fileType uint32) bool { return i.Mode&TypeMask == fileType }

func (i *Inode) size() int64 {
	switch i.Mode & TypeMask {
	case TypeRegular:
		return i.Data.Size
	case TypeDir:
		return i.dirSize
	case TypeSymlink:
		return int64(len(i.Target))
	}
	return 0
}

// address is the union in the inode: a block or a device number.
func (i *Inode) address() uint32 {
	switch i.Mode & TypeMask {
	case TypeRegular:
		return i.Data.Block
	case TypeCharDev, TypeBlockDev:
		return i.Device
	}
	return i.block
}

// outside is how many blocks of a directory or symbolic link lie outside the
// metadata area.
func (i *Inode) outside(blockSize int64) int64 {
	if i.is(TypeRegular) {
		return 0
	}
	return (i.size() - i.tail + blockSize - 1) / blockSize
}

// prepare checks one inode and settles its size and layout.
func (i *Inode) prepare(blockSize int64) error {
	if direntType(i.Mode) == 0 || i.Mode&^(TypeMask|permissionsOf) != 0 {
		return fmt.Errorf("mode %#o is not a file type with permissions", i.Mode)
	}
	i.layout, i.tail = layoutPlain, 0
	switch i.Mode & TypeMask {
	case TypeSymlink:
		if n := len(i.Target); n == 0 || n > MaxTarget {
			return fmt.Errorf("symbolic link target of %d bytes: it must have 1 to %d", n, MaxTarget)
		}
	case TypeDir:
		if err := i.spread(blockSize); err != nil {
			return err
		}
	default:
		return nil
	}
	if tail := i.size() % blockSize; tail != 0 && tail <= blockSize-inodeSize {
		i.layout, i.tail = layoutInline, tail
	}
	return nil
}

// spread sorts the entries and cuts them into blocks. The order is that of the
// bytes, over the whole directory: readers search it by halves.
func (i *Inode) spread(blockSize int64) error {
	all := make([]Entry, 0, len(i.Entries)+2)
	all = append(all, i.Entries...)
	all = append(all, Entry{".", i}, Entry{"..", i.parent})
	slices.SortFunc(all, func(a, b Entry) int { return strings.Compare(a.Name, b.Name) })
	start, used := 0, int64(0)
	i.blocks = i.blocks[:0]
	for n, e := range all {
		if err := checkName(e.Name); err != nil {
			return err
		}
		if n > 0 && all[n-1].Name == e.Name {
			return fmt.Errorf("name %q appears twice in a directory", e.Name)
		}
		need := int64(direntSize + len(e.Name))
		if used+need > blockSize {
			if last := all[n-1].Name; blockSize-used+int64(len(last)) > MaxName {
				return &Crowded{Name: last}
			}
			i.blocks = append(i.blocks, all[start:n])
			start, used = n, 0
		}
		used += need
	}
	i.dirSize = int64(len(i.blocks))*blockSize + used
	i.blocks = append(i.blocks, all[start:])
	return nil
}

// Crowded says that a directory cannot be written in a way that gVisor reads.
// Its reader takes the padding behind the last name of a block for a part of
// the name when it checks the length, so a block that ends in a long name and
// then has room for no other long name looks corrupt to it. That takes a
// directory of more than one block with names of about 120 bytes; larger blocks
// make it as good as impossible.
type Crowded struct {
	// Name is the last name of the block.
	Name string
}

func (e *Crowded) Error() string {
	return fmt.Sprintf("directory has too many names as long as %q", e.Name)
}

func checkName(name string) error {
	if name == "" || len(name) > MaxName || strings.ContainsAny(name, "/\x00") {
		return fmt.Errorf("name %q: it must have 1 to %d bytes, none of them a slash or zero", name, MaxName)
	}
	return nil
}
