package guestmem

import (
	"errors"
	"fmt"
	"math/bits"
	"slices"
)

const (
	// MaxRegions is the most regions one Memory holds. It is what QEMU and
	// libvhost-user agree on for CONFIGURE_MEM_SLOTS.
	MaxRegions = 509
	// MaxTableRegions is the most regions one SET_MEM_TABLE message carries.
	MaxTableRegions = 8
	// MaxBytes bounds the address space one Memory may take from us. Sparse
	// files cost their owner nothing, so without a bound a few guests could
	// use up the address space of the whole process.
	MaxBytes = 4 << 40
)

// Why a memory table was refused. Errors of this package wrap one of them.
var (
	ErrEmpty     = errors.New("region is empty")
	ErrOverflow  = errors.New("range overflows")
	ErrOverlap   = errors.New("regions overlap")
	ErrTooMany   = errors.New("too many regions")
	ErrTooBig    = errors.New("regions are too big")
	ErrNotMemory = errors.New("file cannot be guest memory")
	ErrTruncated = errors.New("file is shorter than the region")
	ErrNoRegion  = errors.New("no such region")
)

// Region is one row of the memory table, as the front end describes it.
type Region struct {
	GuestAddr  uint64 // guest physical address of the first byte
	UserAddr   uint64 // address of the same byte in the front end's process
	Size       uint64 // in bytes
	MmapOffset uint64 // place of the same byte in the file
}

// RegionSpec is a Region with the file that holds it. The caller keeps
// ownership of FD and may close it as soon as the call that takes it returns.
type RegionSpec struct {
	Region
	FD int
}

func (r Region) String() string {
	return fmt.Sprintf("guest %#x+%#x user %#x offset %#x", r.GuestAddr, r.Size, r.UserAddr, r.MmapOffset)
}

// Validate checks one region by itself.
func (r Region) Validate() error {
	if r.Size == 0 {
		return ErrEmpty
	}
	if r.Size > MaxBytes {
		return ErrTooBig
	}
	for _, start := range []uint64{r.GuestAddr, r.UserAddr, r.MmapOffset} {
		if _, carry := bits.Add64(start, r.Size, 0); carry != 0 {
			return ErrOverflow
		}
	}
	// The kernel's file offsets are signed.
	if end := r.MmapOffset + r.Size; end > 1<<62 {
		return ErrOverflow
	}
	return nil
}

// CheckTable checks regions one by one and against each other.
func CheckTable(regions []Region) error {
	if len(regions) > MaxRegions {
		return fmt.Errorf("check memory table of %d regions: %w (at most %d)", len(regions), ErrTooMany, MaxRegions)
	}
	var total uint64
	for i, r := range regions {
		if err := r.Validate(); err != nil {
			return fmt.Errorf("check memory region %d (%v): %w", i, r, err)
		}
		// At most 509 times 4 TiB: this sum cannot overflow.
		total += r.Size
	}
	if total > MaxBytes {
		return fmt.Errorf("check memory table of %d bytes: %w (at most %d)", total, ErrTooBig, uint64(MaxBytes))
	}
	if err := checkOverlap(regions, "guest", func(r Region) uint64 { return r.GuestAddr }); err != nil {
		return err
	}
	return checkOverlap(regions, "user", func(r Region) uint64 { return r.UserAddr })
}

func checkOverlap(regions []Region, space string, start func(Region) uint64) error {
	sorted := slices.SortedFunc(slices.Values(regions), func(a, b Region) int {
		switch x, y := start(a), start(b); {
		case x < y:
			return -1
		case x > y:
			return 1
		}
		return 0
	})
	for i := 1; i < len(sorted); i++ {
		if prev := sorted[i-1]; start(prev)+prev.Size > start(sorted[i]) {
			return fmt.Errorf("check memory table: %w in %s addresses: (%v) and (%v)", ErrOverlap, space, prev, sorted[i])
		}
	}
	return nil
}
