package vhosttest

import (
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vale-vmnet/vale-vmnet/vale/vhostuser/guestmem"
)

// ErrPeer is wrapped by errors that say what the back end did wrong.
var ErrPeer = errors.New("back end broke the rules")

// ErrFull says that a ring has no room for a chain.
var ErrFull = errors.New("ring is full")

// Descriptor flags (virtio 1.2, 2.7.5).
const (
	DescNext     = 1
	DescWrite    = 2
	DescIndirect = 4
)

const (
	availNoInterrupt = 1
	usedNoNotify     = 1
	descSize         = 16
	// maxIndirect is the size of the indirect tables; 64 KiB in 2 KiB pieces
	// and a header fit.
	maxIndirect = 64
)

// Desc is one descriptor.
type Desc struct {
	Addr  uint64
	Len   uint32
	Flags uint16
	Next  uint16
}

// chain is what a head descriptor stands for while the back end has it.
type chain struct {
	busy  bool
	descs []uint16
	segs  []segment
	size  uint32 // of all segs
	write bool
}

// Ring is a split virtqueue as its driver sees it.
type Ring struct {
	Index int // even: the guest receives, odd: it transmits

	size               int
	desc, avail, used  []byte
	descAt, avAt, usAt uint64 // guest addresses

	kick, call, errFD int
	eventIdx          bool
	indirect          bool

	free     []uint16
	chains   []chain
	tables   []segment // indirect table of each head, allocated when needed
	g        *Guest
	availIdx uint16
	lastUsed uint16
	base     uint16 // where the back end begins

	kicks atomic.Uint64
	calls atomic.Uint64
}

func newRing(g *Guest, index int) (*Ring, error) {
	n := g.cfg.RingSize
	r := &Ring{Index: index, size: n, g: g, chains: make([]chain, n), tables: make([]segment, n), kick: -1, call: -1, errFD: -1}
	for i := n - 1; i >= 0; i-- {
		r.free = append(r.free, uint16(i))
	}
	for _, part := range []struct {
		b     *[]byte
		at    *uint64
		bytes int
		align uint64
	}{
		{&r.desc, &r.descAt, descSize * n, 16},
		{&r.avail, &r.avAt, 6 + 2*n, 2},
		{&r.used, &r.usAt, 6 + 8*n, 4},
	} {
		s, err := g.mem.alloc(uint64(part.bytes), max(part.align, 8))
		if err != nil {
			return nil, err
		}
		*part.b, *part.at = s.b, s.gpa
	}
	for _, fd := range []*int{&r.kick, &r.call, &r.errFD} {
		var err error
		if *fd, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
			r.close()
			return nil, fmt.Errorf("create eventfd: %w", err)
		}
	}
	return r, nil
}

func (r *Ring) close() {
	for _, fd := range []*int{&r.kick, &r.call, &r.errFD} {
		if *fd >= 0 {
			unix.Close(*fd)
			*fd = -1
		}
	}
}

// Size is the number of descriptors.
func (r *Ring) Size() int { return r.size }

// Kicks counts notifications to the back end, Calls those from it that were
// waited for.
func (r *Ring) Kicks() uint64 { return r.kicks.Load() }

// Calls counts the back end's notifications that ended a wait.
func (r *Ring) Calls() uint64 { return r.calls.Load() }

// InFlight counts the chains that the back end has.
func (r *Ring) InFlight() int { return int(r.availIdx - r.lastUsed) }

// add makes a chain of segs and puts it into the available ring, not yet
// published.
func (r *Ring) add(segs []segment, write bool) error {
	var flags uint16
	c := chain{busy: true, segs: segs, write: write}
	if write {
		flags = DescWrite
	}
	for _, s := range segs {
		c.size += uint32(len(s.b))
	}
	if r.indirect && len(segs) > 1 && len(segs) <= maxIndirect {
		if len(r.free) < 1 {
			return ErrFull
		}
		head := r.takeFree()
		if r.tables[head].b == nil {
			table, err := r.g.mem.alloc(maxIndirect*descSize, 16)
			if err != nil {
				return err
			}
			r.tables[head] = table
		}
		for i, s := range segs {
			d := Desc{Addr: s.gpa, Len: uint32(len(s.b)), Flags: flags}
			if i+1 < len(segs) {
				d.Flags, d.Next = d.Flags|DescNext, uint16(i+1)
			}
			putDesc(r.tables[head].b, i, d)
		}
		r.SetDesc(int(head), Desc{Addr: r.tables[head].gpa, Len: uint32(len(segs) * descSize), Flags: DescIndirect})
		c.descs = []uint16{head}
	} else {
		if len(r.free) < len(segs) {
			return ErrFull
		}
		for range segs {
			c.descs = append(c.descs, r.takeFree())
		}
		for i, s := range segs {
			d := Desc{Addr: s.gpa, Len: uint32(len(s.b)), Flags: flags}
			if i+1 < len(segs) {
				d.Flags, d.Next = d.Flags|DescNext, c.descs[i+1]
			}
			r.SetDesc(int(c.descs[i]), d)
		}
	}
	head := c.descs[0]
	r.chains[head] = c
	r.SetAvail(int(r.availIdx), head)
	r.availIdx++
	return nil
}

func (r *Ring) takeFree() uint16 {
	i := r.free[len(r.free)-1]
	r.free = r.free[:len(r.free)-1]
	return i
}

// publish shows the back end everything added since old and kicks it if it
// wants that (virtio 1.2, 2.7.13.4).
func (r *Ring) publish(old uint16) error {
	guestmem.Fence()
	r.SetAvailIdx(r.availIdx)
	guestmem.Fence()
	if r.eventIdx {
		event := guestmem.Load16(r.used, 4+8*r.size)
		if r.availIdx-event-1 >= r.availIdx-old {
			return nil
		}
	} else if guestmem.Load16(r.used, 0)&usedNoNotify != 0 {
		return nil
	}
	return r.Kick()
}

// Kick notifies the back end.
func (r *Ring) Kick() error {
	r.kicks.Add(1)
	if _, err := unix.Write(r.kick, []byte{1, 0, 0, 0, 0, 0, 0, 0}); err != nil && !errors.Is(err, unix.EAGAIN) {
		return fmt.Errorf("kick ring %d: %w", r.Index, err)
	}
	return nil
}

// reap takes one completion; ok is false when there is none.
func (r *Ring) reap() (c chain, n uint32, ok bool, err error) {
	idx := r.UsedIdx()
	if idx == r.lastUsed {
		return chain{}, 0, false, nil
	}
	if ready := idx - r.lastUsed; int(ready) > r.InFlight() {
		return chain{}, 0, false, fmt.Errorf("ring %d: %w: %d completions for %d chains", r.Index, ErrPeer, ready, r.InFlight())
	}
	slot := 4 + 8*(int(r.lastUsed)&(r.size-1))
	head, n := guestmem.Load32(r.used, slot), guestmem.Load32(r.used, slot+4)
	if int(head) >= r.size || !r.chains[head].busy {
		return chain{}, 0, false, fmt.Errorf("ring %d: %w: completes chain %d, which is not in flight", r.Index, ErrPeer, head)
	}
	c = r.chains[head]
	if limit := c.size; (c.write && n > limit) || (!c.write && n != 0) {
		return chain{}, 0, false, fmt.Errorf("ring %d: %w: wrote %d bytes into a chain with room for %d", r.Index, ErrPeer, n, limit)
	}
	r.chains[head] = chain{}
	r.free = append(r.free, c.descs...)
	r.lastUsed++
	return c, n, true, nil
}

// wait returns when a completion is there, the back end is gone (ErrPeer), or
// the time is over (os.ErrDeadlineExceeded).
func (r *Ring) wait(limit time.Duration) error {
	end := time.Now().Add(limit)
	defer r.setInterrupts(false)
	for {
		r.setInterrupts(true)
		if r.UsedIdx() != r.lastUsed {
			return nil
		}
		left := time.Until(end)
		if left <= 0 {
			return fmt.Errorf("wait for ring %d: %w", r.Index, os.ErrDeadlineExceeded)
		}
		fds := []unix.PollFd{{Fd: int32(r.call), Events: unix.POLLIN}, {Fd: int32(r.errFD), Events: unix.POLLIN}}
		_, err := unix.Poll(fds, int(left/time.Millisecond)+1)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("wait for ring %d: %w", r.Index, err)
		}
		if fds[1].Revents != 0 {
			return fmt.Errorf("ring %d: %w: it signals an error", r.Index, ErrPeer)
		}
		if fds[0].Revents != 0 {
			var b [8]byte
			_, _ = unix.Read(r.call, b[:])
			r.calls.Add(1)
		}
	}
}

// setInterrupts asks for a notification at the next completion, or for none.
func (r *Ring) setInterrupts(on bool) {
	switch {
	case r.eventIdx && on:
		guestmem.Store16(r.avail, 4+2*r.size, r.lastUsed)
	case r.eventIdx:
		// The event that is furthest away: half the index space back.
		guestmem.Store16(r.avail, 4+2*r.size, r.lastUsed-1)
	case on:
		guestmem.Store16(r.avail, 0, 0)
	default:
		guestmem.Store16(r.avail, 0, availNoInterrupt)
	}
	guestmem.Fence()
}
