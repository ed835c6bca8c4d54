package vale

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"sync/atomic"

	"github.com/vale-vmnet/vale-vmnet/vale/frame"
)

// ErrClosed is returned by a Client after Close, or after its port was deleted.
var ErrClosed = errors.New("client is closed")

// ClientConfig shapes the receive ring of a Client. Zero fields take the
// defaults.
type ClientConfig struct {
	Info     LinkInfo       // shown to observers; Kind defaults to "in-process"
	Slots    int            // frames the ring holds, a power of two, 1024
	Bytes    int            // bytes the ring holds, a power of two, 2048 a slot
	Offloads frame.Offloads // what Recv accepts besides plain frames
}

// Client is the link of a Go program: it sends batches into the switch and
// receives what the switch delivers to its port. Any number of goroutines may
// send, each with a Batch of its own; one goroutine receives.
type Client struct {
	port *Port
	cfg  ClientConfig

	closed  atomic.Bool
	waiting atomic.Bool
	wake    chan struct{}

	// The receive ring. Senders to this port write under mu and publish
	// prod; the receiver gives slots back by cons. Frames lie one after
	// the other in data, each on a cache line boundary and never wrapped.
	cons atomic.Uint32
	read uint32 // slots handed out by Recv, given back by the next call
	_    [64]byte

	prod atomic.Uint32
	mu   sync.Mutex
	pos  uint64 // where the next frame goes, counted without wrapping
	ring []clientSlot
	data []byte
}

type clientSlot struct {
	end uint64 // pos after this frame
	off uint32
	len uint32
	hdr frame.VnetHdr
}

// Connect plugs an in-process client into the port. It fails with ErrBusy when
// the port has a link.
func (p *Port) Connect(cfg ClientConfig) (*Client, error) {
	if cfg.Info.Kind == "" {
		cfg.Info.Kind = "in-process"
	}
	if cfg.Slots == 0 {
		cfg.Slots = 1024
	}
	if cfg.Bytes == 0 {
		cfg.Bytes = 2048 * cfg.Slots
	}
	if cfg.Slots&(cfg.Slots-1) != 0 || cfg.Bytes&(cfg.Bytes-1) != 0 || cfg.Slots < 1 || cfg.Bytes < 64 || cfg.Bytes > 1<<31 {
		return nil, fmt.Errorf("connect to %s: %d slots and %d bytes: both must be powers of two, the bytes from 64 to 2^31", p.name, cfg.Slots, cfg.Bytes)
	}
	c := &Client{
		port: p,
		cfg:  cfg,
		wake: make(chan struct{}, 1),
		ring: make([]clientSlot, cfg.Slots),
		data: make([]byte, cfg.Bytes),
	}
	if err := p.Attach(c); err != nil {
		return nil, err
	}
	p.SetLinkState(c, LinkState{Ready: true, Offloads: cfg.Offloads})
	return c, nil
}

// Port gives the port that the client is plugged into.
func (c *Client) Port() *Port { return c.port }

// Send forwards a batch, as Port.Forward does. Frames that nobody takes are
// dropped and counted; it fails only when the client is closed.
func (c *Client) Send(b *Batch) error {
	if c.closed.Load() {
		return ErrClosed
	}
	// The receivers' memory may belong to guests that take it away.
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	c.port.Forward(b)
	return nil
}

// Deliver implements Link.
func (c *Client) Deliver(b *Batch, list []uint16, t *Tally) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var (
		mask  = uint32(len(c.ring) - 1)
		size  = uint64(len(c.data))
		prod  = c.prod.Load()
		cons  = c.cons.Load()
		free  = len(c.ring) - int(prod-cons)
		pos   = c.pos
		n     = 0
		bytes = 0
	)
	// The slot last given back says where the receiver's bytes begin. (Only
	// in a full ring is that slot in use again.)
	tail := &c.ring[(cons-1)&mask].end
	if cons == prod {
		// An empty ring begins anew at its start: a long frame fits there
		// that would fit neither before the end nor after it.
		pos = (pos + size - 1) &^ (size - 1)
		*tail = pos
	}
	limit := *tail + size // pos may not pass this
	for _, i := range list {
		f := &b.Frames[i&(MaxBatch-1)]
		need := (uint64(f.Len) + 63) &^ 63
		if need > size {
			t.Drop(DropNoFit, 1)
			continue
		}
		start := pos
		if left := size - start&(size-1); left < need {
			start += left
		}
		if n == free || start+need > limit {
			t.Drop(DropRingFull, 1)
			continue
		}
		off := start & (size - 1)
		dst := c.data[off : off+uint64(f.Len)]
		if f.nfrag == 0 {
			copy(dst, f.Data)
		} else {
			b.Copy(dst, f, 0)
		}
		pos = start + need
		s := &c.ring[(prod+uint32(n))&mask]
		s.end, s.off, s.len, s.hdr = pos, uint32(off), f.Len, frame.VnetHdr{}
		if !f.Hdr.Plain() {
			s.hdr = f.Hdr
		}
		n++
		bytes += int(f.Len)
	}
	if n == 0 {
		return
	}
	c.pos = pos
	c.prod.Store(prod + uint32(n))
	t.Deliver(n, bytes)
	if c.waiting.Load() && c.waiting.Swap(false) {
		c.notify()
	}
}

func (c *Client) notify() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// TryRecv fills dst with the frames that have arrived and returns how many,
// perhaps none. The frames lie in the client's ring: they are valid until the
// next TryRecv or Recv, which gives their slots back to the senders.
func (c *Client) TryRecv(dst []Frame) int {
	cons := c.read
	c.cons.Store(cons)
	n := min(int(c.prod.Load()-cons), len(dst))
	mask := uint32(len(c.ring) - 1)
	for i := range dst[:n] {
		s := &c.ring[(cons+uint32(i))&mask]
		f := &dst[i]
		f.Data = c.data[s.off : s.off+s.len : s.off+s.len]
		f.Len, f.Hdr, f.nfrag = s.len, s.hdr, 0
	}
	c.read = cons + uint32(n)
	return n
}

// Recv is TryRecv that waits for the first frame. It returns ErrClosed when
// the client is closed and the context's error when that ends first.
func (c *Client) Recv(ctx context.Context, dst []Frame) (int, error) {
	for {
		if n := c.TryRecv(dst); n > 0 || len(dst) == 0 {
			return n, nil
		}
		if c.closed.Load() {
			return 0, ErrClosed
		}
		c.waiting.Store(true)
		if n := c.TryRecv(dst); n > 0 {
			return n, nil
		}
		select {
		case <-c.wake:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
}

// Info implements Link.
func (c *Client) Info() LinkInfo { return c.cfg.Info }

// Close unplugs the client from its port and ends a waiting Recv.
func (c *Client) Close() error {
	if c.closed.Swap(true) {
		return ErrClosed
	}
	c.port.Detach(c)
	c.notify()
	return nil
}
