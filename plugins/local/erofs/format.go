package erofs

import (
	"encoding/binary"
	"hash/crc32"
	"math/bits"
)

const (
	// BlockSize is the usual size of a block; gVisor demands a multiple of the
	// page size.
	BlockSize = 4 << 10
	// LargeBlockSize is for what does not work with BlockSize; see Crowded.
	LargeBlockSize = 64 << 10

	superMagic  = 0xe0f5e1e2
	superOffset = 1024
	superSize   = 128

	// An inode number is its offset in the metadata area in slots of 32 bytes.
	slotBits  = 5
	inodeSize = 64
	// rootNid leaves the first inode's place empty: number 0 would make readdir
	// report inode 0, which C libraries take for a deleted entry.
	rootNid = inodeSize >> slotBits

	direntSize = 12

	// compatChecksum and compatMtime are features an old reader may ignore: the
	// superblock has a checksum, times are modification times.
	compatChecksum = 0x1
	compatMtime    = 0x2

	layoutPlain  = 0
	layoutInline = 2
	// extendedInode is the format bit of the 64-byte inode.
	extendedInode = 1
)

// Limits of the format, of Linux and of gVisor's reader.
const (
	// MaxName is the longest name of a directory entry in bytes.
	MaxName = 255
	// MaxTarget is the longest target of a symbolic link in bytes.
	MaxTarget = 4095
	// maxBlocks is what a 32-bit block address reaches: 16 TiB.
	maxBlocks = 1<<32 - 1
)

// File types, the upper bits of Inode.Mode.
const (
	TypeMask      = 0o170000
	TypeFIFO      = 0o010000
	TypeCharDev   = 0o020000
	TypeDir       = 0o040000
	TypeBlockDev  = 0o060000
	TypeRegular   = 0o100000
	TypeSymlink   = 0o120000
	TypeSocket    = 0o140000
	permissionsOf = 0o7777
)

// direntType returns the type byte of a directory entry.
func direntType(mode uint32) byte {
	switch mode & TypeMask {
	case TypeRegular:
		return 1
	case TypeDir:
		return 2
	case TypeCharDev:
		return 3
	case TypeBlockDev:
		return 4
	case TypeFIFO:
		return 5
	case TypeSocket:
		return 6
	case TypeSymlink:
		return 7
	}
	return 0
}

// Device returns the on-disk form of a device number.
func Device(major, minor uint32) uint32 {
	return minor&0xff | major<<8 | (minor&^0xff)<<12
}

// superblock fills the first block of an image.
func superblock(blockSize int64, inodes uint64, blocks, metaBlock uint32) []byte {
	block := make([]byte, blockSize)
	b, le := block[superOffset:], binary.LittleEndian
	le.PutUint32(b[0:], superMagic)
	le.PutUint32(b[8:], compatChecksum|compatMtime)
	b[12] = byte(bits.TrailingZeros64(uint64(blockSize)))
	le.PutUint16(b[14:], rootNid)
	le.PutUint64(b[16:], inodes)
	le.PutUint32(b[36:], blocks)
	le.PutUint32(b[40:], metaBlock)
	// The checksum covers the block from the superblock on, with its own field
	// zero, and is not inverted at the end.
	sum := ^crc32.Checksum(b[:blockSize-superOffset], crc32.MakeTable(crc32.Castagnoli))
	le.PutUint32(b[4:], sum)
	return block
}

// encode appends the 64-byte inode.
func (i *Inode) encode(b []byte, ino uint32) []byte {
	le := binary.LittleEndian
	b = le.AppendUint16(b, extendedInode|uint16(i.layout)<<1)
	b = le.AppendUint16(b, 0) // no extended attributes
	b = le.AppendUint16(b, uint16(i.Mode))
	b = le.AppendUint16(b, 0)
	b = le.AppendUint64(b, uint64(i.size()))
	b = le.AppendUint32(b, i.address())
	b = le.AppendUint32(b, ino)
	b = le.AppendUint32(b, i.UID)
	b = le.AppendUint32(b, i.GID)
	b = le.AppendUint64(b, uint64(i.Seconds))
	b = le.AppendUint32(b, i.Nanoseconds)
	b = le.AppendUint32(b, i.links)
	return append(b, make([]byte, 16)...)
}

// direntBlock appends one block of entries without its padding. All entries of
// a block come first, then all names.
func direntBlock(b []byte, entries []Entry) []byte {
	le := binary.LittleEndian
	nameOff := len(entries) * direntSize
	for _, e := range entries {
		b = le.AppendUint64(b, e.Inode.nid)
		b = le.AppendUint16(b, uint16(nameOff))
		b = append(b, direntType(e.Inode.Mode), 0)
		nameOff += len(e.Name)
	}
	for _, e := range entries {
		b = append(b, e.Name...)
	}
	return b
}
