package vale_test

import (
	"slices"
	"testing"

	"github.com/vale-vmnet/vale-vmnet/vale"
	"github.com/vale-vmnet/vale-vmnet/vale/frame"
)

func TestLearning(t *testing.T) {
	h := newHost(t, vale.Config{})
	a, b, c := h.connect("vale-1:a"), h.connect("vale1:b"), h.connect("vale-1:c")
	other := h.connect("vale-2:a")

	first := eth(2, 1, 60, 1) // nobody knows station 2: flood
	h.send(a, first)
	h.expect(b, first)
	h.expect(c, first)

	answer := eth(1, 2, 60, 2) // station 1 is known
	h.send(b, answer)
	h.expect(a, answer)
	h.expect(c)

	moved := eth(everybody, 2, 60, 3) // station 2 speaks from c now
	h.send(c, moved)
	h.expect(a, moved)
	h.expect(b, moved)
	f := eth(2, 1, 60, 4)
	h.send(a, f)
	h.expect(c, f)
	h.expect(b)
	if m := h.Switch("vale-1").FDBStats().Moves; m != 1 {
		t.Errorf("%d moves were counted, want 1", m)
	}

	group := eth(everybody, 1, 60, 5)
	copy(group[6:], mac(everybody)) // nobody's address: not learned
	h.send(a, group)
	h.expect(a)
	if n := len(h.Switch("vale-1").FDB()); n != 2 {
		t.Errorf("%d stations are known, want 2", n)
	}
	h.expect(other)
	h.balanced()
}

// The all-zero address is nobody's: it is not learned, and frames for it flood,
// alone in a batch and among others.
func TestZeroAddress(t *testing.T) {
	h := newHost(t, vale.Config{})
	a, b, c := h.connect("vale-1:a"), h.connect("vale-1:b"), h.connect("vale-1:c")
	h.send(b, eth(everybody, 2, 60, 0))
	received(a)
	received(c)
	zero := make([]byte, 60)
	h.send(a, zero, zero)
	h.expect(b, zero, zero)
	h.expect(c, zero, zero)
	one := eth(2, 1, 60, 1)
	h.send(a, zero, one, zero)
	h.expect(b, zero, one, zero)
	h.expect(c, zero, zero)
	for _, e := range h.Switch("vale-1").FDB() {
		if e.MAC.String() == "00:00:00:00:00:00" {
			t.Errorf("the all-zero address was learned on %s", e.Port)
		}
	}
	h.balanced()
}

func TestHairpin(t *testing.T) {
	h := newHost(t, vale.Config{})
	a, b := h.connect("vale-1:a"), h.connect("vale-1:b")
	h.send(a, eth(everybody, 1, 60, 0), eth(everybody, 2, 60, 0))
	received(b)
	h.send(a, eth(1, 2, 60, 1))
	h.expect(a)
	h.expect(b)
	if n := a.Port().Counters().InDrops[vale.DropHairpin]; n != 1 {
		t.Errorf("%d frames dropped as hairpin, want 1", n)
	}
	h.balanced()
}

func TestStatic(t *testing.T) {
	h := newHost(t, vale.Config{})
	a, b, c := h.connect("vale-1:a"), h.connect("vale-1:b"), h.connect("vale-1:c")
	if err := b.Port().AddStatic(mac(9)); err != nil {
		t.Fatal(err)
	}
	h.send(c, eth(everybody, 9, 60, 1)) // c claims it in vain
	received(a)
	received(b)
	f := eth(9, 1, 60, 2)
	h.send(a, f)
	h.expect(b, f)
	h.expect(c)
	if n := h.Switch("vale-1").FlushFDB(); n != 1 {
		t.Errorf("%d learned stations flushed, want 1", n)
	}
	fdb := h.Switch("vale-1").FDB()
	if len(fdb) != 1 || !fdb[0].Static || fdb[0].Port != "vale-1:b" {
		t.Errorf("after a flush the table is %+v, want the static entry", fdb)
	}
	for _, bad := range [][]byte{mac(everybody), {1, 2, 3}, nil} {
		if err := b.Port().AddStatic(bad); err == nil {
			t.Errorf("address %x was pinned", bad)
		}
	}
}

func TestLearnedPerPort(t *testing.T) {
	h := newHost(t, vale.Config{MACsPerPort: 4})
	a, b, c := h.connect("vale-1:a"), h.connect("vale-1:b"), h.connect("vale-1:c")
	for i := range 6 {
		h.send(a, eth(everybody, 10+i, 60, 0))
	}
	received(b)
	received(c)
	if st := h.Switch("vale-1").FDBStats(); st.Live != 4 || st.Refused == 0 {
		t.Errorf("table stats are %+v, want 4 live and some refused", st)
	}
	h.send(b, eth(10, 1, 60, 1), eth(15, 1, 60, 2))
	h.expect(c, eth(15, 1, 60, 2)) // not learned: flooded
	h.expect(a, eth(10, 1, 60, 1), eth(15, 1, 60, 2))
}

// TestMixedBatch sorts a batch for several receivers, and keeps for each the
// order of unicast and flooded frames.
func TestMixedBatch(t *testing.T) {
	h := newHost(t, vale.Config{})
	var cs []*vale.Client
	for i := range 5 {
		cs = append(cs, h.connect("vale-1:p"+string(rune('0'+i))))
	}
	for i, c := range cs {
		h.send(c, eth(everybody, i, 60, 0))
	}
	for _, c := range cs {
		received(c)
	}
	var batch [][]byte
	want := make([][][]byte, len(cs))
	for k := range vale.MaxBatch {
		to := k*7%6 - 1 // everybody, 0 (the sender), 1, 2, 3, 4
		f := eth(to, 0, 60+k%200, uint32(k))
		batch = append(batch, f)
		for i := range want {
			if i != 0 && (to == i || to == everybody) {
				want[i] = append(want[i], f)
			}
		}
	}
	h.send(cs[0], batch...)
	for i, c := range cs {
		h.expect(c, want[i]...)
	}
	h.balanced()
}

// TestPieces sends frames cut in pieces at all places.
func TestPieces(t *testing.T) {
	h := newHost(t, vale.Config{})
	a, b, c := h.connect("vale-1:a"), h.connect("vale-1:b"), h.connect("vale-1:c")
	f := eth(everybody, 1, 90, 7)
	for i := range len(f) + 1 {
		for j := i; j <= len(f); j += 11 {
			h.batch.Reset()
			h.batch.AddPieces(frame.VnetHdr{}, [][]byte{f[:i], f[i:j], nil, f[j:]})
			h.batch.Add(frame.VnetHdr{}, f)
			if err := a.Send(h.batch); err != nil {
				t.Fatal(err)
			}
			h.expect(b, f, f)
			h.expect(c, f, f)
		}
	}
	long := eth(everybody, 1, frame.MaxLen, 8)
	h.batch.Reset()
	h.batch.AddPieces(frame.VnetHdr{}, slices.Collect(slices.Chunk(long, 4096)))
	if err := a.Send(h.batch); err != nil {
		t.Fatal(err)
	}
	h.expect(b, long)
	h.balanced()
}

// TestDropReasons provokes each reason that needs no fault and no offload.
func TestDropReasons(t *testing.T) {
	quiet := func(h *host) (a, b *vale.Client) { return h.connect("vale-1:a"), h.connect("vale-1:b") }
	known := func(h *host) (a, b *vale.Client) {
		a, b = quiet(h)
		h.send(b, eth(everybody, 2, 60, 0))
		received(a)
		return a, b
	}
	unicast := eth(2, 1, 60, 1)
	for _, c := range []struct {
		reason   vale.Reason
		receiver bool // counted at the receiving port too
		run      func(h *host) (from, to *vale.Client)
	}{
		{vale.DropRunt, false, func(h *host) (a, b *vale.Client) {
			a, b = quiet(h)
			h.send(a, make([]byte, 13))
			return a, b
		}},
		{vale.DropTooLong, false, func(h *host) (a, b *vale.Client) {
			a, b = quiet(h)
			h.send(a, make([]byte, frame.MaxLen+1))
			return a, b
		}},
		{vale.DropTooLong, true, func(h *host) (a, b *vale.Client) {
			a, b = known(h)
			if err := b.Port().SetMTU(1500); err != nil {
				h.Fatal(err)
			}
			h.send(a, eth(2, 1, 1515, 0))
			return a, b
		}},
		{vale.DropPortDown, false, func(h *host) (a, b *vale.Client) {
			a, b = known(h)
			a.Port().SetUp(false)
			h.send(a, unicast)
			return a, b
		}},
		{vale.DropNoReceiver, false, func(h *host) (a, b *vale.Client) {
			a, b = quiet(h)
			b.Port().SetUp(false)
			h.send(a, unicast)
			return a, b
		}},
		{vale.DropLinkDown, true, func(h *host) (a, b *vale.Client) {
			a, b = known(h)
			if err := b.Port().AddStatic(mac(2)); err != nil {
				h.Fatal(err)
			}
			b.Port().SetUp(false)
			h.send(a, unicast)
			return a, b
		}},
		{vale.DropRingFull, true, func(h *host) (a, b *vale.Client) {
			a, b = h.connect("vale-1:a"), h.connectWith("vale-1:b", vale.ClientConfig{Slots: 4})
			h.send(a, unicast, unicast, unicast, unicast, unicast)
			return a, b
		}},
		{vale.DropNoFit, true, func(h *host) (a, b *vale.Client) {
			a, b = h.connect("vale-1:a"), h.connectWith("vale-1:b", vale.ClientConfig{Slots: 4, Bytes: 1024})
			h.send(a, eth(2, 1, 1025, 0))
			return a, b
		}},
	} {
		t.Run(c.reason.String(), func(t *testing.T) {
			h := newHost(t, vale.Config{})
			from, to := c.run(h)
			var want, none [vale.NumReasons]uint64
			want[c.reason] = 1
			if got := from.Port().Counters().InDrops; got != want {
				t.Errorf("the sender's drops are %v, want one for %v", got, c.reason)
			}
			if !c.receiver {
				want = none
			}
			if got := to.Port().Counters().OutDrops; got != want {
				t.Errorf("the receiver's drops are %v, want %v", got, want)
			}
			h.balanced()
		})
	}
}

func TestReasonNames(t *testing.T) {
	seen := map[string]bool{"": true, "unknown": true}
	for _, r := range vale.Reasons() {
		if seen[r.String()] {
			t.Errorf("reason %d has no name of its own: %q", r, r)
		}
		seen[r.String()] = true
	}
	if s := vale.NumReasons.String(); s != "unknown" {
		t.Errorf("a reason that does not exist is called %q", s)
	}
}
