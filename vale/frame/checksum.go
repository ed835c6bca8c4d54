package frame

import (
	"encoding/binary"
	"math/bits"
)

// Sum is the one's complement sum of b as big endian 16-bit words (RFC 1071),
// an odd last byte padded with zero. It is not inverted: sums of neighbouring
// parts combine with Add, as long as every part but the last has even length.
//
// One's complement addition does not care about byte order (RFC 1071, 2.B), nor
// about word size as long as carries come back in at the bottom. So b is added
// as little endian 64-bit words with add-with-carry, then folded and swapped.
func Sum(b []byte) uint16 {
	var s, c uint64
	for len(b) >= 64 {
		w := (*[64]byte)(b)
		s, c = bits.Add64(s, binary.LittleEndian.Uint64(w[0:]), c)
		s, c = bits.Add64(s, binary.LittleEndian.Uint64(w[8:]), c)
		s, c = bits.Add64(s, binary.LittleEndian.Uint64(w[16:]), c)
		s, c = bits.Add64(s, binary.LittleEndian.Uint64(w[24:]), c)
		s, c = bits.Add64(s, binary.LittleEndian.Uint64(w[32:]), c)
		s, c = bits.Add64(s, binary.LittleEndian.Uint64(w[40:]), c)
		s, c = bits.Add64(s, binary.LittleEndian.Uint64(w[48:]), c)
		s, c = bits.Add64(s, binary.LittleEndian.Uint64(w[56:]), c)
		b = b[64:]
	}
	for len(b) >= 8 {
		s, c = bits.Add64(s, binary.LittleEndian.Uint64(b), c)
		b = b[8:]
	}
	// The tail's zero padding is at the end, which is the top when little endian.
	var tail uint64
	if len(b) >= 4 {
		tail = uint64(binary.LittleEndian.Uint32(b))
		b = b[4:]
		tail = bits.RotateLeft64(tail, 32)
	}
	switch len(b) {
	case 3:
		tail |= uint64(b[0]) | uint64(b[1])<<8 | uint64(b[2])<<16
	case 2:
		tail |= uint64(b[0]) | uint64(b[1])<<8
	case 1:
		tail |= uint64(b[0])
	}
	s, c = bits.Add64(s, tail, c)
	// With a tail under 2^56 a carry leaves s small: adding it cannot carry again.
	return bits.ReverseBytes16(fold(s + c))
}

// fold brings a one's complement sum of 64 bits down to 16.
func fold(s uint64) uint16 {
	s = s>>32 + s&0xffffffff
	s = s>>32 + s&0xffffffff
	s = s>>16 + s&0xffff
	s = s>>16 + s&0xffff
	return uint16(s)
}

// Add is the one's complement sum of a and b.
func Add(a, b uint16) uint16 {
	s := uint32(a) + uint32(b)
	return uint16(s>>16 + s)
}

// Checksum is the Internet checksum of b: the value for a checksum field that
// was zero in b.
func Checksum(b []byte) uint16 {
	return ^Sum(b)
}
