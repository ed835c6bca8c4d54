package vhostuser

import (
	"golang.org/x/sys/unix"

	"github.com/vale-vmnet/vale-vmnet/vale/poll"
	"github.com/vale-vmnet/vale-vmnet/vale/vhostuser/guestmem"
	"github.com/vale-vmnet/vale-vmnet/vale/vhostuser/vhostproto"
	"github.com/vale-vmnet/vale-vmnet/vale/vhostuser/virtq"
)

// vring is one ring of a session: even indices are the guest's receive queues,
// odd ones its transmit queues (virtio 5.1.2). Only the session's goroutine
// changes it; the queue inside has a lock of its own.
//
// A ring is started by its kick and stopped by GET_VRING_BASE; it moves frames
// while it is also enabled.
type vring struct {
	size    int
	base    uint16
	addr    ringAddr
	hasAddr bool

	kick, call, err int  // eventfds; -1: none
	started         bool // the front end sent a kick, or asked to be polled
	enabled         bool

	queue  virtq.Queue
	handle *poll.Handle // transmit queue at its worker, while it runs
	runs   bool
}

// ringAddr is where a ring lies, in the front end's address space.
type ringAddr struct{ desc, avail, used uint64 }

func newVring() *vring { return &vring{kick: -1, call: -1, err: -1} }

// replaceFD closes the eventfd in place and puts another there.
func replaceFD(place *int, fd int) {
	if *place >= 0 {
		unix.Close(*place)
	}
	*place = fd
}

// closeFDs closes the ring's eventfds. The queue must be stopped.
func (v *vring) closeFDs() {
	replaceFD(&v.kick, -1)
	replaceFD(&v.call, -1)
	replaceFD(&v.err, -1)
}

// complete says that the front end has told all that a ring needs to run.
func (v *vring) complete() bool { return v.started && v.enabled && v.hasAddr && v.size > 0 }

// config finds the ring in memory.
func (v *vring) config(mem *guestmem.Memory, f vhostproto.Features) virtq.Config {
	nd, na, nu := virtq.Sizes(v.size)
	return virtq.Config{
		Size:      v.size,
		Desc:      mem.UserSlice(v.addr.desc, uint32(nd)),
		Avail:     mem.UserSlice(v.addr.avail, uint32(na)),
		Used:      mem.UserSlice(v.addr.used, uint32(nu)),
		Mem:       mem,
		Base:      v.base,
		EventIdx:  f.Has(vhostproto.FRingEventIdx),
		Indirect:  f.Has(vhostproto.FRingIndirectDesc),
		Mergeable: f.Has(vhostproto.NetFMrgRxbuf),
		HdrLen:    hdrLen(f),
		Call:      v.call,
	}
}
