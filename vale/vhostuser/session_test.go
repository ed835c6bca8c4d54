package vhostuser_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/vale-vmnet/vale-vmnet/vale"
	"github.com/vale-vmnet/vale-vmnet/vale/poll"
	"github.com/vale-vmnet/vale-vmnet/vale/vhostuser"
	"github.com/vale-vmnet/vale-vmnet/vale/vhostuser/vhostproto"
	"github.com/vale-vmnet/vale-vmnet/vale/vhostuser/vhosttest"
)

// limit bounds every wait. Nothing comes near it unless something is broken.
const limit = 20 * time.Second

// tester is what both testing.T and rapid.T can do.
type tester interface {
	Helper()
	Fatal(...any)
	Fatalf(string, ...any)
	Errorf(string, ...any)
}

// bench is a switch with endpoints, in a directory of its own.
type bench struct {
	dir       string
	fabric    *vale.Fabric
	pool      *poll.Pool
	endpoints map[string]*vhostuser.Endpoint
}

func newBench(t tester) *bench {
	t.Helper()
	dir, err := os.MkdirTemp("", "vhost")
	if err != nil {
		t.Fatal(err)
	}
	pool, err := poll.NewPool(poll.Config{Workers: 1})
	if err != nil {
		t.Fatal(err)
	}
	return &bench{dir: dir, fabric: vale.New(vale.Config{}), pool: pool, endpoints: map[string]*vhostuser.Endpoint{}}
}

func (b *bench) close(t tester) {
	t.Helper()
	for _, e := range b.endpoints {
		e.Close()
	}
	b.pool.Close()
	b.fabric.Close()
	if err := os.RemoveAll(b.dir); err != nil {
		t.Errorf("clean up: %v", err)
	}
}

func (b *bench) port(t tester, name string) *vale.Port {
	t.Helper()
	n, err := vale.ParseName("vale-1:" + name)
	if err != nil {
		t.Fatal(err)
	}
	p, created, err := b.fabric.Open(n)
	if err != nil {
		t.Fatal(err)
	}
	if created {
		p.SetPersistent(true)
	}
	return p
}

// path is where the endpoint of a port listens; it listens from now on.
func (b *bench) path(t tester, name string) string {
	t.Helper()
	path := filepath.Join(b.dir, name)
	if b.endpoints[name] == nil {
		e, err := vhostuser.Listen(path, b.port(t, name), vhostuser.Options{Pool: b.pool})
		if err != nil {
			t.Fatal(err)
		}
		b.endpoints[name] = e
	}
	return path
}

// plug starts a guest on a port.
func (b *bench) plug(t tester, name string, cfg vhosttest.Config) *vhosttest.Guest {
	t.Helper()
	g, err := vhosttest.Dial(b.path(t, name), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Start(); err != nil {
		t.Fatalf("start guest %s: %v (session: %v)", name, err, b.endpoints[name].LastError())
	}
	return g
}

// mac is the address of guest i.
func mac(i byte) []byte { return []byte{2, 0, 0, 0, 0, i} }

func frameTo(dst, src byte, payload []byte) []byte {
	f := append(append([]byte{}, mac(dst)...), mac(src)...)
	return append(append(f, 0x88, 0xb5), payload...)
}

// exchange sends frames from one guest to another, a few at a time, and
// compares what arrives.
func exchange(t tester, from *vhosttest.Tx, to *vhosttest.Rx, frames ...vhosttest.Frame) {
	t.Helper()
	for i, f := range frames {
		if err := from.SendAll(limit, f); err != nil {
			t.Fatalf("send frame %d: %v", i, err)
		}
		got, err := to.Recv(limit)
		if err != nil {
			t.Fatalf("receive frame %d: %v", i, err)
		}
		if !bytes.Equal(got.Data, f.Data) {
			t.Fatalf("frame %d of %d bytes arrived as %d others", i, len(f.Data), len(got.Data))
		}
	}
	if err := from.Drain(limit); err != nil {
		t.Fatal(err)
	}
}

// ping sends a frame each way.
func ping(t tester, a, b *vhosttest.Guest) {
	t.Helper()
	exchange(t, a.Tx[0], b.Rx[0], vhosttest.Frame{Data: frameTo(2, 1, bytes.Repeat([]byte("ping"), 20))})
	exchange(t, b.Tx[0], a.Rx[0], vhosttest.Frame{Data: frameTo(1, 2, bytes.Repeat([]byte("pong"), 300))})
}

// waitFor polls a condition that another goroutine makes true.
func waitFor(t tester, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(limit); !cond(); {
		if time.Now().After(end) {
			t.Fatalf("%s did not happen", what)
		}
		time.Sleep(time.Millisecond)
	}
}

func TestHandshake(t *testing.T) {
	b := newBench(t)
	defer b.close(t)
	g := b.plug(t, "a", vhosttest.Config{Pairs: 2, MTU: 1500})
	defer g.Close()
	want := vhostproto.FVersion1 | vhostproto.FRingIndirectDesc | vhostproto.FRingEventIdx | vhostproto.NetFMrgRxbuf |
		vhostproto.NetFCsum | vhostproto.NetFGuestCsum | vhostproto.NetFHostTSO4 | vhostproto.NetFGuestTSO4 |
		vhostproto.NetFHostTSO6 | vhostproto.NetFGuestTSO6 | vhostproto.NetFHostECN | vhostproto.NetFHostUFO |
		vhostproto.NetFMQ | vhostproto.NetFStatus | vhostproto.NetFMTU | vhostproto.NetFGuestAnnounce
	if !g.Offered.Has(want) {
		t.Errorf("not offered: %v", (want &^ g.Offered).Names())
	}
	if g.MaxPairs < 16 || g.MaxMemSlots < 8 {
		t.Errorf("%d queue pairs, %d memory slots", g.MaxPairs, g.MaxMemSlots)
	}
	s := b.port(t, "a").Status()
	if s.Link == nil || s.Link.Queues != 2 || s.Link.PID != os.Getpid() {
		t.Errorf("link is %+v", s.Link)
	}
}

// TestTraffic passes frames both ways between guests with any features,
// memory, ring and descriptor layout.
func TestTraffic(t *testing.T) {
	b := newBench(t)
	defer b.close(t)
	features := []vhostproto.Features{vhostproto.FVersion1, vhostproto.FRingIndirectDesc, vhostproto.FRingEventIdx,
		vhostproto.NetFMrgRxbuf, vhostproto.NetFGuestCsum, vhostproto.NetFGuestTSO4 | vhostproto.NetFGuestCsum,
		vhostproto.FProtocolFeatures, vhostproto.NetFMQ}
	config := func(t *rapid.T, who string) vhosttest.Config {
		cfg := vhosttest.Config{RegionSize: 256 << 20}
		for _, f := range features {
			if rapid.Bool().Draw(t, who+" has "+strings.Join(f.Names(), "+")) {
				cfg.Features |= f
			}
		}
		if cfg.Features == 0 {
			cfg.Features = 1 << 63 // nothing that is offered
		}
		if rapid.Bool().Draw(t, who+" sends a plain table") {
			cfg.Protocol = vhostproto.ProtocolFMQ | vhostproto.ProtocolFReplyAck
		}
		cfg.NoAck = rapid.Bool().Draw(t, who+" wants no answers")
		cfg.RingSize = 1 << rapid.IntRange(3, 9).Draw(t, who+" ring")
		cfg.Regions = rapid.IntRange(1, 4).Draw(t, who+" regions")
		cfg.BufSize = rapid.IntRange(64, 4096).Draw(t, who+" transmit buffer")
		cfg.RxSegs = rapid.IntRange(1, 3).Draw(t, who+" receive segments")
		if cfg.Features.Has(vhostproto.FProtocolFeatures) {
			cfg.Pairs = rapid.IntRange(1, 3).Draw(t, who+" pairs")
		}
		return cfg
	}
	rapid.Check(t, func(t *rapid.T) {
		leftCfg, rightCfg := config(t, "left"), config(t, "right")
		left := b.plug(t, "a", leftCfg)
		defer unplug(t, b, "a", left)
		right := b.plug(t, "b", rightCfg)
		defer unplug(t, b, "b", right)
		frame := func(dst, src byte, cfg vhosttest.Config) vhosttest.Frame {
			// Without indirect tables a frame has to fit the ring.
			room := (cfg.RingSize-4)*cfg.BufSize - 30
			n := rapid.IntRange(46, min(1500, room)).Draw(t, "payload")
			f := vhosttest.Frame{Data: frameTo(dst, src, bytes.Repeat([]byte{byte(n), dst, src}, n)[:n])}
			f.Split = rapid.SliceOfN(rapid.IntRange(1, 300), 0, 3).Draw(t, "split")
			return f
		}
		for range 5 {
			for _, way := range []struct {
				from, to *vhosttest.Guest
				cfg      vhosttest.Config
				dst, src byte
			}{{left, right, leftCfg, 2, 1}, {right, left, rightCfg, 1, 2}} {
				exchange(t, way.from.Tx[0], way.to.Rx[0], frame(way.dst, way.src, way.cfg))
			}
		}
	})
}

// unplug ends a guest and waits until its port is free.
func unplug(t tester, b *bench, name string, g *vhosttest.Guest) {
	t.Helper()
	if err := g.Close(); err != nil {
		t.Errorf("close guest: %v", err)
	}
	waitFor(t, "detaching "+name, func() bool { return b.port(t, name).Status().Link == nil })
}

// tcp builds a TCP/IPv4 segment of n payload bytes whose checksum is left to
// the device.
func tcp(dst, src byte, n int) vhosttest.Frame {
	ip := make([]byte, 40+n)
	ip[0], ip[8], ip[9] = 0x45, 64, 6
	binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)))
	copy(ip[12:], []byte{10, 0, 0, src, 10, 0, 0, dst})
	var sum uint32
	for i := 0; i < 20; i += 2 {
		sum += uint32(binary.BigEndian.Uint16(ip[i:]))
	}
	binary.BigEndian.PutUint16(ip[10:], ^uint16(sum+sum>>16))
	ip[32], ip[33] = 5<<4, 0x10
	// The checksum field holds the sum of the pseudo header.
	sum = 10<<8 + uint32(src) + 10<<8 + uint32(dst) + 6 + uint32(20+n)
	binary.BigEndian.PutUint16(ip[36:], uint16(sum+sum>>16))
	for i := range n {
		ip[40+i] = byte(i * 7)
	}
	f := vhosttest.Frame{Data: frameTo(dst, src, nil)}
	f.Data = append(f.Data[:12], 8, 0)
	f.Data = append(f.Data, ip...)
	f.Hdr[0], f.Hdr[1] = 1, 1 // NEEDS_CSUM, GSO_TCPV4
	binary.LittleEndian.PutUint16(f.Hdr[2:], 54)
	binary.LittleEndian.PutUint16(f.Hdr[4:], 1448)
	binary.LittleEndian.PutUint16(f.Hdr[6:], 34)
	binary.LittleEndian.PutUint16(f.Hdr[8:], 16)
	return f
}

func TestOffloadPassesThrough(t *testing.T) {
	for _, mrg := range []bool{true, false} {
		t.Run(fmt.Sprintf("mergeable=%v", mrg), func(t *testing.T) {
			b := newBench(t)
			defer b.close(t)
			cfg := vhosttest.Config{}
			if !mrg {
				cfg.Features = ^vhostproto.NetFMrgRxbuf
			}
			left, right := b.plug(t, "a", cfg), b.plug(t, "b", cfg)
			defer left.Close()
			defer right.Close()
			f := tcp(2, 1, 60000)
			if err := left.Tx[0].SendAll(limit, f); err != nil {
				t.Fatal(err)
			}
			got, err := right.Rx[0].Recv(limit)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got.Data, f.Data) || !bytes.Equal(got.Hdr[:10], f.Hdr[:]) {
				t.Errorf("%d bytes with header % x arrived as %d with % x", len(f.Data), f.Hdr, len(got.Data), got.Hdr)
			}
			if (got.Buffers > 1) != mrg {
				t.Errorf("it took %d buffers", got.Buffers)
			}
		})
	}
}

func TestOffloadIsSegmentedForPlainGuests(t *testing.T) {
	b := newBench(t)
	defer b.close(t)
	left := b.plug(t, "a", vhosttest.Config{})
	defer left.Close()
	right := b.plug(t, "b", vhosttest.Config{Features: vhostproto.FVersion1 | vhostproto.FProtocolFeatures})
	defer right.Close()
	f := tcp(2, 1, 60000)
	if err := left.Tx[0].SendAll(limit, f); err != nil {
		t.Fatal(err)
	}
	var payload []byte
	for len(payload) < 60000 {
		got, err := right.Rx[0].Recv(limit)
		if err != nil {
			t.Fatal(err)
		}
		if len(got.Data) > 1514 || !bytes.Equal(got.Hdr[:10], make([]byte, 10)) {
			t.Fatalf("a segment of %d bytes with header % x", len(got.Data), got.Hdr)
		}
		payload = append(payload, got.Data[54:]...)
	}
	if !bytes.Equal(payload, f.Data[54:]) {
		t.Error("the stream changed on its way")
	}
}

func TestStopAndStart(t *testing.T) {
	b := newBench(t)
	defer b.close(t)
	left, right := b.plug(t, "a", vhosttest.Config{}), b.plug(t, "b", vhosttest.Config{})
	defer left.Close()
	defer right.Close()
	for range 5 {
		ping(t, left, right)
		if err := left.Stop(); err != nil {
			t.Fatal(err)
		}
		// Queued while the ring is stopped: goes out after the start.
		waiting := vhosttest.Frame{Data: frameTo(2, 1, []byte(strings.Repeat("later", 20)))}
		if _, err := left.Tx[0].Send(waiting); err != nil {
			t.Fatal(err)
		}
		for _, r := range left.Regions() {
			if err := left.Do(vhostproto.RemMemReg, vhostproto.MemRegion{Region: r}); err != nil {
				t.Fatal(err)
			}
		}
		if err := left.Start(); err != nil {
			t.Fatal(err)
		}
		got, err := right.Rx[0].Recv(limit)
		if err != nil || !bytes.Equal(got.Data, waiting.Data) {
			t.Fatalf("received %d bytes, %v", len(got.Data), err)
		}
	}
}

func TestMemoryHotplug(t *testing.T) {
	for name, protocol := range map[string]vhostproto.ProtocolFeatures{
		"slots": 0,
		"table": ^vhostproto.ProtocolFConfigureMemSlots,
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			defer b.close(t)
			left := b.plug(t, "a", vhosttest.Config{Protocol: protocol})
			defer left.Close()
			right := b.plug(t, "b", vhosttest.Config{})
			defer right.Close()
			for range 3 {
				if err := left.AddMemory(16 << 20); err != nil {
					t.Fatal(err)
				}
				ping(t, left, right)
			}
			for range 3 {
				if err := left.RemoveMemory(); err != nil {
					t.Fatal(err)
				}
				ping(t, left, right)
			}
		})
	}
}

// TestAttachDetachLeaksNothing counts descriptors, goroutines and mappings
// over many lives of a guest.
func TestAttachDetachLeaksNothing(t *testing.T) {
	b := newBench(t)
	defer b.close(t)
	cycle := func(i int) {
		g := b.plug(t, "a", vhosttest.Config{Pairs: 1 + i%3, Regions: 1 + i%2})
		if i%4 == 1 {
			if err := g.Stop(); err != nil {
				t.Fatal(err)
			}
		}
		unplug(t, b, "a", g)
	}
	count := func() (fds, goroutines, maps int) {
		list, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile("/proc/self/maps")
		if err != nil {
			t.Fatal(err)
		}
		return len(list), runtime.NumGoroutine(), strings.Count(string(text), "memfd:vhosttest")
	}
	for i := range 5 {
		cycle(i)
	}
	fds, goroutines, maps := count()
	for i := range 200 {
		cycle(i)
	}
	waitFor(t, "the end of all sessions' goroutines and descriptors", func() bool {
		f, g, m := count()
		return f <= fds && g <= goroutines && m <= maps
	})
}
