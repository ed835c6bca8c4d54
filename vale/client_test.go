package vale_test

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/vale-vmnet/vale-vmnet/vale"
)

// TestClientRing compares a client's ring with a queue: what the counters say
// was delivered comes out, whole and in order, however sends, receives and the
// sizes of frames and ring fall.
func TestClientRing(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		h := newHost(t, vale.Config{})
		defer func() {
			for _, s := range h.Switches() {
				for _, p := range s.Ports() {
					h.Delete(p)
				}
			}
		}()
		slots := 1 << rapid.IntRange(0, 6).Draw(rt, "slots")
		size := 1 << rapid.IntRange(6, 14).Draw(rt, "bytes")
		a := h.connectWith("vale-1:a", vale.ClientConfig{Slots: 1, Bytes: 64})
		b := h.connectWith("vale-1:b", vale.ClientConfig{Slots: slots, Bytes: size})
		var queue [][]byte // delivered, not received
		var held [][]byte  // of the last receive: still in the ring
		seq := uint32(0)
		rt.Repeat(map[string]func(*rapid.T){
			"send": func(rt *rapid.T) {
				n := rapid.IntRange(1, 20).Draw(rt, "frames")
				for range n {
					seq++
					f := eth(everybody, 1, rapid.IntRange(14, 2*size).Draw(rt, "size"), seq)
					before := b.Port().Counters()
					h.send(a, f)
					after := b.Port().Counters()
					full := after.OutDrops[vale.DropRingFull] - before.OutDrops[vale.DropRingFull]
					nofit := after.OutDrops[vale.DropNoFit] - before.OutDrops[vale.DropNoFit]
					switch {
					case after.OutFrames > before.OutFrames:
						if len(f) > size || len(queue)+len(held) >= slots {
							rt.Fatalf("a frame of %d bytes was delivered to a ring of %d, with %d of %d slots in use", len(f), size, len(queue)+len(held), slots)
						}
						queue = append(queue, f)
					case nofit == 1 && len(f) > size:
					case full == 1 && mayBeFull(slots, size, append(held[:len(held):len(held)], queue...), f):
					default:
						rt.Fatalf("a frame of %d bytes to a ring of %d bytes with %d of %d slots in use was lost: %v", len(f), size, len(queue)+len(held), slots, after.OutDrops)
					}
				}
			},
			"receive": func(rt *rapid.T) {
				limit := rapid.IntRange(1, 2*slots).Draw(rt, "limit")
				got := b.TryRecv(limit)
				n := len(got)
				// Fewer only where the ring ends; the next call goes on.
				if want := min(limit, len(queue)); n > want || (n == 0) != (want == 0) {
					rt.Fatalf("received %d frames, want %d", n, want)
				}
				for i, f := range got {
					if !bytes.Equal(f.Data, queue[i]) || int(f.Len) != len(f.Data) {
						rt.Fatalf("frame %d is %x, want %x", i, head(f.Data), head(queue[i]))
					}
				}
				held, queue = queue[:n], queue[n:]
			},
		})
	})
}

// mayBeFull says whether a ring that holds the frames in use may refuse f: for
// want of a slot, or of bytes in one piece. The free bytes are in two pieces at
// most, and once round the ring may have cost less than one frame.
func mayBeFull(slots, size int, inUse [][]byte, f []byte) bool {
	line := func(f []byte) int { return (len(f) + 63) &^ 63 }
	used, longest := 0, 0
	for _, u := range inUse {
		used += line(u)
		longest = max(longest, line(u))
	}
	return len(inUse) == slots || len(inUse) > 0 && used+longest+2*line(f) > size
}

func TestRecvContext(t *testing.T) {
	h := newHost(t, vale.Config{})
	a, b := h.connect("vale-1:a"), h.connect("vale-1:b")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := b.Recv(ctx, 4); !errors.Is(err, context.Canceled) {
		t.Errorf("receive with an ended context: %v", err)
	}
	// Each frame must wake a receiver that has gone to sleep.
	answers := make(chan error)
	go func() {
		for range 500 {
			if _, err := b.Recv(t.Context(), 1); err != nil {
				answers <- err
				return
			}
			answers <- nil
		}
	}()
	for range 500 {
		h.send(a, eth(everybody, 1, 60, 0))
		select {
		case err := <-answers:
			if err != nil {
				t.Fatal(err)
			}
		case <-time.After(20 * time.Second):
			t.Fatal("a waiting receiver was not woken")
		}
	}
}
