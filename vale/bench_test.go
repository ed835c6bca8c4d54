package vale

import (
	"fmt"
	"testing"

	"github.com/vale-vmnet/vale-vmnet/vale/frame"
	"github.com/vale-vmnet/vale-vmnet/vale/mactab"
)

// wire is a set of frames of one size in buffers of 2 KiB, as a guest has
// them.
type wire [][]byte

var sizes = []int{64, 512, 1500}

func newWire(n, size int, dst, src func(i int) uint64) wire {
	buf := make([]byte, n*2048)
	w := make(wire, n)
	for i := range w {
		f := buf[i*2048 : i*2048+size : i*2048+2048]
		putMAC(f, dst(i))
		putMAC(f[6:], src(i))
		f[12], f[13] = 0x08, 0x00
		w[i] = f
	}
	return w
}

func putMAC(b []byte, m uint64) {
	for i := range 6 {
		b[i] = byte(m >> (8 * i))
	}
}

// station is a unicast MAC, low byte first.
func station(i int) uint64 { return uint64(0x02) | uint64(i+1)<<8 }

// burst is how many frames a sender gives to the switch at once.
const burst = 256

// batches wraps the frames once, as they lie in a sender's ring.
func (w wire) batches() (all []*Batch) {
	for i := 0; i < len(w); i += burst {
		b := NewBatch()
		for _, f := range w[i : i+burst] {
			b.Add(frame.VnetHdr{}, f)
		}
		all = append(all, b)
	}
	return all
}

// The yardsticks move the same frames from the same buffers into a ring of
// 1024 slots of 2 KiB, netmap's geometry: copying and nothing else; and
// copying after the least that a switch must do, a look-up of the destination
// in a MAC table.

func BenchmarkCopy(b *testing.B) { benchCopy(b, false) }

func BenchmarkCopyLookup(b *testing.B) { benchCopy(b, true) }

func benchCopy(b *testing.B, lookup bool) {
	for _, size := range sizes {
		b.Run(fmt.Sprintf("size=%d", size), func(b *testing.B) {
			w := newWire(1024, size, func(int) uint64 { return station(1) }, func(int) uint64 { return station(0) })
			ring := make([]byte, 1024*2048)
			table := mactab.New(mactab.Config{})
			key := mactab.Key(mactab.MAC(station(1)), 0)
			table.Learn(key, 1, 0)
			b.SetBytes(int64(size))
			k, hits := 0, 0
			for b.Loop() {
				f := w[k&1023]
				if lookup {
					if _, ok := table.Lookup(mactab.Key(mactab.FromBytes(f), 0), 0); ok {
						hits++
					}
				}
				copy(ring[k&1023*2048:], f)
				k++
			}
			if lookup && hits != k {
				b.Fatalf("%d of %d destinations found", hits, k)
			}
			reportRate(b, k)
		})
	}
}

func reportRate(b *testing.B, frames int) {
	b.ReportMetric(float64(frames)/b.Elapsed().Seconds()/1e6, "Mpps")
}

type client struct {
	*Client
	b *Batch
}

func benchClients(b *testing.B, n int) (*Fabric, []client) {
	f := New(Config{MaxPorts: n})
	b.Cleanup(f.Close)
	cs := make([]client, n)
	for i := range cs {
		name := Name{"vale-1", fmt.Sprintf("p%d", i)}
		p, _, err := f.Open(name)
		if err != nil {
			b.Fatal(err)
		}
		c, err := p.Connect(ClientConfig{})
		if err != nil {
			b.Fatal(err)
		}
		cs[i] = client{c, NewBatch()}
		// Teach the switch where the station is.
		cs[i].b.Add(frame.VnetHdr{}, newWire(1, 64, func(int) uint64 { return station(i) }, func(int) uint64 { return station(i) })[0])
		if err := c.Send(cs[i].b); err != nil {
			b.Fatal(err)
		}
	}
	drain(cs)
	return f, cs
}

func drain(cs []client) {
	for _, c := range cs {
		for len(c.TryRecv(1024)) > 0 {
		}
	}
}

// take receives what has come.
func (c client) take() (n int) {
	for {
		got := c.TryRecv(1024)
		if len(got) == 0 {
			return n
		}
		n += len(got)
	}
}

// send has c send frames in bursts, one iteration a frame, and calls received
// for each burst. It returns how many frames went out.
func (c client) send(b *testing.B, w wire, received func()) int {
	k, all := 0, w.batches()
	for b.Loop() {
		if k++; k%burst == 0 {
			if err := c.Send(all[k/burst%len(all)]); err != nil {
				b.Fatal(err)
			}
			received()
		}
	}
	return k / burst * burst
}

// toward makes frames from station 0 to the stations that to picks.
func toward(size int, to func(i int) int) wire {
	return newWire(1024, size, func(i int) uint64 { return station(to(i)) }, func(int) uint64 { return station(0) })
}

func unicast(b *testing.B, size, ports int) {
	_, cs := benchClients(b, ports)
	n := 0
	sent := cs[0].send(b, toward(size, func(int) int { return 1 }), func() { n += cs[1].take() })
	if n != sent {
		b.Fatalf("received %d of %d", n, sent)
	}
	reportRate(b, n)
}

// BenchmarkUnicast sends from one port to another.
func BenchmarkUnicast(b *testing.B) {
	for _, size := range sizes {
		b.Run(fmt.Sprintf("size=%d", size), func(b *testing.B) { unicast(b, size, 2) })
	}
}

// BenchmarkPorts does so on switches of many ports.
func BenchmarkPorts(b *testing.B) {
	for _, ports := range []int{2, 16, 128, 1024} {
		b.Run(fmt.Sprintf("ports=%d", ports), func(b *testing.B) { unicast(b, 64, ports) })
	}
}

// BenchmarkFanout sends each batch to many receivers in turn.
func BenchmarkFanout(b *testing.B) {
	for _, ports := range []int{2, 8, 64} {
		b.Run(fmt.Sprintf("receivers=%d", ports), func(b *testing.B) {
			_, cs := benchClients(b, ports+1)
			n := 0
			sent := cs[0].send(b, toward(64, func(i int) int { return 1 + i%ports }), func() {
				for _, c := range cs[1:] {
					n += c.take()
				}
			})
			if n != sent {
				b.Fatalf("received %d of %d", n, sent)
			}
			reportRate(b, n)
		})
	}
}

// BenchmarkFlood sends broadcasts to 16 other ports; the rate counts copies.
func BenchmarkFlood(b *testing.B) {
	_, cs := benchClients(b, 17)
	w := newWire(1024, 64, func(int) uint64 { return 1<<48 - 1 }, func(int) uint64 { return station(0) })
	n := 0
	sent := cs[0].send(b, w, func() {
		for _, c := range cs[1:] {
			n += c.take()
		}
	})
	if n != 16*sent {
		b.Fatalf("received %d copies of %d frames", n, sent)
	}
	reportRate(b, n)
}

// BenchmarkMACs sends to 16k stations behind one port, each frame to another.
func BenchmarkMACs(b *testing.B) {
	const stations = 16384
	f := New(Config{MACs: stations + 16, MACsPerPort: stations})
	defer f.Close()
	var cs []client
	for _, name := range []string{"a", "b"} {
		p, _, err := f.Open(Name{"vale-1", name})
		if err != nil {
			b.Fatal(err)
		}
		c, err := p.Connect(ClientConfig{})
		if err != nil {
			b.Fatal(err)
		}
		cs = append(cs, client{c, NewBatch()})
	}
	for i := range stations {
		cs[1].b.Reset()
		cs[1].b.Add(frame.VnetHdr{}, newWire(1, 64, func(int) uint64 { return station(0) }, func(int) uint64 { return station(i + 1) })[0])
		if err := cs[1].Send(cs[1].b); err != nil {
			b.Fatal(err)
		}
	}
	drain(cs)
	if n := cs[1].Port().sw.FDBStats().Live; n != stations {
		b.Fatalf("learned %d stations", n)
	}
	// As many buffers as stations, so that each frame asks for another one.
	w := newWire(stations, 64, func(i int) uint64 { return station(1 + i*7919%stations) }, func(int) uint64 { return station(0) })
	n := 0
	sent := cs[0].send(b, w, func() { n += cs[1].take() })
	if n != sent {
		b.Fatalf("received %d of %d", n, sent)
	}
	reportRate(b, n)
}
