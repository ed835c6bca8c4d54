package vale

import (
	"fmt"
	"testing"

	"github.com/vale-vmnet/vale-vmnet/vale/frame"
)

// wire is a set of frames of one size in buffers of 2 KiB, as a guest has
// them.
type wire [][]byte

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

func (w wire) fill(b *Batch, from int) {
	b.Reset()
	for i := range 256 {
		b.Add(frame.VnetHdr{}, w[(from+i)%len(w)])
	}
}

// BenchmarkCopy is the yardstick: the frames copied one by one into a ring of
// the same size, and nothing else.
func BenchmarkCopy(b *testing.B) {
	for _, size := range []int{64, 512, 1500} {
		b.Run(fmt.Sprintf("size=%d", size), func(b *testing.B) {
			w := newWire(1024, size, station, station)
			ring := make([]byte, 1024*2048)
			step := (size + 63) &^ 63
			off, k := 0, 0
			b.SetBytes(int64(size))
			for b.Loop() {
				if off+step > len(ring) {
					off = 0
				}
				copy(ring[off:], w[k])
				off += step
				k = (k + 1) & 1023
			}
			reportRate(b, b.N)
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
	var got [64]Frame
	for _, c := range cs {
		for c.TryRecv(got[:]) > 0 {
		}
	}
}

// BenchmarkUnicast sends from one port to another on switches of many ports.
func BenchmarkUnicast(b *testing.B) {
	for _, size := range []int{64, 512, 1500} {
		for _, ports := range []int{2, 16, 128, 1024} {
			if size != 64 && ports != 2 {
				continue
			}
			b.Run(fmt.Sprintf("size=%d/ports=%d", size, ports), func(b *testing.B) {
				_, cs := benchClients(b, ports)
				w := newWire(1024, size, func(int) uint64 { return station(1) }, func(int) uint64 { return station(0) })
				b.SetBytes(int64(size))
				var got [256]Frame
				k, n := 0, 0
				for b.Loop() {
					// One iteration is a frame; 256 go at once.
					if k++; k%256 == 0 {
						w.fill(cs[0].b, k)
						cs[0].Send(cs[0].b)
						n += cs[1].TryRecv(got[:])
					}
				}
				if n < k-512 {
					b.Fatalf("received %d of %d", n, k)
				}
				reportRate(b, n)
			})
		}
	}
}
