package vale_test

import (
	"fmt"
	"testing"

	"github.com/vale-vmnet/vale-vmnet/vale"
	"github.com/vale-vmnet/vale-vmnet/vale/frame"
)

// TestNoAllocations holds forwarding to its budget: nothing per frame, nothing
// per batch.
func TestNoAllocations(t *testing.T) {
	for _, c := range []struct {
		name string
		to   func(k int) int
	}{
		{"unicast", func(int) int { return 1 }},
		{"flood", func(int) int { return everybody }},
		{"mixed", func(k int) int { return k%10 - 1 }},
		{"hairpin", func(int) int { return 0 }},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHost(t, vale.Config{})
			cs := make([]*vale.Client, 9)
			for i := range cs {
				cs[i] = h.connect(fmt.Sprintf("vale-1:p%d", i))
				h.send(cs[i], eth(everybody, i, 60, 0))
			}
			batch := make([][]byte, 256)
			for k := range batch {
				batch[k] = eth(c.to(k), 0, 64+k, 0)
			}
			forward := func() {
				h.batch.Reset()
				for k, f := range batch {
					if k%3 == 0 {
						h.batch.AddPieces(frame.VnetHdr{}, [][]byte{f[:20], f[20:]})
					} else {
						h.batch.Add(frame.VnetHdr{}, f)
					}
				}
				if err := cs[0].Send(h.batch); err != nil {
					t.Fatal(err)
				}
				for _, r := range cs {
					for len(r.TryRecv(256)) > 0 {
					}
				}
			}
			forward()
			if n := testing.AllocsPerRun(200, forward); n != 0 {
				t.Errorf("%v allocations a batch", n)
			}
			h.balanced()
		})
	}
}

// TestNoAllocationsAdapting is the same for receivers without offloads, once
// the first batch has made the adapter.
func TestNoAllocationsAdapting(t *testing.T) {
	h := newHost(t, vale.Config{})
	a, b := h.connect("vale-1:a"), h.connect("vale-1:b")
	hdr, pkt := tcp(everybody, 1, 20000)
	forward := func() {
		h.batch.Reset()
		for range 8 {
			h.batch.Add(hdr, pkt)
		}
		if err := a.Send(h.batch); err != nil {
			t.Fatal(err)
		}
		for len(b.TryRecv(256)) > 0 {
		}
	}
	forward()
	if n := testing.AllocsPerRun(100, forward); n != 0 {
		t.Errorf("%v allocations a batch", n)
	}
	h.balanced()
}
