package stream_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/vale-vmnet/vale-vmnet/vale"
	"github.com/vale-vmnet/vale-vmnet/vale/frame"
	"github.com/vale-vmnet/vale-vmnet/vale/porttest"
	"github.com/vale-vmnet/vale-vmnet/vale/stream"
)

func TestListenConforms(t *testing.T) {
	porttest.Run(t, porttest.Kind{MaxLen: frame.MaxLen, Serve: func(t testing.TB, p *vale.Port) porttest.Dialer {
		path := socketPath(t)
		e := listen(t, path, p)
		t.Cleanup(func() { e.Close() })
		return func(t testing.TB) porttest.Peer { return dial(t, path) }
	}})
}

func TestConnectConforms(t *testing.T) {
	porttest.Run(t, porttest.Kind{MaxLen: frame.MaxLen, Serve: func(t testing.TB, p *vale.Port) porttest.Dialer {
		path := socketPath(t)
		e, err := stream.Connect(path, p, stream.Options{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { e.Close() })
		return func(t testing.TB) porttest.Peer { return accept(t, path) }
	}})
}

func listen(t testing.TB, path string, p *vale.Port) *stream.Endpoint {
	t.Helper()
	e, err := stream.Listen(path, p, stream.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// accept is a QEMU that listens for one peer.
func accept(t testing.TB, path string) *peer {
	t.Helper()
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return newPeer(conn)
}

func ready(p *vale.Port) func() bool { return func() bool { return p.Status().Ready } }

func TestBadFraming(t *testing.T) {
	good := append([]byte{0, 0, 0, 60}, make([]byte, 60)...)
	for _, c := range []struct {
		name string
		sent []byte
		want error
	}{
		{"empty frame", append(good[:len(good):len(good)], 0, 0, 0, 0), stream.ErrEmpty},
		{"too long", append(good[:len(good):len(good)], 0, 1, 0x10, 1), stream.ErrTooLong},
	} {
		t.Run(c.name, func(t *testing.T) {
			port, path := newPort(t, "vale-1:a"), socketPath(t)
			e := listen(t, path, port)
			defer e.Close()
			bad := dial(t, path)
			if _, err := bad.conn.Write(c.sent); err != nil {
				t.Fatal(err)
			}
			bad.closedBy(t)
			until(t, "the reason is known", func() bool { return e.LastError() != nil })
			if err := e.LastError(); !errors.Is(err, c.want) {
				t.Errorf("session ended for %v, want %v", err, c.want)
			}
			if n := port.Counters().InFrames; n != 1 {
				t.Errorf("%d frames went into the switch before the bad one, want 1", n)
			}
			dial(t, path)
			until(t, "the next peer is served", ready(port))
		})
	}
}

// TestLongestFrames checks that a frame that the format allows and the switch
// does not is dropped, not taken for an attack.
func TestLongestFrames(t *testing.T) {
	port, path := newPort(t, "vale-1:a"), socketPath(t)
	e := listen(t, path, port)
	defer e.Close()
	p := dial(t, path)
	for _, n := range []int{stream.MaxFrame, frame.MaxLen + 1} {
		if err := p.Send(make([]byte, n)); err != nil {
			t.Fatal(err)
		}
	}
	until(t, "both frames are dropped", func() bool { return port.Counters().InDrops[vale.DropTooLong] == 2 })
	if !port.Status().Ready {
		t.Errorf("the link is gone: %v", e.LastError())
	}
}

// TestDribble sends frames a byte at a time.
func TestDribble(t *testing.T) {
	port, path := newPort(t, "vale-1:a"), socketPath(t)
	e := listen(t, path, port)
	defer e.Close()
	p := dial(t, path)
	wire := binary.BigEndian.AppendUint32(nil, 60)
	wire = append(wire, bytes.Repeat([]byte{2}, 60)...)
	for range 3 {
		for _, b := range wire {
			if _, err := p.conn.Write([]byte{b}); err != nil {
				t.Fatal(err)
			}
		}
	}
	until(t, "three frames are in", func() bool { return port.Counters().InFrames == 3 })
	if n := port.Counters().InBytes; n != 180 {
		t.Errorf("%d bytes, want 180", n)
	}
}

func TestSecondPeerRefused(t *testing.T) {
	port, path := newPort(t, "vale-1:a"), socketPath(t)
	e := listen(t, path, port)
	defer e.Close()
	first := dial(t, path)
	until(t, "the first peer is served", ready(port))
	dial(t, path).closedBy(t)
	if err := e.LastError(); !errors.Is(err, vale.ErrBusy) {
		t.Errorf("refused for %v, want %v", err, vale.ErrBusy)
	}
	if st := port.Status(); !st.Ready || st.Link.PID != os.Getpid() || st.Link.Kind != "stream" {
		t.Errorf("the first peer's link is %+v, ready %v", st.Link, st.Ready)
	}
	if err := first.Send(make([]byte, 60)); err != nil {
		t.Errorf("first peer: %v", err)
	}
}

// TestRestartedPeer has the next peer at the door before the endpoint can have
// noticed that the one before is gone.
func TestRestartedPeer(t *testing.T) {
	port, path := newPort(t, "vale-1:a"), socketPath(t)
	e := listen(t, path, port)
	defer e.Close()
	for i := range 100 {
		p := dial(t, path)
		if err := p.Send(make([]byte, 60), make([]byte, 60)); err != nil {
			t.Fatalf("peer %d: %v", i, err)
		}
		p.Close()
	}
	last := dial(t, path)
	if err := last.Send(make([]byte, 60)); err != nil {
		t.Fatal(err)
	}
	until(t, "every peer's frames are in", func() bool { return port.Counters().InFrames == 201 })
	if errors.Is(e.LastError(), vale.ErrBusy) {
		t.Error("a peer was refused for its own former self")
	}
}

func TestCloseEndsAll(t *testing.T) {
	before := runtime.NumGoroutine()
	port, dir := newPort(t, "vale-1:a"), socketDir(t)
	for _, connected := range []bool{false, true} {
		path := filepath.Join(dir, "s")
		e := listen(t, path, port)
		if connected {
			p := dial(t, path)
			until(t, "the peer is served", ready(port))
			defer p.closedBy(t)
		}
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
		if err := e.Close(); err != nil {
			t.Errorf("second close: %v", err)
		}
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the socket is still there: %v", err)
		}
		if st := port.Status(); st.Ready || st.Link != nil {
			t.Errorf("the port still has the link %+v", st.Link)
		}
		// Nobody listens here, so this one is waiting between attempts.
		if e, err := stream.Connect(path, port, stream.Options{}); err != nil {
			t.Fatal(err)
		} else if err := e.Close(); err != nil {
			t.Fatal(err)
		}
	}
	until(t, "the goroutines are back to the clock of the fabric", func() bool { return runtime.NumGoroutine() <= before+1 })
}

func TestListenPaths(t *testing.T) {
	port, dir := newPort(t, "vale-1:a"), socketDir(t)
	served := filepath.Join(dir, "served")
	e := listen(t, served, port)
	defer e.Close()
	if st, err := os.Stat(served); err != nil || st.Mode().Perm() != 0o660 {
		t.Errorf("mode of the socket is %v (%v), want 0660", st.Mode().Perm(), err)
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, path, text string }{
		{"served", served, "another process serves it"},
		{"file", file, "not a socket"},
		{"no directory", filepath.Join(dir, "none", "s"), "no such file"},
		{"too long", filepath.Join(dir, strings.Repeat("x", 120)), "at most 107"},
		{"empty", "", "empty"},
	} {
		t.Run(c.name, func(t *testing.T) {
			e, err := stream.Listen(c.path, port, stream.Options{})
			if err == nil {
				e.Close()
				t.Fatal("no error")
			}
			if !strings.Contains(err.Error(), c.text) {
				t.Errorf("%v; want it to say %q", err, c.text)
			}
		})
	}
	if got, err := os.ReadFile(file); err != nil || string(got) != "mine" {
		t.Errorf("the file that is no socket now holds %q (%v)", got, err)
	}

	// A socket that a killed process left behind is replaced.
	left := filepath.Join(dir, "left")
	l, err := net.Listen("unix", left)
	if err != nil {
		t.Fatal(err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	l.Close()
	if err := listen(t, left, port).Close(); err != nil {
		t.Error(err)
	}
}

// TestDeletedPort has the owner delete the port under the peer.
func TestDeletedPort(t *testing.T) {
	f := vale.New(vale.Config{})
	defer f.Close()
	port, path := openPort(t, f, "vale-1:a"), socketPath(t)
	e := listen(t, path, port)
	defer e.Close()
	p := dial(t, path)
	until(t, "the peer is served", ready(port))
	if err := f.Delete(port).Close(); err != nil {
		t.Fatal(err)
	}
	p.closedBy(t)
	dial(t, path).closedBy(t)
	if err := e.LastError(); !errors.Is(err, vale.ErrGone) {
		t.Errorf("the next peer was refused for %v, want %v", err, vale.ErrGone)
	}
}

// broken is a link with a bug.
type broken struct{}

func (broken) Deliver(*vale.Batch, []uint16, *vale.Tally) { panic("a bug") }
func (broken) Info() vale.LinkInfo                        { return vale.LinkInfo{Kind: "broken"} }
func (broken) Close() error                               { return nil }

// TestForwardingPanics: a bug met by one peer's frames ends its session only.
func TestForwardingPanics(t *testing.T) {
	f := vale.New(vale.Config{})
	defer f.Close()
	port, path := openPort(t, f, "vale-1:a"), socketPath(t)
	e := listen(t, path, port)
	defer e.Close()
	other := openPort(t, f, "vale-1:b")
	if err := other.Attach(broken{}); err != nil {
		t.Fatal(err)
	}
	other.SetLinkState(broken{}, vale.LinkState{Ready: true})
	p := dial(t, path)
	if err := p.Send(make([]byte, 60)); err != nil {
		t.Fatal(err)
	}
	p.closedBy(t)
	until(t, "the session has ended", func() bool { return e.LastError() != nil })
	if err := e.LastError(); !strings.Contains(err.Error(), "panicked: a bug") {
		t.Errorf("the session ended for %v", err)
	}
	other.Detach(broken{})
	dial(t, path)
	until(t, "the next peer is served", ready(port))
}

// TestStuckPeer fills up a peer that does not read, and then closes under it.
func TestStuckPeer(t *testing.T) {
	f := vale.New(vale.Config{})
	defer f.Close()
	port, path := openPort(t, f, "vale-1:a"), socketPath(t)
	e := listen(t, path, port)
	stuck := dial(t, path)
	until(t, "the peer is served", ready(port))
	c, err := openPort(t, f, "vale-1:b").Connect(vale.ClientConfig{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	b := vale.NewBatch()
	for c.Port().Counters().InDrops[vale.DropRingFull] == 0 {
		b.Reset()
		for !b.Full() {
			b.Add(frame.VnetHdr{}, make([]byte, 1514))
		}
		if err := c.Send(b); err != nil {
			t.Fatal(err)
		}
	}
	// What was delivered waits for it.
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for range port.Counters().OutFrames {
		if _, err := stuck.Recv(ctx); err != nil {
			t.Fatal(err)
		}
	}
	for c.Port().Counters().InDrops[vale.DropRingFull] < 1<<16 {
		if err := c.Send(b); err != nil {
			t.Fatal(err)
		}
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
}
