package vhostuser_test

import (
	"bytes"
	"net"
	"path/filepath"
	"testing"

	"github.com/vale-vmnet/vale-vmnet/vale/vhostuser"
	"github.com/vale-vmnet/vale-vmnet/vale/vhostuser/vhosttest"
)

// TestReconnect restarts the back end under a running guest, as an upgrade of
// the agent does.
func TestReconnect(t *testing.T) {
	b := newBench(t)
	defer b.close(t)
	left, right := b.plug(t, "a", vhosttest.Config{Pairs: 2}), b.plug(t, "b", vhosttest.Config{})
	defer left.Close()
	defer right.Close()
	for range 3 {
		ping(t, left, right)
		b.endpoints["a"].Close()
		delete(b.endpoints, "a")
		// Sent while nobody is there: arrives after the re-connection.
		waiting := vhosttest.Frame{Data: frameTo(2, 1, bytes.Repeat([]byte("wait"), 20))}
		if _, err := left.Tx[0].Send(waiting); err != nil {
			t.Fatal(err)
		}
		sock, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: b.path(t, "a"), Net: "unix"})
		if err != nil {
			t.Fatal(err)
		}
		if err := left.Reconnect(sock); err != nil {
			t.Fatal(err)
		}
		got, err := right.Rx[0].Recv(limit)
		if err != nil || !bytes.Equal(got.Data, waiting.Data) {
			t.Fatalf("received %d bytes, %v", len(got.Data), err)
		}
	}
	ping(t, left, right)
}

// TestConnectingEndpoint lets the back end connect to the front end's socket,
// which appears after it, and come back when the front end went away.
func TestConnectingEndpoint(t *testing.T) {
	b := newBench(t)
	defer b.close(t)
	right := b.plug(t, "b", vhosttest.Config{})
	defer right.Close()
	path := filepath.Join(b.dir, "front end")
	e, err := vhostuser.Connect(path, b.port(t, "a"), vhostuser.Options{Pool: b.pool})
	if err != nil {
		t.Fatal(err)
	}
	b.endpoints["a"] = e
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for range 2 {
		left, err := vhosttest.Accept(l, vhosttest.Config{})
		if err != nil {
			t.Fatal(err)
		}
		if err := left.Start(); err != nil {
			t.Fatal(err)
		}
		ping(t, left, right)
		unplug(t, b, "a", left)
	}
}

// TestSecondFrontEndIsTurnedAway connects to a port that is in use.
func TestSecondFrontEndIsTurnedAway(t *testing.T) {
	b := newBench(t)
	defer b.close(t)
	left, right := b.plug(t, "a", vhosttest.Config{}), b.plug(t, "b", vhosttest.Config{})
	defer left.Close()
	defer right.Close()
	if g, err := vhosttest.Dial(b.path(t, "a"), vhosttest.Config{}); err == nil {
		g.Close()
		t.Error("a second front end got the port")
	}
	ping(t, left, right)
}
