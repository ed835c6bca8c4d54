package vale_test

import (
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/vale-vmnet/vale-vmnet/vale"
	"github.com/vale-vmnet/vale-vmnet/vale/frame"
)

// guestMemory maps a file of n pages, as a guest shares its memory, and gives
// the means to take all but the first page away.
func guestMemory(t *testing.T, pages int) (mem []byte, truncate func()) {
	t.Helper()
	f, err := os.CreateTemp(t.TempDir(), "guest")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	size := os.Getpagesize() * pages
	if err := f.Truncate(int64(size)); err != nil {
		t.Fatal(err)
	}
	mem, err = unix.Mmap(int(f.Fd()), 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Munmap(mem) })
	return mem, func() {
		if err := os.Truncate(f.Name(), int64(os.Getpagesize())); err != nil {
			t.Fatal(err)
		}
	}
}

// sendFaulty sends the batch and returns the panic that came out of it.
func (h *host) sendFaulty(c *vale.Client) (fault any) {
	defer func() { fault = recover() }()
	if err := c.Send(h.batch); err != nil {
		h.Error(err)
	}
	return nil
}

// TestMemoryFault takes the memory of frames away before they are forwarded.
// The panic must reach the sender, the books must be closed, and the switch go
// on as if nothing had been.
func TestMemoryFault(t *testing.T) {
	page := os.Getpagesize()
	for _, c := range []struct {
		name string
		at   int // where the bad frame begins in guest memory
		to   int
		gso  bool
	}{
		{"header, unicast", page, 2, false},
		{"header, flooded", page, everybody, false},
		{"payload, unicast", page - 60, 2, false},
		{"payload, flooded", page - 60, everybody, false},
		{"header, segmented", page - 20, 2, true},
		{"payload, segmented", page - 60, 2, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHost(t, vale.Config{})
			a, b := h.connect("vale-1:a"), h.connect("vale-1:b")
			d := h.connect("vale-1:d")
			h.send(b, eth(everybody, 2, 60, 0))
			received(a)
			received(d)
			before := a.Port().Counters()

			hdr, f := tcp(c.to, 1, 3000)
			if !c.gso {
				hdr = frame.VnetHdr{}
			}
			mem, truncate := guestMemory(t, 3)
			copy(mem[c.at:], f)
			h.batch.Reset()
			h.batch.Add(frame.VnetHdr{}, eth(everybody, 1, 100, 1))
			h.batch.Add(hdr, mem[c.at:c.at+len(f)])
			h.batch.Add(frame.VnetHdr{}, eth(2, 1, 100, 2))
			truncate()
			fault := h.sendFaulty(a)
			if err, ok := fault.(error); !ok {
				t.Fatalf("the panic that reached the sender is %v, want a memory error", fault)
			} else if _, ok := err.(interface{ Addr() uintptr }); !ok {
				t.Fatalf("the panic that reached the sender is %v (%T), want a memory error", err, err)
			}
			n := a.Port().Counters()
			if n.InFrames != before.InFrames+3 || n.InDrops[vale.DropFault] == 0 {
				t.Errorf("%d frames in, %d lost by the fault", n.InFrames-before.InFrames, n.InDrops[vale.DropFault])
			}
			if n.InDrops[vale.DropFault] != vale.Sum(n.InDrops) {
				t.Errorf("drops for other reasons: %v", n.InDrops)
			}
			h.balanced()

			// The same batch, and everybody's rings, still work.
			for i, r := range []*vale.Client{b, d} {
				if got := len(received(r)); uint64(got) != r.Port().Counters().OutFrames-uint64(i) {
					t.Errorf("%s holds %d frames; %d were delivered", r.Port().Name(), got, r.Port().Counters().OutFrames)
				}
			}
			next := eth(everybody, 1, 80, 3)
			h.send(a, next)
			h.expect(b, next)
			h.expect(d, next)
			h.balanced()
		})
	}
}

// ExampleReason shows how drops are read.
func ExampleReason() {
	var c vale.Counters
	c.InDrops[vale.DropRingFull] = 3
	for _, r := range vale.Reasons() {
		if n := c.InDrops[r]; n > 0 {
			fmt.Println(r, n)
		}
	}
	// Output: ring-full 3
}
