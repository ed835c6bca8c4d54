package vhosttest

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/vale-vmnet/vale-vmnet/vale/vhostuser/guestmem"
)

// Guest memory lies here, each region with a hole before it. User addresses
// are names to the back end, so they need not be real.
const (
	guestStart = 0x0010_0000
	userStart  = 0x7f00_0000_0000
	hole       = 0x0020_0000
)

// segment is a piece of guest memory.
type segment struct {
	gpa uint64
	b   []byte
}

// region is one memfd of the guest.
type region struct {
	guestmem.Region
	fd   int
	mem  []byte
	used uint64 // bytes handed out by alloc
}

// memory is the guest's RAM and a bump allocator over it.
type memory struct {
	regions []*region
	end     uint64 // guest address after the last region, as an offset from guestStart
	next    int    // region that alloc tries first
}

// add makes a new region of size bytes. The pages cost nothing until they are
// touched.
func (m *memory) add(size uint64) (*region, error) {
	fd, err := unix.MemfdCreate("vhosttest", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("create guest memory: %w", err)
	}
	if err := unix.Ftruncate(fd, int64(size)); err != nil {
		return nil, errors.Join(fmt.Errorf("size guest memory: %w", err), unix.Close(fd))
	}
	mem, err := unix.Mmap(fd, 0, int(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_NORESERVE)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("map guest memory: %w", err), unix.Close(fd))
	}
	r := &region{fd: fd, mem: mem, Region: guestmem.Region{
		GuestAddr: guestStart + m.end,
		UserAddr:  userStart + m.end,
		Size:      size,
	}}
	m.end += size + hole
	m.regions = append(m.regions, r)
	return r, nil
}

func (m *memory) remove(i int) error {
	r := m.regions[i]
	m.regions = append(m.regions[:i:i], m.regions[i+1:]...)
	return r.close()
}

func (r *region) close() error { return errors.Join(unix.Munmap(r.mem), unix.Close(r.fd)) }

func (m *memory) close() error {
	var errs []error
	for _, r := range m.regions {
		errs = append(errs, r.close())
	}
	m.regions = nil
	return errors.Join(errs...)
}

// alloc hands out n bytes, from each region in turn.
func (m *memory) alloc(n, align uint64) (segment, error) {
	for range m.regions {
		r := m.regions[m.next%len(m.regions)]
		m.next++
		start := (r.used + align - 1) &^ (align - 1)
		if start+n > r.Size {
			continue
		}
		r.used = start + n
		return segment{r.GuestAddr + start, r.mem[start : start+n : start+n]}, nil
	}
	return segment{}, fmt.Errorf("allocate %d bytes of guest memory: none left", n)
}

// slice returns n bytes at a guest address, or nil.
func (m *memory) slice(gpa, n uint64) []byte {
	for _, r := range m.regions {
		if off := gpa - r.GuestAddr; off < r.Size && n <= r.Size-off {
			return r.mem[off : off+n : off+n]
		}
	}
	return nil
}

// userAddr translates a guest address for SET_VRING_ADDR.
func userAddr(gpa uint64) uint64 { return gpa - guestStart + userStart }
