package vhosttest

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/vale-vmnet/vale-vmnet/vale/vhostuser/vhostproto"
)

// Received is a frame that came, in memory of its own.
type Received struct {
	Hdr     []byte // virtio-net header, as long as Guest.HdrLen
	Data    []byte
	Buffers int // how many chains it took (MRG_RXBUF)
}

// Rx is a receive ring with its buffers.
type Rx struct {
	*Ring
}

func newRx(g *Guest, index int) (*Rx, error) {
	r, err := newRing(g, index)
	if err != nil {
		return nil, err
	}
	return &Rx{r}, nil
}

// fill gives the back end as many buffers as the ring holds. Each buffer is a
// chain of cfg.RxSegs descriptors.
func (rx *Rx) fill() error {
	for len(rx.free) >= rx.g.cfg.RxSegs {
		var segs []segment
		for range rx.g.cfg.RxSegs {
			s, err := rx.g.mem.alloc(uint64(rx.g.rxBufSize()/rx.g.cfg.RxSegs), 64)
			if err != nil {
				return err
			}
			segs = append(segs, s)
		}
		if err := rx.add(segs, true); err != nil {
			return err
		}
	}
	rx.SetAvailIdx(rx.availIdx)
	return nil
}

// Recv waits up to limit for a frame.
func (rx *Rx) Recv(limit time.Duration) (Received, error) {
	for {
		f, ok, err := rx.TryRecv()
		if ok || err != nil {
			return f, err
		}
		if err := rx.wait(limit); err != nil {
			return Received{}, err
		}
	}
}

// TryRecv takes a frame if one is there.
func (rx *Rx) TryRecv() (Received, bool, error) {
	c, n, ok, err := rx.reap()
	if !ok || err != nil {
		return Received{}, false, err
	}
	old := rx.availIdx
	hdrLen := rx.g.HdrLen()
	raw := gather(nil, c, n)
	if len(raw) < hdrLen {
		return Received{}, false, fmt.Errorf("ring %d: %w: a frame of %d bytes without header", rx.Index, ErrPeer, n)
	}
	buffers := 1
	if hdrLen == 12 {
		buffers = int(binary.LittleEndian.Uint16(raw[10:]))
		if limit := rx.maxBuffers(); buffers < 1 || buffers > limit {
			return Received{}, false, fmt.Errorf("ring %d: %w: a frame in %d buffers, at most %d", rx.Index, ErrPeer, buffers, limit)
		}
	}
	if err := rx.add(c.segs, true); err != nil {
		return Received{}, false, err
	}
	for range buffers - 1 {
		// The used index covers a frame as a whole (virtio 1.2, 5.1.6.4).
		c, n, ok, err := rx.reap()
		if err != nil {
			return Received{}, false, err
		}
		if !ok {
			return Received{}, false, fmt.Errorf("ring %d: %w: half a frame", rx.Index, ErrPeer)
		}
		raw = gather(raw, c, n)
		if err := rx.add(c.segs, true); err != nil {
			return Received{}, false, err
		}
	}
	return Received{raw[:hdrLen:hdrLen], raw[hdrLen:], buffers}, true, rx.publish(old)
}

func (rx *Rx) maxBuffers() int {
	if rx.g.Features.Has(vhostproto.NetFMrgRxbuf) {
		return rx.size
	}
	return 1
}

// gather appends the n bytes that the back end wrote into a chain.
func gather(dst []byte, c chain, n uint32) []byte {
	for _, s := range c.segs {
		part := s.b[:min(uint32(len(s.b)), n)]
		dst = append(dst, part...)
		n -= uint32(len(part))
	}
	return dst
}
