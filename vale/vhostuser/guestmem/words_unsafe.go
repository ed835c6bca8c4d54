//go:build amd64 || arm64 || riscv64 || loong64 || ppc64le

package guestmem

import (
	"sync/atomic"
	"unsafe"
)

// Words of a ring are little-endian for modern devices (virtio 1.2, 2.7.2),
// and shared with a guest that runs at the same time. These helpers read and
// write them with the ordering that rings need; the build tag above lists the
// little-endian machines. Offsets are trusted: rings check their geometry
// once, when they start.

// view is b[off:off+n:off+n] for bounds that the caller has just checked.
func view(b []byte, off uint64, n uint32) []byte {
	return unsafe.Slice((*byte)(unsafe.Add(unsafe.Pointer(unsafe.SliceData(b)), off)), n)
}

// within says whether addr is the address of a byte of b.
func within(b []byte, addr uintptr) bool {
	return addr-uintptr(unsafe.Pointer(unsafe.SliceData(b))) < uintptr(len(b))
}

// Aligned says whether the first byte of b has an address that is a multiple
// of align, a power of two.
func Aligned(b []byte, align uintptr) bool {
	return uintptr(unsafe.Pointer(unsafe.SliceData(b)))&(align-1) == 0
}

// Load32 reads the word at b[off:] with acquire order. &b[off] must be a
// multiple of 4.
func Load32(b []byte, off int) uint32 {
	return atomic.LoadUint32((*uint32)(unsafe.Pointer(&b[off])))
}

// Store32 writes the word at b[off:]. What was written before is visible
// before it, and later Load32 and Load16 calls read after it. &b[off] must be
// a multiple of 4.
func Store32(b []byte, off int, v uint32) {
	atomic.StoreUint32((*uint32)(unsafe.Pointer(&b[off])), v)
}

// Load16 reads the half word at b[off:] with acquire order. &b[off] must be a
// multiple of 2. It reads the aligned word around the half word, which lies in
// the same page.
func Load16(b []byte, off int) uint16 {
	p := unsafe.Pointer(&b[off])
	half := uintptr(p) & 2
	return uint16(atomic.LoadUint32((*uint32)(unsafe.Add(p, -int(half)))) >> (8 * half))
}

// Store16 writes the half word at b[off:] and nothing beside it, which may be
// the guest's. It orders nothing: call Fence before it to publish what was
// written, after it to read what the guest wrote. &b[off] must be a multiple
// of 2.
func Store16(b []byte, off int, v uint16) {
	*(*uint16)(unsafe.Pointer(&b[off])) = v
}

// Fence keeps memory accesses before it from passing the Load16 and Load32
// calls and the stores after it.
func Fence() {
	var word uint32
	atomic.AddUint32(&word, 1)
}
