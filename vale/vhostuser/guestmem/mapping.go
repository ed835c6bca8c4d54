package guestmem

import (
	"fmt"
	"os"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// Mapping is one region mapped into this process. Rings keep the Mapping that
// held their last buffer and try it first: see [Mapping.Slice].
type Mapping struct {
	// What Slice reads comes first, in one cache line.
	guest uint64
	size  uint64
	mem   []byte // the region itself, len(mem) == size

	region Region
	whole  []byte // what mmap returned: mem and the slack that alignment costs
	sealed bool
	refs   atomic.Int32
}

// NoMapping holds no address. A ring starts with it so that its fast path
// needs no nil check.
var NoMapping = &Mapping{}

// Region returns the description the mapping was made from.
func (m *Mapping) Region() Region { return m.region }

// ShrinkSealed says whether the kernel keeps the file from being truncated,
// so that touching the mapping cannot fault.
func (m *Mapping) ShrinkSealed() bool { return m.sealed }

// Slice returns the n bytes at guest physical address gpa, or nil and false if
// they do not lie wholly inside this mapping. It inlines into its caller.
func (m *Mapping) Slice(gpa uint64, n uint32) ([]byte, bool) {
	off := gpa - m.guest // wraps to a huge number below the region
	if off >= m.size || uint64(n) > m.size-off {
		return nil, false
	}
	return view(m.mem, off, n), true
}

func mapRegion(spec RegionSpec) (*Mapping, error) {
	file, err := inspect(spec.FD)
	if err != nil {
		return nil, err
	}
	end := spec.MmapOffset + spec.Size
	if end > file.size {
		return nil, fmt.Errorf("%w: it has %d bytes, the region ends at %d", ErrTruncated, file.size, end)
	}
	// Offset and length of a mapping must be multiples of the page size of
	// the file, which for hugetlbfs is the huge page (mmap(2)). A region may
	// begin anywhere.
	start := spec.MmapOffset &^ (file.pageSize - 1)
	length := (end - start + file.pageSize - 1) &^ (file.pageSize - 1)
	whole, err := unix.Mmap(spec.FD, int64(start), int(length),
		unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_NORESERVE)
	if err != nil {
		return nil, fmt.Errorf("mmap: %w", err)
	}
	// A guest's memory has no place in our core dumps. Old kernels may not
	// know the advice, which changes nothing else.
	_ = unix.Madvise(whole, unix.MADV_DONTDUMP)
	slack := spec.MmapOffset - start
	m := &Mapping{
		guest:  spec.GuestAddr,
		size:   spec.Size,
		mem:    whole[slack : slack+spec.Size : slack+spec.Size],
		region: spec.Region,
		whole:  whole,
		sealed: file.shrinkSealed,
	}
	m.refs.Store(1)
	return m, nil
}

// release gives up one reference and unmaps with the last one.
func (m *Mapping) release() error {
	switch refs := m.refs.Add(-1); {
	case refs > 0:
		return nil
	case refs < 0:
		panic("guestmem: mapping released twice")
	}
	if err := unix.Munmap(m.whole); err != nil {
		return fmt.Errorf("unmap memory region (%v): %w", m.region, err)
	}
	return nil
}

var pageSize = uint64(os.Getpagesize())
