package vale_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vale-vmnet/vale-vmnet/vale"
	"github.com/vale-vmnet/vale-vmnet/vale/frame"
)

func TestPortLife(t *testing.T) {
	h := newHost(t, vale.Config{})
	a := h.connect("vale-1:a")
	if _, err := a.Port().Connect(vale.ClientConfig{}); !errors.Is(err, vale.ErrBusy) {
		t.Errorf("second link: %v, want ErrBusy", err)
	}
	st := a.Port().Status()
	if !st.Up || !st.Ready || st.Link == nil || st.Link.Kind != "in-process" || st.Since.IsZero() {
		t.Errorf("status of a connected port: %+v", st)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if err := a.Close(); !errors.Is(err, vale.ErrClosed) {
		t.Errorf("second close: %v, want ErrClosed", err)
	}
	if err := a.Send(h.batch); !errors.Is(err, vale.ErrClosed) {
		t.Errorf("send after close: %v, want ErrClosed", err)
	}
	if _, err := a.Recv(t.Context(), 1); !errors.Is(err, vale.ErrClosed) {
		t.Errorf("receive after close: %v, want ErrClosed", err)
	}
	// An ephemeral port goes with its link, a switch with its last port.
	if p := h.Port(vale.Name{Switch: "vale-1", Port: "a"}); p != nil {
		t.Error("the port is still there")
	}
	if h.Switch("vale-1") != nil || len(h.Switches()) != 0 {
		t.Error("the switch is still there")
	}
	if _, err := a.Port().Connect(vale.ClientConfig{}); !errors.Is(err, vale.ErrGone) {
		t.Errorf("connect to a deleted port: %v, want ErrGone", err)
	}
	if err := a.Port().AddStatic(mac(1)); !errors.Is(err, vale.ErrGone) {
		t.Errorf("pin to a deleted port: %v, want ErrGone", err)
	}
}

func TestPersistentPort(t *testing.T) {
	h := newHost(t, vale.Config{})
	p := h.open("vale-1:a")
	p.SetPersistent(true)
	for range 3 {
		c := h.connect("vale-1:a")
		if c.Port() != p {
			t.Fatal("a second port of the same name")
		}
		c.Close()
	}
	c := h.connect("vale-1:a")
	waits := make(chan error)
	go func() {
		_, err := c.Recv(context.Background(), 1)
		waits <- err
	}()
	if l := h.Delete(p); l != vale.Link(c) {
		t.Errorf("deleting the port gave the link %v", l)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if err := <-waits; !errors.Is(err, vale.ErrClosed) {
		t.Errorf("a waiting Recv ended with %v, want ErrClosed", err)
	}
	if h.Delete(p) != nil {
		t.Error("deleting again gave a link")
	}
}

func TestBadMTU(t *testing.T) {
	p := newHost(t, vale.Config{}).open("vale-1:a")
	for _, mtu := range []int{-1, 1, 67, 65536} {
		if err := p.SetMTU(mtu); err == nil {
			t.Errorf("MTU %d was taken", mtu)
		}
	}
	for _, mtu := range []int{68, 65535, 0} {
		if err := p.SetMTU(mtu); err != nil || p.MTU() != mtu {
			t.Errorf("MTU %d: %v, now %d", mtu, err, p.MTU())
		}
	}
}

func TestBadClientConfig(t *testing.T) {
	h := newHost(t, vale.Config{})
	for _, cfg := range []vale.ClientConfig{{Slots: 3}, {Slots: -4}, {Bytes: 100}, {Bytes: 32}, {Bytes: 1 << 32}} {
		if _, err := h.open("vale-1:a").Connect(cfg); err == nil || !strings.Contains(err.Error(), "powers of two") {
			t.Errorf("%+v: %v", cfg, err)
		}
	}
}

func TestLimits(t *testing.T) {
	h := newHost(t, vale.Config{MaxSwitches: 2, MaxPorts: 3})
	for _, name := range []string{"vale-1:a", "vale-1:b", "vale-1:c", "vale-2:a"} {
		h.open(name)
	}
	for name, says := range map[string]string{"vale-1:d": "max_ports", "vale-3:a": "max_switches"} {
		n, err := vale.ParseName(name)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := h.Open(n); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("open %s: %v; want it to say %s", name, err, says)
		}
	}
	// A switch makes room at once when its last port goes.
	for range 100 {
		h.Delete(h.open("vale-2:a"))
		h.Delete(h.open("vale-3:a"))
	}
}

// TestThousandsOfPorts also holds forwarding to the right tenants when the
// indices of deleted ports are in use again.
func TestThousandsOfPorts(t *testing.T) {
	const switches, each = 10, 500
	h := newHost(t, vale.Config{})
	small := vale.ClientConfig{Slots: 4, Bytes: 1024}
	const listener = 1_000_000
	var cs [switches][each]*vale.Client
	for i := range cs {
		l := h.connectWith(fmt.Sprintf("vale-%d:listener", i), small)
		defer l.Close()
		if err := l.Port().AddStatic(mac(listener)); err != nil {
			t.Fatal(err)
		}
		for j := range cs[i] {
			cs[i][j] = h.connectWith(fmt.Sprintf("vale-%d:p%d", i, j), small)
		}
	}
	for round := range 2 {
		for i := range cs {
			// Every third port goes, and another comes in its place.
			for j := round; j < each; j += 3 {
				if err := cs[i][j].Close(); err != nil {
					t.Fatal(err)
				}
			}
			for j := round; j < each; j += 3 {
				cs[i][j] = h.connectWith(fmt.Sprintf("vale-%d:r%d-%d", i, round, j), small)
			}
			// All tell the switch who they are, then each sends to its
			// neighbour alone.
			for j, c := range cs[i] {
				h.send(c, eth(listener, j, 60, 0))
			}
			for j, c := range cs[i] {
				h.send(c, eth((j+1)%each, j, 60, uint32(round)))
			}
			for j, c := range cs[i] {
				h.expect(c, eth(j, (j+each-1)%each, 60, uint32(round)))
			}
		}
	}
	for i := range cs {
		for _, c := range cs[i] {
			c.Close()
		}
	}
	for _, s := range h.Switches() {
		if n := len(s.FDB()); n != 1 {
			t.Errorf("%s knows %d stations; only that of its last port should be left", s.Name(), n)
		}
	}
}

// TestComeAndGo opens, floods, deletes and flips ports from many goroutines.
func TestComeAndGo(t *testing.T) {
	before := runtime.NumGoroutine()
	h := newHost(t, vale.Config{MaxPorts: 6})
	stay := h.connect("vale-1:stay")
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			b := vale.NewBatch()
			for k := range 150 {
				c := h.connectWith(fmt.Sprintf("vale-1:g%d", g), vale.ClientConfig{Slots: 8, Bytes: 2048})
				for j := range 8 {
					b.Reset()
					b.Add(frame.VnetHdr{}, eth(everybody, g, 60, uint32(k)))
					b.Add(frame.VnetHdr{}, eth(j%5, g, 60, uint32(k)))
					if err := c.Send(b); err != nil {
						t.Errorf("send: %v", err)
						return
					}
					c.Port().SetUp(j%3 != 0)
				}
				p := c.Port()
				if err := c.Close(); err != nil {
					t.Errorf("close: %v", err)
				}
				if n := p.Counters(); n.InFrames != 16 || n.InCopies != n.InDelivered+vale.Sum(n.InDrops) {
					t.Errorf("books of a closed port: %+v", n)
				}
			}
		})
	}
	wg.Wait()
	received(stay)
	if n := len(h.Switch("vale-1").Ports()); n != 1 {
		t.Errorf("%d ports are left, want 1", n)
	}
	if n := len(h.Switch("vale-1").FDB()); n != 0 {
		t.Errorf("%d stations are left of ports that are gone", n)
	}
	for deadline := time.Now().Add(10 * time.Second); runtime.NumGoroutine() > before+1; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d goroutines, %d before", runtime.NumGoroutine(), before)
		}
	}
}

// TestAgeing runs on a clock of its own.
func TestAgeing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := vale.New(vale.Config{MACAge: 10 * time.Second})
		defer f.Close()
		h := &host{t, f, vale.NewBatch()}
		a, b, c := h.connect("vale-1:a"), h.connect("vale-1:b"), h.connect("vale-1:c")
		if err := c.Port().AddStatic(mac(3)); err != nil {
			t.Fatal(err)
		}
		h.send(b, eth(everybody, 2, 60, 0))
		received(a)
		received(c)
		toB, toC := eth(2, 1, 60, 1), eth(3, 1, 60, 1)
		known := func(want bool) {
			t.Helper()
			h.send(a, toB, toC)
			h.expect(b, toB)
			if want {
				h.expect(c, toC)
			} else {
				h.expect(c, toB, toC)
			}
		}
		time.Sleep(9 * time.Second)
		known(true)
		h.send(b, eth(1, 2, 60, 2)) // heard again: young again
		received(a)
		time.Sleep(9 * time.Second)
		known(true)
		time.Sleep(3 * time.Second)
		known(false)
		time.Sleep(20 * time.Second) // a sweep has come by
		if n := f.Switch("vale-1").FDBStats().Live; n != 1 {
			t.Errorf("%d stations in the table, want the static one", n)
		}
	})
}
