package vhostuser

import (
	"strconv"
	"sync/atomic"

	"github.com/vale-vmnet/vale-vmnet/vale"
	"github.com/vale-vmnet/vale-vmnet/vale/vhostuser/virtq"
)

// link is a session as the switch sees it.
type link struct {
	s *session
	// receivers are the guest's running receive queues; replaced as a whole.
	receivers atomic.Pointer[[]*virtq.Queue]
	info      atomic.Pointer[vale.LinkInfo]
}

// Deliver implements vale.Link. A frame goes to the receive queue with the
// number of the transmit queue that it came from, as virtio asks of a device
// (section 5.1.6.5.5: the queues of a flow match), modulo their number.
func (l *link) Deliver(b *vale.Batch, list []uint16, t *vale.Tally) {
	queues := l.receivers.Load()
	if queues == nil || len(*queues) == 0 {
		t.Drop(vale.DropLinkDown, len(list))
		return
	}
	q := (*queues)[uint(b.Queue)%uint(len(*queues))]
	if !q.Deliver(b, list, t) {
		t.Drop(vale.DropLinkDown, len(list))
	}
}

// Info implements vale.Link.
func (l *link) Info() vale.LinkInfo {
	if info := l.info.Load(); info != nil {
		return *info
	}
	return vale.LinkInfo{Kind: Kind}
}

// Close implements vale.Link: it ends the session.
func (l *link) Close() error {
	l.s.end(errDeleted)
	return nil
}

// source is a transmit queue as a worker sees it.
type source struct {
	s    *session
	ring *vring
	pair int
}

// Poll implements poll.Source.
func (t *source) Poll(b *vale.Batch) int {
	b.Queue = t.pair
	return t.ring.queue.Forward(b, t.s.port)
}

// Arm implements poll.Source.
func (t *source) Arm() bool { return t.ring.queue.Arm() }

// Disarm implements poll.Source.
func (t *source) Disarm() { t.ring.queue.Disarm() }

// KickFD implements poll.Source.
func (t *source) KickFD() int { return t.ring.kick }

// Fault implements poll.Source: the guest took its memory away, or broke this
// program. Either way the session ends and the switch goes on.
func (t *source) Fault(v any, stack []byte) {
	if fault, ok := v.(interface{ Addr() uintptr }); ok && t.ring.queue.Owns(fault.Addr()) {
		t.ring.queue.Fail("guest memory went away")
		return
	}
	t.s.log.Error("forwarding panicked", "queue", strconv.Itoa(t.pair), "panic", v, "stack", string(stack))
	t.ring.queue.Fail("internal error")
}
