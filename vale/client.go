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
	// prod; the receiver gives slots back by cons. The frames lie one after
	// the other in data, each on a cache line boundary and never wrapped;
	// Frame.frag0 of a slot says where.
	cons atomic.Uint32
	read uint32 // slots handed out by Recv, given back by the next call
	_    [64]byte

	prod atomic.Uint32
	mu   sync.Mutex
	pos  uint32 // where the next frame goes
	ring []Frame
	data []byte
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
	}
	if err := p.Attach(c); err != nil {
		return nil, err
	}
	// Nothing is delivered before the link is ready, and a refusal is to
	// cost little: whoever may open a port's socket may be refused often.
	c.ring = make([]Frame, cfg.Slots)
	c.data = make([]byte, cfg.Bytes)
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
		ring  = c.ring
		data  = c.data
		slot  = uint(c.prod.Load())
		prod  = c.prod.Load()
		cons  = c.cons.Load()
		free  = len(ring) - int(prod-cons)
		n     = 0
		bytes = 0
	)
	pos, end, tail := c.space(prod, cons)
	for _, i := range list {
		f := &b.Frames[i&(MaxBatch-1)]
		need := (f.Len + 63) &^ 63
		if n == free || need > end-pos {
			if n < free && need <= tail {
				// What is left before the end of data stays empty.
				pos, end, tail = 0, tail, 0
			} else {
				t.Drop(c.noRoom(need), 1)
				continue
			}
		}
		dst := data[pos : pos+f.Len : pos+need]
		if f.nfrag == 0 {
			copy(dst, f.Data)
		} else {
			b.Copy(dst, f, 0)
		}
		s := &ring[slot&uint(len(ring)-1)]
		slot++
		s.Data, s.Len, s.frag0 = dst, f.Len, pos
		if s.Hdr = (frame.VnetHdr{}); !f.Hdr.Plain() {
			s.Hdr = f.Hdr
		}
		pos += need
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

// space says where frames may go: from pos to end, and then from the start of
// data to tail. In an empty ring that is everything; in another, up to the
// oldest frame that the receiver holds.
func (c *Client) space(prod, cons uint32) (pos, end, tail uint32) {
	size := uint32(len(c.data))
	if prod == cons {
		return 0, size, 0
	}
	oldest := c.ring[int(cons)&(len(c.ring)-1)].frag0
	if c.pos <= oldest {
		return c.pos, oldest, 0
	}
	return c.pos, size, oldest
}

// noRoom says why a frame that takes need bytes of the ring is dropped.
func (c *Client) noRoom(need uint32) Reason {
	if int(need) > len(c.data) {
		return DropNoFit
	}
	return DropRingFull
}

func (c *Client) notify() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// TryRecv gives the frames that have arrived, at most max, perhaps none. They
// lie in the client's ring: they are valid until the next TryRecv or Recv,
// which gives their slots back to the senders. One call may give fewer frames
// than have arrived.
func (c *Client) TryRecv(max int) []Frame {
	cons := c.read
	c.cons.Store(cons)
	first := int(cons) & (len(c.ring) - 1)
	n := min(int(c.prod.Load()-cons), max, len(c.ring)-first)
	if n <= 0 {
		return nil
	}
	c.read = cons + uint32(n)
	return c.ring[first : first+n : first+n]
}

// Recv is TryRecv that waits for the first frame. It returns ErrClosed when
// the client is closed and the context's error when that ends first. max must
// be positive.
func (c *Client) Recv(ctx context.Context, max int) ([]Frame, error) {
	for {
		if got := c.TryRecv(max); got != nil {
			return got, nil
		}
		if c.closed.Load() {
			return nil, ErrClosed
		}
		c.waiting.Store(true)
		if got := c.TryRecv(max); got != nil {
			return got, nil
		}
		select {
		case <-c.wake:
		case <-ctx.Done():
			return nil, ctx.Err()
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
