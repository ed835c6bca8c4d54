package vhosttest

import (
	"errors"
	"time"
)

// Frame is what a guest sends.
type Frame struct {
	// Hdr is the virtio-net header as it goes into the ring, without
	// num_buffers, which a driver sets to zero.
	Hdr  [10]byte
	Data []byte
	// Split gives the sizes of the first descriptors, over header and data.
	// The rest goes into descriptors as large as buffers are. Nil puts all
	// into as few as possible.
	Split []int
}

// Tx is a transmit ring with its buffers.
type Tx struct {
	*Ring
	bufs []segment // free buffers
}

func newTx(g *Guest, index int) (*Tx, error) {
	r, err := newRing(g, index)
	if err != nil {
		return nil, err
	}
	t := &Tx{Ring: r}
	for range max(g.cfg.RingSize, 2*maxIndirect) {
		s, err := g.mem.alloc(uint64(g.cfg.BufSize), 64)
		if err != nil {
			t.close()
			return nil, err
		}
		t.bufs = append(t.bufs, s)
	}
	return t, nil
}

// Send queues frames until one does not fit, kicks if need be, and returns how
// many it took.
func (t *Tx) Send(frames ...Frame) (int, error) {
	if _, err := t.Reap(); err != nil {
		return 0, err
	}
	old := t.availIdx
	sent := 0
	for _, f := range frames {
		err := t.queue(f)
		if errors.Is(err, ErrFull) {
			break
		}
		if err != nil {
			return sent, err
		}
		sent++
	}
	if sent == 0 {
		return 0, nil
	}
	return sent, t.publish(old)
}

// SendAll sends every frame, waiting for completions when the ring is full,
// each time at most limit.
func (t *Tx) SendAll(limit time.Duration, frames ...Frame) error {
	for {
		n, err := t.Send(frames...)
		if err != nil {
			return err
		}
		if frames = frames[n:]; len(frames) == 0 {
			return nil
		}
		if n == 0 && t.InFlight() == 0 {
			return ErrFull
		}
		if err := t.wait(limit); err != nil {
			return err
		}
	}
}

// Drain waits until the back end has completed everything, at most limit for
// each completion.
func (t *Tx) Drain(limit time.Duration) error {
	for {
		if _, err := t.Reap(); err != nil {
			return err
		}
		if t.InFlight() == 0 {
			return nil
		}
		if err := t.wait(limit); err != nil {
			return err
		}
	}
}

// Reap takes the completions that are there and frees their buffers.
func (t *Tx) Reap() (int, error) {
	for n := 0; ; n++ {
		c, _, ok, err := t.reap()
		if !ok || err != nil {
			return n, err
		}
		for _, s := range c.segs {
			t.bufs = append(t.bufs, segment{s.gpa, s.b[:cap(s.b)]})
		}
	}
}

// queue copies a frame into buffers and adds their chain.
func (t *Tx) queue(f Frame) error {
	raw := append(make([]byte, 0, t.g.HdrLen()+len(f.Data)), f.Hdr[:]...)
	raw = append(raw[:t.g.HdrLen()], f.Data...)
	split := f.Split
	var segs []segment
	for len(raw) > 0 {
		if len(t.bufs) == len(segs) {
			return ErrFull
		}
		s := t.bufs[len(t.bufs)-1-len(segs)]
		n := min(len(raw), len(s.b))
		if len(split) > 0 {
			n, split = max(1, min(n, split[0])), split[1:]
		}
		s.b = s.b[:copy(s.b[:n], raw)]
		raw = raw[n:]
		segs = append(segs, s)
	}
	if err := t.add(segs, false); err != nil {
		return err
	}
	t.bufs = t.bufs[:len(t.bufs)-len(segs)]
	return nil
}
