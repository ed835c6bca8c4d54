package guestmem

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
)

// Memory is an immutable set of mapped regions. Its methods may be called
// from any thread until Close.
type Memory struct {
	byGuest []*Mapping // ascending guest addresses
	byUser  []*Mapping // ascending user addresses
}

// Map checks the whole table, then maps every region. On error nothing stays
// mapped. The caller closes the result, and keeps the file descriptors.
func Map(specs []RegionSpec) (*Memory, error) {
	regions := make([]Region, len(specs))
	for i, s := range specs {
		regions[i] = s.Region
	}
	if err := CheckTable(regions); err != nil {
		return nil, err
	}
	maps := make([]*Mapping, 0, len(specs))
	for i, s := range specs {
		m, err := mapRegion(s)
		if err != nil {
			err = fmt.Errorf("map memory region %d (%v): %w", i, s.Region, err)
			return nil, errors.Join(err, releaseAll(maps))
		}
		maps = append(maps, m)
	}
	return newMemory(maps), nil
}

func newMemory(maps []*Mapping) *Memory {
	return &Memory{
		byGuest: slices.SortedFunc(slices.Values(maps), func(a, b *Mapping) int {
			return cmp.Compare(a.region.GuestAddr, b.region.GuestAddr)
		}),
		byUser: slices.SortedFunc(slices.Values(maps), func(a, b *Mapping) int {
			return cmp.Compare(a.region.UserAddr, b.region.UserAddr)
		}),
	}
}

// Add returns a new Memory with one more region (ADD_MEM_REG). Both Memories
// must be closed.
func (m *Memory) Add(spec RegionSpec) (*Memory, error) {
	if err := CheckTable(append(m.Regions(), spec.Region)); err != nil {
		return nil, err
	}
	added, err := mapRegion(spec)
	if err != nil {
		return nil, fmt.Errorf("map memory region (%v): %w", spec.Region, err)
	}
	return newMemory(append(m.share(), added)), nil
}

// Remove returns a new Memory without the region that has the guest address,
// user address and size of r (REM_MEM_REG; the specification names these
// three as its key). Both Memories must be closed.
func (m *Memory) Remove(r Region) (*Memory, error) {
	i := slices.IndexFunc(m.byGuest, func(have *Mapping) bool {
		return have.region.GuestAddr == r.GuestAddr && have.region.UserAddr == r.UserAddr && have.region.Size == r.Size
	})
	if i < 0 {
		return nil, fmt.Errorf("remove memory region (%v): %w", r, ErrNoRegion)
	}
	kept := slices.Delete(slices.Clone(m.byGuest), i, i+1)
	for _, k := range kept {
		k.refs.Add(1)
	}
	return newMemory(kept), nil
}

// share returns the mappings with one more reference each.
func (m *Memory) share() []*Mapping {
	for _, s := range m.byGuest {
		s.refs.Add(1)
	}
	return slices.Clone(m.byGuest)
}

// Close gives the mappings up. No slice of this Memory may be touched after
// that, unless another Memory shares the mapping. A second Close does nothing.
func (m *Memory) Close() error {
	maps := m.byGuest
	m.byGuest, m.byUser = nil, nil
	return releaseAll(maps)
}

func releaseAll(maps []*Mapping) error {
	var errs []error
	for _, r := range maps {
		errs = append(errs, r.release())
	}
	return errors.Join(errs...)
}

// Regions lists the regions by ascending guest address.
func (m *Memory) Regions() []Region {
	regions := make([]Region, len(m.byGuest), len(m.byGuest)+1)
	for i, r := range m.byGuest {
		regions[i] = r.region
	}
	return regions
}

// Bytes is the sum of all region sizes.
func (m *Memory) Bytes() uint64 {
	var n uint64
	for _, r := range m.byGuest {
		n += r.size
	}
	return n
}

// ShrinkSealed says whether no page of this memory can go away while it is
// mapped: all files are sealed against truncation.
func (m *Memory) ShrinkSealed() bool {
	return !slices.ContainsFunc(m.byGuest, func(r *Mapping) bool { return !r.sealed })
}

// Find returns the mapping that holds all n bytes at guest physical address
// gpa, or nil. It is for the fast path of a ring that misses:
//
//	b, ok := hit.Slice(gpa, n)
//	if !ok {
//		if hit = mem.Find(gpa, n); hit == nil { ... }
//		b, _ = hit.Slice(gpa, n)
//	}
func (m *Memory) Find(gpa uint64, n uint32) *Mapping {
	r := m.at(gpa)
	if r == nil || uint64(n) > r.size-(gpa-r.guest) {
		return nil
	}
	return r
}

// at returns the mapping that holds the byte at gpa, or nil.
func (m *Memory) at(gpa uint64) *Mapping {
	lo, hi := 0, len(m.byGuest)
	for lo < hi {
		mid := int(uint(lo+hi) / 2)
		switch r := m.byGuest[mid]; {
		case gpa < r.guest:
			hi = mid
		case gpa-r.guest >= r.size:
			lo = mid + 1
		default:
			return r
		}
	}
	return nil
}

// Slice returns the n bytes at guest physical address gpa, or nil if no
// single region holds them all.
func (m *Memory) Slice(gpa uint64, n uint32) []byte {
	r := m.at(gpa)
	if r == nil {
		return nil
	}
	b, _ := r.Slice(gpa, n)
	return b
}

// Prefix returns as many of the n bytes at gpa as one region holds, or nil.
// A buffer that runs from one region into its neighbour, as hot-plugged memory
// makes possible, is walked by asking again for the rest.
func (m *Memory) Prefix(gpa uint64, n uint32) []byte {
	r := m.at(gpa)
	if r == nil {
		return nil
	}
	b, _ := r.Slice(gpa, uint32(min(uint64(n), r.size-(gpa-r.guest))))
	return b
}

// UserSlice returns the n bytes at a front-end user address, or nil if no
// single region holds them all. SET_VRING_ADDR gives such addresses.
func (m *Memory) UserSlice(addr uint64, n uint32) []byte {
	i, found := slices.BinarySearchFunc(m.byUser, addr, func(r *Mapping, addr uint64) int {
		return cmp.Compare(r.region.UserAddr, addr)
	})
	if !found {
		i--
	}
	if i < 0 {
		return nil
	}
	r := m.byUser[i]
	// Same offset in both address spaces.
	off := addr - r.region.UserAddr
	if off >= r.size {
		return nil
	}
	b, _ := r.Slice(r.guest+off, n)
	return b
}

// Owns says whether addr, the address of a recovered fault in this process,
// lies in this memory.
func (m *Memory) Owns(addr uintptr) bool {
	return slices.ContainsFunc(m.byGuest, func(r *Mapping) bool { return within(r.whole, addr) })
}
