package vale_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/vale-vmnet/vale-vmnet/vale"
	"github.com/vale-vmnet/vale-vmnet/vale/frame"
)

// host is a fabric with an in-process client on every port that a test names.
type host struct {
	testing.TB
	*vale.Fabric
	batch *vale.Batch
}

func newHost(t testing.TB, cfg vale.Config) *host {
	t.Helper()
	f := vale.New(cfg)
	t.Cleanup(f.Close)
	return &host{t, f, vale.NewBatch()}
}

func (h *host) open(name string) *vale.Port {
	h.Helper()
	n, err := vale.ParseName(name)
	if err != nil {
		h.Fatal(err)
	}
	p, _, err := h.Open(n)
	if err != nil {
		h.Fatal(err)
	}
	return p
}

func (h *host) connect(name string) *vale.Client {
	h.Helper()
	return h.connectWith(name, vale.ClientConfig{})
}

func (h *host) connectWith(name string, cfg vale.ClientConfig) *vale.Client {
	h.Helper()
	c, err := h.open(name).Connect(cfg)
	if err != nil {
		h.Fatal(err)
	}
	return c
}

// send sends plain frames as one batch.
func (h *host) send(c *vale.Client, frames ...[]byte) {
	h.Helper()
	h.batch.Reset()
	for _, f := range frames {
		if !h.batch.Add(frame.VnetHdr{}, f) {
			h.Fatal("batch is full")
		}
	}
	if err := c.Send(h.batch); err != nil {
		h.Fatal(err)
	}
}

// received takes everything that lies in the client's ring.
func received(c *vale.Client) (all [][]byte) {
	for {
		got := c.TryRecv(64)
		if len(got) == 0 {
			return all
		}
		for _, f := range got {
			all = append(all, bytes.Clone(f.Data))
		}
	}
}

// expect holds what lies in the client's ring against want.
func (h *host) expect(c *vale.Client, want ...[]byte) {
	h.Helper()
	got := received(c)
	if len(got) != len(want) {
		h.Fatalf("%s received %d frames, want %d", c.Port().Name(), len(got), len(want))
	}
	for i := range got {
		if !bytes.Equal(got[i], want[i]) {
			h.Fatalf("frame %d at %s is %x, want %x", i, c.Port().Name(), head(got[i]), head(want[i]))
		}
	}
}

func head(b []byte) []byte { return b[:min(len(b), 40)] }

// everybody is the broadcast address among the stations of eth.
const everybody = -1

func mac(station int) []byte {
	if station == everybody {
		return bytes.Repeat([]byte{0xff}, 6)
	}
	return []byte{2, 0, byte(station >> 24), byte(station >> 16), byte(station >> 8), byte(station)}
}

// eth makes a frame of size bytes whose content follows from its arguments.
func eth(to, from, size int, seq uint32) []byte {
	f := append(append(make([]byte, 0, max(size, 22)), mac(to)...), mac(from)...)
	f = append(f, 0x88, 0xb5)
	f = binary.BigEndian.AppendUint32(f, seq)
	f = binary.BigEndian.AppendUint32(f, uint32(from))
	for x := seq*31 + uint32(from); len(f) < size; {
		x = x*1664525 + 1013904223
		f = append(f, byte(x>>24))
	}
	return f[:size]
}

// balanced holds the books of all switches against each other, at rest.
func (h *host) balanced() {
	h.Helper()
	if err := books(h.Fabric); err != nil {
		h.Error(err)
	}
}

// books checks in = delivered + dropped for each port, and over each switch
// what all sent against what all received.
func books(f *vale.Fabric) error {
	for _, s := range f.Switches() {
		var sent, got, lost, missed uint64
		for _, p := range s.Ports() {
			c := p.Counters()
			if c.InCopies != c.InDelivered+vale.Sum(c.InDrops) {
				return fmt.Errorf("%s: %d copies in are not %d delivered and %d dropped", p.Name(), c.InCopies, c.InDelivered, vale.Sum(c.InDrops))
			}
			sent += c.InDelivered
			got += c.OutFrames
			lost += vale.Sum(c.InDrops)
			missed += vale.Sum(c.OutDrops)
		}
		if sent != got {
			return fmt.Errorf("%s: %d copies were delivered from ports, %d to ports", s.Name(), sent, got)
		}
		if missed > lost {
			return fmt.Errorf("%s: %d copies were dropped at receivers, but senders lost only %d", s.Name(), missed, lost)
		}
	}
	return nil
}
