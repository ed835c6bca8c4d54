//go:build 386 || amd64 || arm64 || loong64 || ppc64le || riscv64

package virtq

import (
	"structs"
	"unsafe"
)

// desc is struct virtq_desc.
type desc struct {
	_     structs.HostLayout
	addr  uint64
	len   uint32
	flags uint16
	next  uint16
}

// usedElem is struct virtq_used_elem.
type usedElem struct {
	_   structs.HostLayout
	id  uint32
	len uint32
}

const (
	descSize = int(unsafe.Sizeof(desc{}))
	usedSize = int(unsafe.Sizeof(usedElem{}))
)

// descs views a descriptor table of n entries. The caller has checked the
// length and the alignment of b.
func descs(b []byte, n int) []desc {
	return unsafe.Slice((*desc)(unsafe.Pointer(unsafe.SliceData(b))), n)
}

func usedElems(b []byte, n int) []usedElem {
	return unsafe.Slice((*usedElem)(unsafe.Pointer(unsafe.SliceData(b))), n)
}

func words(b []byte, n int) []uint16 {
	return unsafe.Slice((*uint16)(unsafe.Pointer(unsafe.SliceData(b))), n)
}
