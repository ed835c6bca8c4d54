package vhosttest

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/vale-vmnet/vale-vmnet/vale/vhostuser/guestmem"
)

// Raw access, with which a test writes what no honest guest would. None of it
// is checked, and the bookkeeping of the ring does not follow.

// SetDesc writes descriptor i of the table.
func (r *Ring) SetDesc(i int, d Desc) { putDesc(r.desc, i, d) }

func putDesc(table []byte, i int, d Desc) {
	b := table[i*descSize : (i+1)*descSize]
	binary.LittleEndian.PutUint64(b, d.Addr)
	binary.LittleEndian.PutUint32(b[8:], d.Len)
	binary.LittleEndian.PutUint16(b[12:], d.Flags)
	binary.LittleEndian.PutUint16(b[14:], d.Next)
}

// Desc reads descriptor i of the table.
func (r *Ring) Desc(i int) Desc {
	b := r.desc[i*descSize : (i+1)*descSize]
	return Desc{
		Addr:  binary.LittleEndian.Uint64(b),
		Len:   binary.LittleEndian.Uint32(b[8:]),
		Flags: binary.LittleEndian.Uint16(b[12:]),
		Next:  binary.LittleEndian.Uint16(b[14:]),
	}
}

// SetAvail writes the entry of the available ring for index i, modulo size.
func (r *Ring) SetAvail(i int, head uint16) {
	guestmem.Store16(r.avail, 4+2*(i&(r.size-1)), head)
}

// Avail reads the entry of the available ring for index i, modulo size.
func (r *Ring) Avail(i int) uint16 { return guestmem.Load16(r.avail, 4+2*(i&(r.size-1))) }

// AvailIdx is the available index that the driver would publish next.
func (r *Ring) AvailIdx() uint16 { return r.availIdx }

// SetAvailIdx publishes any available index.
func (r *Ring) SetAvailIdx(v uint16) { guestmem.Store16(r.avail, 2, v) }

// UsedIdx reads the back end's used index.
func (r *Ring) UsedIdx() uint16 { return guestmem.Load16(r.used, 2) }

// Offer publishes one chain that begins at head, whatever head may be, and
// kicks.
func (r *Ring) Offer(head uint16) error {
	r.SetAvail(int(r.availIdx), head)
	guestmem.Fence()
	r.SetAvailIdx(r.availIdx + 1)
	return r.Kick()
}

// Table allocates memory in the guest for an indirect table or for anything
// else, filled with descs, and returns its guest address.
func (g *Guest) Table(descs ...Desc) (uint64, error) {
	s, err := g.mem.alloc(uint64(max(1, len(descs))*descSize), 16)
	if err != nil {
		return 0, err
	}
	for i, d := range descs {
		putDesc(s.b, i, d)
	}
	return s.gpa, nil
}

// Alloc allocates n bytes of guest memory.
func (g *Guest) Alloc(n int) (gpa uint64, b []byte, err error) {
	s, err := g.mem.alloc(uint64(n), 16)
	return s.gpa, s.b, err
}

// Memory returns n bytes at a guest address, or nil.
func (g *Guest) Memory(gpa uint64, n int) []byte { return g.mem.slice(gpa, uint64(n)) }

// Truncate cuts the file of memory region i under everybody's feet. This side
// must not touch it beyond size any more, so the Guest is only good for Close.
func (g *Guest) Truncate(i int, size int64) error {
	if err := unix.Ftruncate(g.mem.regions[i].fd, size); err != nil {
		return fmt.Errorf("truncate guest memory: %w", err)
	}
	return nil
}

// CallFD and KickFD are the ring's eventfds, for a front end that plays with
// them.
func (r *Ring) CallFD() int { return r.call }

// ErrFD is the eventfd that the back end writes when the ring is broken.
func (r *Ring) ErrFD() int { return r.errFD }

// KickFD is the eventfd that the driver writes.
func (r *Ring) KickFD() int { return r.kick }
