package vale_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/vale-vmnet/vale-vmnet/vale"
	"github.com/vale-vmnet/vale-vmnet/vale/frame"
)

// topology is a random set of switches and ports with a sender and a receiver
// on each, some of which lack room, offloads or MTU.
type topology struct {
	h     *host
	ports []node
}

type node struct {
	*vale.Client
	sw      int
	station int
	limit   int // longest frame by its MTU
}

func drawTopology(rt *rapid.T, t *testing.T) *topology {
	g := &topology{h: newHost(t, vale.Config{MACsPerPort: rapid.IntRange(1, 8).Draw(rt, "macs per port")})}
	for sw := range rapid.IntRange(1, 3).Draw(rt, "switches") {
		for i := range rapid.IntRange(1, 6).Draw(rt, "ports") {
			c := g.h.connectWith(fmt.Sprintf("vale-%d:p%d", sw, i), vale.ClientConfig{
				Slots:    1 << rapid.IntRange(2, 9).Draw(rt, "slots"),
				Bytes:    1 << rapid.IntRange(12, 18).Draw(rt, "bytes"),
				Offloads: rapid.SampledFrom([]frame.Offloads{0, frame.Csum, frame.Csum | frame.TSO4}).Draw(rt, "offloads"),
			})
			n := node{c, sw, sw*100 + i, frame.MaxLen}
			if rapid.IntRange(0, 3).Draw(rt, "mtu") == 0 {
				n.limit = 1514
				if err := c.Port().SetMTU(1500); err != nil {
					rt.Fatal(err)
				}
			}
			g.ports = append(g.ports, n)
		}
	}
	return g
}

// stamp makes a frame of any kind, good or bad, and its header.
func (g *topology) stamp(from node, rnd *rand.Rand, seq uint32) (frame.VnetHdr, []byte) {
	to := everybody
	if rnd.IntN(4) > 0 {
		to = g.ports[rnd.IntN(len(g.ports))].station // perhaps of another switch
	}
	switch rnd.IntN(20) {
	case 0:
		hdr, f := tcp(to, from.station, 1461+rnd.IntN(5000))
		return hdr, f
	case 1:
		return frame.VnetHdr{Flags: frame.NeedsCsum, GSOType: 99}, eth(to, from.station, 100, seq)
	case 2:
		return frame.VnetHdr{}, make([]byte, rnd.IntN(14))
	case 3:
		return frame.VnetHdr{}, eth(to, from.station, 22+rnd.IntN(9000), seq)
	}
	return frame.VnetHdr{}, eth(to, from.station, 22+rnd.IntN(200), seq)
}

// sendAll sends batches of random frames, cut in random pieces.
func (g *topology) sendAll(from node, rnd *rand.Rand, batches int) error {
	b := vale.NewBatch()
	seq := uint32(0)
	for range batches {
		b.Reset()
		for range rnd.IntN(64) {
			seq++
			hdr, f := g.stamp(from, rnd, seq)
			if len(f) > 0 && rnd.IntN(3) == 0 {
				cut := rnd.IntN(len(f))
				b.AddPieces(hdr, [][]byte{f[:cut], f[cut:]})
			} else {
				b.Add(hdr, f)
			}
		}
		if err := from.Send(b); err != nil {
			return err
		}
	}
	return nil
}

// checker looks at what one node receives.
type checker struct {
	g      *topology
	n      node
	last   map[int]uint32 // newest number by sending station
	frames uint64
	bytes  uint64
}

// receive takes frames until ctx ends, and then what is left.
func (c *checker) receive(ctx context.Context) error {
	for {
		got, err := c.n.Recv(ctx, 64)
		if err != nil {
			if got = c.n.TryRecv(64); got == nil {
				return nil
			}
		}
		for _, f := range got {
			c.frames++
			c.bytes += uint64(f.Len)
			if err := c.check(f); err != nil {
				return fmt.Errorf("%s: %w", c.n.Port().Name(), err)
			}
		}
	}
}

func (c *checker) check(f vale.Frame) error {
	from := int(binary.BigEndian.Uint32(f.Data[8:]))
	to := int(binary.BigEndian.Uint32(f.Data[2:]))
	switch {
	case from/100 != c.n.sw:
		return fmt.Errorf("received a frame of switch %d", from/100)
	case from == c.n.station:
		return fmt.Errorf("received its own frame")
	case f.Hdr.GSOType == frame.GSONone && len(f.Data) > c.n.limit:
		return fmt.Errorf("received %d bytes, more than its MTU", len(f.Data))
	case f.Data[12] == 0x08:
		return nil // TCP: TestOffloads looks inside
	}
	seq := binary.BigEndian.Uint32(f.Data[14:])
	if !bytes.Equal(f.Data[6:], eth(to, from, len(f.Data), seq)[6:]) {
		return fmt.Errorf("frame %d of station %d is damaged", seq, from)
	}
	if seq <= c.last[from] {
		return fmt.Errorf("frame %d of station %d came after %d", seq, from, c.last[from])
	}
	c.last[from] = seq
	return nil
}

// TestTopologies has random topologies forward the frames of concurrent
// senders. Every copy must be accounted for, arrive whole and in order, and
// stay on its switch.
func TestTopologies(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		g := drawTopology(rt, t)
		seed := rapid.Uint64().Draw(rt, "seed")
		batches := rapid.IntRange(1, 8).Draw(rt, "batches")
		errs := make([]error, 2*len(g.ports))
		var senders, receivers sync.WaitGroup
		ctx, cancel := context.WithCancel(t.Context())
		checks := make([]*checker, len(g.ports))
		for i, n := range g.ports {
			senders.Go(func() {
				errs[2*i] = g.sendAll(n, rand.New(rand.NewPCG(seed, uint64(i))), batches)
			})
			c := &checker{g: g, n: n, last: map[int]uint32{}}
			checks[i] = c
			receivers.Go(func() { errs[2*i+1] = c.receive(ctx) })
		}
		senders.Wait()
		cancel()
		receivers.Wait()
		errs = slices.DeleteFunc(errs, func(err error) bool { return err == nil })
		if len(errs) > 0 {
			rt.Fatal(errs)
		}
		for _, c := range checks {
			n := c.n.Port().Counters()
			if n.OutFrames != c.frames || n.OutBytes != c.bytes {
				rt.Errorf("%s received %d frames, %d bytes; counted were %d, %d", c.n.Port().Name(), c.frames, c.bytes, n.OutFrames, n.OutBytes)
			}
		}
		if err := books(g.h.Fabric); err != nil {
			rt.Error(err)
		}
		for _, n := range g.ports {
			n.Close()
		}
	})
}
