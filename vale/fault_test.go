package vale_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
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

// TestMemoryRewritten has a guest rewrite its frames all the while they are
// forwarded: headers that were checked no longer hold when the frame is taken
// apart. Whatever comes out, it is within bounds and accounted for.
func TestMemoryRewritten(t *testing.T) {
	h := newHost(t, vale.Config{})
	a, plain := h.connect("vale-1:a"), h.connect("vale-1:plain")
	tso := h.connectWith("vale-1:tso", vale.ClientConfig{Offloads: frame.Csum | frame.TSO4})
	for _, c := range []*vale.Client{a, plain, tso} {
		if err := c.Port().SetMTU(1500); err != nil {
			t.Fatal(err)
		}
	}
	const frames, room = 8, 8192
	mem, _ := guestMemory(t, frames*room/os.Getpagesize())
	var stop atomic.Bool
	var guest sync.WaitGroup
	guest.Go(func() {
		rnd := rand.New(rand.NewPCG(1, 1))
		_, good := tcp(everybody, 1, 5000)
		for !stop.Load() {
			f := mem[rnd.IntN(frames)*room:]
			f[rnd.IntN(60)] = byte(rnd.Uint32())
			copy(mem[rnd.IntN(frames)*room:], good[:60])
		}
	})
	hdr, good := tcp(everybody, 1, 5000)
	fill := func() {
		for i := range frames {
			copy(mem[i*room:], good)
		}
	}
	forward := func() {
		h.batch.Reset()
		for i := range frames {
			f := mem[i*room:]
			h.batch.AddPieces(hdr, [][]byte{f[:50], f[50:len(good)]})
		}
		if err := a.Send(h.batch); err != nil {
			t.Error(err)
		}
	}
	fill()
	for range 500 {
		forward()
		for _, f := range received(plain) {
			if len(f) < 14 || len(f) > 1522 { // two VLAN tags come on top of the MTU
				t.Errorf("a segment has %d bytes", len(f))
			}
		}
		received(tso)
	}
	stop.Store(true)
	guest.Wait()
	fill()
	forward()
	if n := len(received(plain)); n != 4*frames {
		t.Errorf("with the guest at rest %d segments arrived, want %d", n, 4*frames)
	}
	h.balanced()
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
