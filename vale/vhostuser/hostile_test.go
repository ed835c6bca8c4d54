package vhostuser_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/vale-vmnet/vale-vmnet/vale"
	"github.com/vale-vmnet/vale-vmnet/vale/vhostuser/guestmem"
	"github.com/vale-vmnet/vale-vmnet/vale/vhostuser/vhostproto"
	"github.com/vale-vmnet/vale-vmnet/vale/vhostuser/vhosttest"
)

// attack does something that no honest guest does. want is part of the reason
// that the session must end for.
type attack struct {
	name string
	do   func(t *testing.T, g *vhosttest.Guest)
	want string
}

// offer publishes a chain that begins with d in descriptor 0.
func offer(t *testing.T, r *vhosttest.Ring, d ...vhosttest.Desc) {
	t.Helper()
	for i, d := range d {
		r.SetDesc(i, d)
	}
	if err := r.Offer(0); err != nil {
		t.Fatal(err)
	}
}

func buffer(t *testing.T, g *vhosttest.Guest, n int) uint64 {
	t.Helper()
	gpa, _, err := g.Alloc(n)
	if err != nil {
		t.Fatal(err)
	}
	return gpa
}

// ringAttacks hit the transmit ring.
func ringAttacks() []attack {
	type D = vhosttest.Desc
	return []attack{
		{"descriptor index out of range", func(t *testing.T, g *vhosttest.Guest) {
			if err := g.Tx[0].Offer(9999); err != nil {
				t.Fatal(err)
			}
		}, "descriptor index 9999"},
		{"next out of range", func(t *testing.T, g *vhosttest.Guest) {
			offer(t, g.Tx[0].Ring, D{Addr: buffer(t, g, 64), Len: 64, Flags: vhosttest.DescNext, Next: 5000})
		}, "descriptor index 5000"},
		{"chain loops", func(t *testing.T, g *vhosttest.Guest) {
			offer(t, g.Tx[0].Ring, D{Addr: buffer(t, g, 64), Len: 64, Flags: vhosttest.DescNext, Next: 0})
		}, "loop"},
		{"empty chain loops", func(t *testing.T, g *vhosttest.Guest) {
			offer(t, g.Tx[0].Ring, D{Addr: buffer(t, g, 64), Flags: vhosttest.DescNext, Next: 1}, D{Flags: vhosttest.DescNext})
		}, "loop"},
		{"indirect table loops", func(t *testing.T, g *vhosttest.Guest) {
			table, err := g.Table(D{Addr: buffer(t, g, 64), Len: 64, Flags: vhosttest.DescNext, Next: 0})
			if err != nil {
				t.Fatal(err)
			}
			offer(t, g.Tx[0].Ring, D{Addr: table, Len: 16, Flags: vhosttest.DescIndirect})
		}, "loop"},
		{"indirect in indirect", func(t *testing.T, g *vhosttest.Guest) {
			table, err := g.Table(D{Addr: buffer(t, g, 64), Len: 64, Flags: vhosttest.DescIndirect})
			if err != nil {
				t.Fatal(err)
			}
			offer(t, g.Tx[0].Ring, D{Addr: table, Len: 16, Flags: vhosttest.DescIndirect})
		}, "inside an indirect"},
		{"indirect of odd length", func(t *testing.T, g *vhosttest.Guest) {
			offer(t, g.Tx[0].Ring, D{Addr: buffer(t, g, 64), Len: 17, Flags: vhosttest.DescIndirect})
		}, "indirect table of 17"},
		{"indirect table of 4 GiB", func(t *testing.T, g *vhosttest.Guest) {
			offer(t, g.Tx[0].Ring, D{Addr: buffer(t, g, 64), Len: 0xffff_fff0, Flags: vhosttest.DescIndirect})
		}, "not in guest memory"},
		{"buffer outside memory", func(t *testing.T, g *vhosttest.Guest) {
			offer(t, g.Tx[0].Ring, D{Addr: 1 << 50, Len: 64})
		}, "not in guest memory"},
		{"buffer wraps", func(t *testing.T, g *vhosttest.Guest) {
			offer(t, g.Tx[0].Ring, D{Addr: ^uint64(0) - 10, Len: 64})
		}, "not in guest memory"},
		{"buffer crosses the end", func(t *testing.T, g *vhosttest.Guest) {
			r := g.Regions()[0]
			offer(t, g.Tx[0].Ring, D{Addr: r.GuestAddr + r.Size - 10, Len: 64})
		}, "not in guest memory"},
		{"wrong direction", func(t *testing.T, g *vhosttest.Guest) {
			offer(t, g.Tx[0].Ring, D{Addr: buffer(t, g, 64), Len: 64, Flags: vhosttest.DescWrite})
		}, "wrong direction"},
		{"shorter than the header", func(t *testing.T, g *vhosttest.Guest) {
			offer(t, g.Tx[0].Ring, D{Addr: buffer(t, g, 64), Len: 5})
		}, "frame of 5 bytes"},
		{"longer than any frame", func(t *testing.T, g *vhosttest.Guest) {
			at := buffer(t, g, 1<<20)
			offer(t, g.Tx[0].Ring, D{Addr: at, Len: 12, Flags: vhosttest.DescNext, Next: 1}, D{Addr: at, Len: 1 << 20})
		}, "frame of 1048588 bytes"},
		{"available index jumps", func(t *testing.T, g *vhosttest.Guest) {
			g.Tx[0].SetAvailIdx(g.Tx[0].AvailIdx() + 1000)
			if err := g.Tx[0].Kick(); err != nil {
				t.Fatal(err)
			}
		}, "1000 entries ahead"},
		{"available index goes back", func(t *testing.T, g *vhosttest.Guest) {
			g.Tx[0].SetAvailIdx(g.Tx[0].AvailIdx() - 1)
			if err := g.Tx[0].Kick(); err != nil {
				t.Fatal(err)
			}
		}, "65535 entries ahead"},
		{"memory is truncated", func(t *testing.T, g *vhosttest.Guest) {
			if err := g.Truncate(0, 0); err != nil {
				t.Fatal(err)
			}
			if err := g.Tx[0].Kick(); err != nil {
				t.Fatal(err)
			}
		}, "memory went away"},
	}
}

// receiveAttacks prepare the receive ring; the frame that a neighbour floods
// meets them.
func receiveAttacks() []attack {
	type D = vhosttest.Desc
	all := func(d D) func(*testing.T, *vhosttest.Guest) {
		return func(t *testing.T, g *vhosttest.Guest) {
			r := g.Rx[0]
			for i := range r.Size() {
				r.SetDesc(i, d)
			}
		}
	}
	return []attack{
		{"receive buffer not writable", func(t *testing.T, g *vhosttest.Guest) {
			all(D{Addr: buffer(t, g, 2048), Len: 2048})(t, g)
		}, "wrong direction"},
		{"receive buffer outside memory", all(D{Addr: 1 << 50, Len: 2048, Flags: vhosttest.DescWrite}), "not in guest memory"},
		{"receive chain loops", func(t *testing.T, g *vhosttest.Guest) {
			all(D{Addr: buffer(t, g, 64), Len: 1, Flags: vhosttest.DescWrite | vhosttest.DescNext})(t, g)
		}, "loop"},
		{"receive buffer empty", all(D{Flags: vhosttest.DescWrite}), "empty buffer"},
		{"receive index out of range", func(t *testing.T, g *vhosttest.Guest) {
			for i := range g.Rx[0].Size() {
				g.Rx[0].SetAvail(i, 4000)
			}
		}, "descriptor index 4000"},
		{"receive index jumps", func(t *testing.T, g *vhosttest.Guest) {
			g.Rx[0].SetAvailIdx(30000)
		}, "entries ahead"},
		{"receive memory truncated", func(t *testing.T, g *vhosttest.Guest) {
			if err := g.Truncate(0, 0); err != nil {
				t.Fatal(err)
			}
		}, "memory went away"},
	}
}

// messageAttacks hit the connection.
func messageAttacks() []attack {
	send := func(req vhostproto.Request, body vhostproto.Body, fds ...int) func(*testing.T, *vhosttest.Guest) {
		return func(t *testing.T, g *vhosttest.Guest) {
			if err := g.Conn().Send(req, 0, body, fds...); err != nil {
				t.Fatal(err)
			}
		}
	}
	raw := func(b string, closing bool) func(*testing.T, *vhosttest.Guest) {
		return func(t *testing.T, g *vhosttest.Guest) {
			if _, err := g.Conn().Socket().Write([]byte(b)); err != nil {
				t.Fatal(err)
			}
			if closing {
				g.Conn().Close()
			}
		}
	}
	region := guestmem.Region{GuestAddr: 1 << 40, UserAddr: 1 << 40, Size: 4096}
	return []attack{
		{"noise", raw(strings.Repeat("\xa5\x5b", 100), false), "too long"},
		{"version 0", raw("\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00", false), "version"},
		{"payload of 4 GiB", raw("\x01\x00\x00\x00\x01\x00\x00\x00\xff\xff\xff\xff", false), "too long"},
		{"half a header", raw("\x01\x00\x00", true), io.ErrUnexpectedEOF.Error()},
		{"half a payload", raw("\x02\x00\x00\x00\x01\x00\x00\x00\x08\x00\x00\x00\x01", true), io.ErrUnexpectedEOF.Error()},
		{"features not offered", send(vhostproto.SetFeatures, vhostproto.U64(1<<34)), "RING_PACKED"},
		{"protocol features not offered", send(vhostproto.SetProtocolFeatures, vhostproto.U64(1<<63)), "bit 63"},
		{"ring size not a power of two", send(vhostproto.SetVringNum, vhostproto.VringState{Num: 1000}), "1000"},
		{"ring larger than taken", send(vhostproto.SetVringNum, vhostproto.VringState{Num: 32768}), "size 32768"},
		{"ring that does not exist", send(vhostproto.SetVringNum, vhostproto.VringState{Index: 200, Num: 256}), "ring 200"},
		{"ring outside memory", send(vhostproto.SetVringAddr, vhostproto.VringAddr{Desc: 16, Avail: 1024, Used: 4096}), "not in guest memory"},
		{"ring misaligned", send(vhostproto.SetVringAddr, vhostproto.VringAddr{Desc: 8}), "multiple of 16"},
		{"kick is not an eventfd", send(vhostproto.SetVringKick, vhostproto.VringFile{}, int(os.Stderr.Fd())), "want an eventfd"},
		{"ring to be polled for ever", send(vhostproto.SetVringKick, vhostproto.VringFile{Index: 1, NoFD: true}), "without an eventfd"},
		{"kick without descriptor", send(vhostproto.SetVringKick, vhostproto.VringFile{}), "descriptors"},
		{"dirty log", send(vhostproto.SetLogBase, vhostproto.Log{Size: 4096}), "not supported"},
		{"IOTLB", send(vhostproto.IOTLBMsg, vhostproto.IOTLB{Size: 4096}), "not supported"},
		{"memory twice", func(t *testing.T, g *vhosttest.Guest) {
			send(vhostproto.AddMemReg, vhostproto.MemRegion{Region: g.Regions()[0]}, g.Tx[0].KickFD())(t, g)
		}, "overlap"},
		{"memory is an eventfd", func(t *testing.T, g *vhosttest.Guest) {
			send(vhostproto.AddMemReg, vhostproto.MemRegion{Region: region}, g.Tx[0].KickFD())(t, g)
		}, "cannot be guest memory"},
		{"memory wraps", func(t *testing.T, g *vhosttest.Guest) {
			r := region
			r.GuestAddr = ^uint64(0) - 100
			send(vhostproto.AddMemReg, vhostproto.MemRegion{Region: r}, g.Tx[0].KickFD())(t, g)
		}, "overflow"},
		{"unknown memory removed", send(vhostproto.RemMemReg, vhostproto.MemRegion{Region: region}), "no such region"},
	}
}

// TestHostileGuests lets a guest attack while its neighbours exchange frames.
// It alone loses its link, for a reason that names what it did, and it may
// come back.
func TestHostileGuests(t *testing.T) {
	b := newBench(t)
	defer b.close(t)
	left, right := b.plug(t, "a", vhosttest.Config{}), b.plug(t, "b", vhosttest.Config{})
	defer left.Close()
	defer right.Close()
	ping(t, left, right)
	flood := vhosttest.Frame{Data: bytes.Repeat([]byte{0xff}, 6)}
	flood.Data = append(flood.Data, frameTo(1, 1, make([]byte, 60))[6:]...)

	run := func(a attack, wake func(*testing.T)) {
		t.Run(a.name, func(t *testing.T) {
			g := b.plug(t, "m", vhosttest.Config{})
			defer unplug(t, b, "m", g)
			a.do(t, g)
			wake(t)
			waitFor(t, "the end of the session", func() bool { return b.port(t, "m").Status().Link == nil })
			waitFor(t, "the reason", func() bool { return b.endpoints["m"].LastError() != nil })
			if err := b.endpoints["m"].LastError(); !strings.Contains(err.Error(), a.want) {
				t.Errorf("the session ended for %q, want a word of %q", err, a.want)
			}
			ping(t, left, right)
			for _, name := range []string{"a", "b", "m"} {
				if c := b.port(t, name).Counters(); c.InCopies != c.InDelivered+vale.Sum(c.InDrops) {
					t.Errorf("port %s: %d copies, %d delivered, %d dropped", name, c.InCopies, c.InDelivered, vale.Sum(c.InDrops))
				}
			}
			for name, e := range map[string]interface{ LastError() error }{"a": b.endpoints["a"], "b": b.endpoints["b"]} {
				if err := e.LastError(); err != nil {
					t.Fatalf("neighbour %s lost its link: %v", name, err)
				}
			}
		})
	}
	for _, a := range ringAttacks() {
		run(a, func(*testing.T) {})
	}
	for _, a := range receiveAttacks() {
		run(a, func(t *testing.T) {
			if err := left.Tx[0].SendAll(limit, flood); err != nil {
				t.Fatal(err)
			}
			// The honest neighbour gets its copy whatever the hostile one did.
			got, err := right.Rx[0].Recv(limit)
			if err != nil || !bytes.Equal(got.Data, flood.Data) {
				t.Fatalf("neighbour received %d bytes, %v", len(got.Data), err)
			}
		})
	}
	for _, a := range messageAttacks() {
		run(a, func(*testing.T) {})
	}
}

// block makes the next write to an eventfd wait for ever.
func block(t *testing.T, fd int) {
	t.Helper()
	// Let the calls of the start pass, then fill the counter.
	var buf [8]byte
	if _, err := unix.Read(fd, buf[:]); err != nil && !errors.Is(err, unix.EAGAIN) {
		t.Fatal(err)
	}
	if _, err := unix.Write(fd, []byte{0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}); err != nil {
		t.Fatal(err)
	}
	if err := unix.SetNonblock(fd, false); err != nil {
		t.Fatal(err)
	}
}

// TestFullCallDoesNotBlock fills the counter of a call eventfd and makes it
// blocking, so that a plain write to it would wait for ever.
func TestFullCallDoesNotBlock(t *testing.T) {
	b := newBench(t)
	defer b.close(t)
	left, right := b.plug(t, "a", vhosttest.Config{}), b.plug(t, "b", vhosttest.Config{})
	defer left.Close()
	defer right.Close()
	ping(t, left, right)
	g := b.plug(t, "m", vhosttest.Config{Features: ^vhostproto.FRingEventIdx})
	defer unplug(t, b, "m", g)
	block(t, g.Tx[0].CallFD())
	if _, err := g.Tx[0].Send(vhosttest.Frame{Data: frameTo(1, 3, make([]byte, 60))}); err != nil {
		t.Fatal(err)
	}
	if _, err := left.Rx[0].Recv(limit); err != nil {
		t.Fatal(err)
	}
	ping(t, left, right)
	waitFor(t, "the end of the session", func() bool { return b.endpoints["m"].LastError() != nil })
	if err := b.endpoints["m"].LastError(); !strings.Contains(err.Error(), "call eventfd") {
		t.Errorf("the session ended for %q", err)
	}
}

// TestHangingUpInABlockedCall closes the connection while a worker waits in a
// call. The port must know that its guest stalled a worker, not that it left.
func TestHangingUpInABlockedCall(t *testing.T) {
	b := newBench(t)
	defer b.close(t)
	left := b.plug(t, "a", vhosttest.Config{})
	defer left.Close()
	g := b.plug(t, "m", vhosttest.Config{Features: ^vhostproto.FRingEventIdx})
	defer g.Close()
	block(t, g.Tx[0].CallFD())
	if _, err := g.Tx[0].Send(vhosttest.Frame{Data: frameTo(1, 3, make([]byte, 60))}); err != nil {
		t.Fatal(err)
	}
	// The call follows the delivery, whatever happens to the session.
	if _, err := left.Rx[0].Recv(limit); err != nil {
		t.Fatal(err)
	}
	g.Conn().Close()
	waitFor(t, "the end of the session", func() bool { return b.endpoints["m"].LastError() != nil })
	if err := b.endpoints["m"].LastError(); !strings.Contains(err.Error(), "call eventfd") {
		t.Errorf("the session ended for %q", err)
	}
}

// TestBlockedCallAndError breaks a receive ring whose first buffer is good, so
// that the delivery ends with a call, and blocks the ring's call and its error
// eventfd.
func TestBlockedCallAndError(t *testing.T) {
	b := newBench(t)
	defer b.close(t)
	left, right := b.plug(t, "a", vhosttest.Config{}), b.plug(t, "b", vhosttest.Config{})
	defer left.Close()
	defer right.Close()
	ping(t, left, right)
	g := b.plug(t, "m", vhosttest.Config{Features: ^vhostproto.FRingEventIdx})
	defer unplug(t, b, "m", g)
	g.Rx[0].SetAvail(1, 4000)
	block(t, g.Rx[0].CallFD())
	block(t, g.Rx[0].ErrFD())
	flood := vhosttest.Frame{Data: frameTo(0, 1, make([]byte, 60))}
	copy(flood.Data, bytes.Repeat([]byte{0xff}, 6))
	if _, err := left.Tx[0].Send(flood, flood); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := right.Rx[0].Recv(limit); err != nil {
			t.Fatal(err)
		}
	}
	waitFor(t, "the end of the session", func() bool { return b.endpoints["m"].LastError() != nil })
	if err := left.Tx[0].Drain(limit); err != nil {
		t.Fatal(err)
	}
	ping(t, left, right)
}

// TestFaultKeepsNoDescriptor has the memory of a ring vanish before a message
// that brings a descriptor and starts the ring again.
func TestFaultKeepsNoDescriptor(t *testing.T) {
	b := newBench(t)
	defer b.close(t)
	b.path(t, "m")
	before := countFDs(t)
	g := b.plug(t, "m", vhosttest.Config{Regions: 1})
	// The transmit ring stands still, so that no worker is the first to see.
	if err := g.Do(vhostproto.SetVringEnable, vhostproto.VringState{Index: 1}); err != nil {
		t.Fatal(err)
	}
	if err := g.Truncate(0, 0); err != nil {
		t.Fatal(err)
	}
	fd, err := unix.MemfdCreate("more", unix.MFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Ftruncate(fd, 1<<20); err != nil {
		t.Fatal(err)
	}
	more := vhostproto.MemRegion{Region: guestmem.Region{GuestAddr: 1 << 40, UserAddr: 1 << 46, Size: 1 << 20}}
	if err := g.Conn().Send(vhostproto.AddMemReg, 0, more, fd); err != nil {
		t.Fatal(err)
	}
	unix.Close(fd)
	waitFor(t, "the end of the session", func() bool { return b.endpoints["m"].LastError() != nil })
	if err := b.endpoints["m"].LastError(); !strings.Contains(err.Error(), "memory went away") {
		t.Errorf("the session ended for %q", err)
	}
	g.Close()
	if after := countFDs(t); after != before {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
}

// TestFaultAmidSegments takes the memory away from under one of the segments
// that the switch cuts for a guest without TSO. Those that the guest got before
// stay delivered.
func TestFaultAmidSegments(t *testing.T) {
	b := newBench(t)
	defer b.close(t)
	left := b.plug(t, "a", vhosttest.Config{})
	defer left.Close()
	g := b.plug(t, "m", vhosttest.Config{Features: ^vhostproto.NetFGuestTSO4})
	defer unplug(t, b, "m", g)
	if err := g.AddMemory(1 << 20); err != nil {
		t.Fatal(err)
	}
	gone := g.Regions()[1].GuestAddr
	// Each frame becomes three segments, and each segment takes a buffer.
	bad := g.Rx[0].Desc(int(g.Rx[0].Avail(4)))
	bad.Addr = gone
	g.Rx[0].SetDesc(int(g.Rx[0].Avail(4)), bad)
	if err := g.Truncate(1, 0); err != nil {
		t.Fatal(err)
	}
	f := tcp(9, 1, 3000)
	if _, err := left.Tx[0].Send(f, f); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the end of the session", func() bool { return b.endpoints["m"].LastError() != nil })
	if err := left.Tx[0].Drain(limit); err != nil {
		t.Fatal(err)
	}
	in, out := b.port(t, "a").Counters(), b.port(t, "m").Counters()
	if n := uint64(g.Rx[0].UsedIdx()); n != 3 || out.OutFrames != n || in.InDelivered != n {
		t.Errorf("the guest got %d segments; %d are counted out and %d delivered", n, out.OutFrames, in.InDelivered)
	}
}

func countFDs(t *testing.T) int {
	t.Helper()
	d, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(d)
}

// TestConnectionFlood opens many connections to a port that is in use. The
// endpoint must not hold a descriptor for each of them.
func TestConnectionFlood(t *testing.T) {
	const conns, held = 60, 8
	b := newBench(t)
	defer b.close(t)
	left, right := b.plug(t, "a", vhosttest.Config{}), b.plug(t, "b", vhosttest.Config{})
	defer left.Close()
	defer right.Close()
	before := countFDs(t)
	ended := make(chan error, conns)
	for range conns {
		sock, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: b.path(t, "a"), Net: "unix"})
		if err != nil {
			t.Fatal(err)
		}
		defer sock.Close()
		go func() {
			_, err := sock.Read(make([]byte, 1))
			ended <- err
		}()
	}
	for range conns {
		// One more while it is accepted.
		if n := countFDs(t) - before - conns; n > held+1 {
			t.Fatalf("the endpoint holds %d connections", n)
		}
		if err := <-ended; !errors.Is(err, io.EOF) {
			t.Errorf("a connection beyond the first ended with %v", err)
		}
	}
	ping(t, left, right)
}
