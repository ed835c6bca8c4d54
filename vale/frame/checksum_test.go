package frame_test

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/vale-vmnet/vale-vmnet/vale/frame"
	"pgregory.net/rapid"
)

func TestSumAgainstNaive(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := rapid.SliceOfN(rapid.SampledFrom([]byte{0, 1, 0x7f, 0x80, 0xfe, 0xff}), 0, 400).Draw(t, "b")
		if got, want := frame.Sum(b), naiveSum(b); got != want {
			t.Fatalf("Sum = %#x, want %#x", got, want)
		}
		cut := 2 * rapid.IntRange(0, len(b)/2).Draw(t, "half the cut")
		if got, want := frame.Add(frame.Sum(b[:cut]), frame.Sum(b[cut:])), frame.Sum(b); got != want {
			t.Fatalf("parts at %d: %#x, want %#x", cut, got, want)
		}
	})
}

// Every length, with the carries at their worst.
func TestSumLengths(t *testing.T) {
	ones := bytes.Repeat([]byte{0xff}, 300)
	ramp := make([]byte, 300)
	for i := range ramp {
		ramp[i] = byte(i*151 + 3)
	}
	for n := range 300 {
		for _, b := range [][]byte{ones[:n], ramp[:n], ramp[300-n:]} {
			if got, want := frame.Sum(b), naiveSum(b); got != want {
				t.Errorf("Sum of %d bytes = %#x, want %#x", n, got, want)
			}
		}
	}
}

// The example of RFC 1071 section 3.
func TestChecksumRFC1071(t *testing.T) {
	b := []byte{0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7}
	if got := frame.Sum(b); got != 0xddf2 {
		t.Errorf("Sum = %#x, want 0xddf2", got)
	}
	if got := frame.Checksum(b); got != 0x220d {
		t.Errorf("Checksum = %#x, want 0x220d", got)
	}
}

func BenchmarkSum(b *testing.B) {
	for _, n := range []int{20, 64, 1448, 1500, 65535} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			buf := make([]byte, n)
			b.SetBytes(int64(n))
			for b.Loop() {
				frame.Sum(buf)
			}
		})
	}
}

func BenchmarkSplit(b *testing.B) {
	for _, c := range []struct {
		name string
		k    packet
		typ  uint8
		have frame.Offloads
	}{
		{"tcp4", packet{}, frame.GSOTCPv4, 0},
		{"tcp4/csum", packet{}, frame.GSOTCPv4, frame.Csum},
		{"tcp6", packet{v6: true}, frame.GSOTCPv6, 0},
		{"ufo4", packet{udp: true}, frame.GSOUDP, 0},
		{"uso4", packet{udp: true}, frame.GSOUDPL4, 0},
		{"pass", packet{}, frame.GSOTCPv4, allOffloads},
	} {
		b.Run(c.name, func(b *testing.B) {
			c.k.payload = make([]byte, 64000)
			h, pkt := c.k.vnet(c.typ, 1448), c.k.unfinished(0)
			var s frame.Splitter
			var dst []frame.Segment
			b.SetBytes(int64(len(pkt)))
			b.ReportAllocs()
			for b.Loop() {
				var err error
				if dst, err = s.Split(dst[:0], h, pkt, c.have); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkCheck(b *testing.B) {
	k := packet{payload: make([]byte, 64000)}
	pkt := k.unfinished(0)
	for _, c := range []struct {
		name string
		h    frame.VnetHdr
	}{{"plain", frame.VnetHdr{}}, {"csum", k.vnet(0, 0)}, {"tso4", k.vnet(frame.GSOTCPv4, 1448)}} {
		b.Run(c.name, func(b *testing.B) {
			for b.Loop() {
				if _, err := frame.Check(c.h, pkt[:frame.MaxHeaders], len(pkt)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
