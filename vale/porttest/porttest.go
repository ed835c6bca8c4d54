// Package porttest is the conformance suite that every kind of link passes:
// in-process clients, stream sockets, vhost-user guests. It sees a link from
// both ends, as frames that a peer sends and receives and as the counters of
// the port between, and checks what all kinds promise alike: frames arrive
// whole, in order and only where they belong, what does not arrive is counted
// under a reason, and a peer that comes or goes or does not read troubles
// nobody else.
//
// A kind of link is described by how a port is made ready for it and how a peer
// then reaches the port:
//
//	func TestPort(t *testing.T) {
//		porttest.Run(t, porttest.Kind{Serve: func(t testing.TB, p *vale.Port) porttest.Dialer {
//			...listen on a socket...
//			return func(t testing.TB) porttest.Peer { ...connect to it... }
//		}})
//	}
package porttest

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/vale-vmnet/vale-vmnet/vale"
)

// Peer is the far end of a link: what a guest does with its NIC. One goroutine
// sends while another may receive.
type Peer interface {
	// Send hands plain frames to the link, in order, and returns when they
	// are on their way. It may wait for room.
	Send(frames ...[]byte) error
	// Recv waits for the next frame and returns a copy of it. It returns
	// the context's error when that ends first, and loses no frame by it.
	Recv(ctx context.Context) ([]byte, error)
	// Close makes the peer vanish, as a killed guest does.
	Close() error
}

// Dialer connects a peer to the port that it was made for. The port need not
// be ready yet when it returns.
type Dialer func(t testing.TB) Peer

// Kind is one kind of link.
type Kind struct {
	// Serve makes a persistent port ready for peers and says how to become
	// one. What it starts it ends by t.Cleanup.
	Serve func(t testing.TB, p *vale.Port) Dialer

	// MaxLen is the longest frame that the kind carries; 64 KiB behind an
	// Ethernet header when zero.
	MaxLen int

	// Burst is how many frames, or 64 KiB of them if that is less, a peer
	// that is not reading surely takes; 32 when zero.
	Burst int
}

// Run holds one kind of link to the promises of all.
func Run(t *testing.T, k Kind) {
	if k.MaxLen == 0 {
		k.MaxLen = 65535 + headerLen
	}
	if k.Burst == 0 {
		k.Burst = 32
	}
	for _, c := range []struct {
		name  string
		ports int
		check func(*rig)
	}{
		{"Unicast", 3, checkUnicast},
		{"Flood", 3, checkFlood},
		{"Order", 2, checkOrder},
		{"Sizes", 2, checkSizes},
		{"Runt", 2, checkRunt},
		{"MTU", 2, checkMTU},
		{"UpDown", 3, checkUpDown},
		{"Busy", 2, checkBusy},
		{"Again", 2, checkAgain},
		{"PeerVanishes", 3, checkPeerVanishes},
		{"NobodyReads", 4, checkNobodyReads},
		{"ManySenders", 4, checkManySenders},
	} {
		t.Run(c.name, func(t *testing.T) { c.check(newRig(t, k, c.ports)) })
	}
}

// rig is a switch whose ports all have a link of the kind.
type rig struct {
	testing.TB
	kind  Kind
	ports []*vale.Port
	dial  []Dialer
	peers []Peer
	seq   uint32
}

// patience is how long something that must happen may take before the test
// fails. It decides nothing else.
const patience = 20 * time.Second

func newRig(t testing.TB, k Kind, n int) *rig {
	f := vale.New(vale.Config{})
	t.Cleanup(f.Close)
	r := &rig{TB: t, kind: k}
	for i := range n {
		name := vale.Name{Switch: "vale-1", Port: fmt.Sprintf("p%d", i)}
		p, _, err := f.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		p.SetPersistent(true)
		r.ports = append(r.ports, p)
		r.dial = append(r.dial, k.Serve(t, p))
		r.peers = append(r.peers, nil)
		t.Cleanup(func() {
			if r.peers[i] != nil {
				r.peers[i].Close()
			}
		})
		r.connect(i)
	}
	return r
}

// connect gives port i a peer and waits until frames reach it.
func (r *rig) connect(i int) {
	r.Helper()
	r.peers[i] = r.dial[i](r.TB)
	r.until(fmt.Sprintf("port %d is ready", i), func() bool { return r.ports[i].Status().Ready })
}

// disconnect takes the peer of port i away and waits until the port knows.
func (r *rig) disconnect(i int) {
	r.Helper()
	if err := r.peers[i].Close(); err != nil {
		r.Fatalf("close peer %d: %v", i, err)
	}
	r.peers[i] = nil
	r.until(fmt.Sprintf("port %d is not ready any more", i), func() bool { return !r.ports[i].Status().Ready })
}

// until waits for a condition.
func (r *rig) until(what string, cond func() bool) {
	r.Helper()
	for deadline := time.Now().Add(patience); !cond(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			for i, p := range r.ports {
				r.Logf("port %d: %+v", i, p.Counters())
			}
			r.Fatalf("waited %v in vain until %s", patience, what)
		}
	}
}

func (r *rig) send(i int, frames ...[]byte) {
	r.Helper()
	if err := r.peers[i].Send(frames...); err != nil {
		r.Fatalf("send %d frames from peer %d: %v", len(frames), i, err)
	}
}

// expect receives frames at peer i and compares them.
func (r *rig) expect(i int, want ...[]byte) {
	r.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for k, w := range want {
		got, err := r.peers[i].Recv(ctx)
		if err != nil {
			r.Fatalf("receive frame %d of %d at peer %d: %v", k+1, len(want), i, err)
		}
		if diff := compare(got, w); diff != "" {
			r.Fatalf("frame %d of %d at peer %d: %s", k+1, len(want), i, diff)
		}
	}
}

// mark broadcasts one frame and expects it everywhere else: whatever arrived
// before it and was not expected fails the test.
func (r *rig) mark(from int) {
	r.Helper()
	m := r.frame(everybody, from, 60)
	r.send(from, m)
	for i, p := range r.peers {
		if i != from && p != nil {
			r.expect(i, m)
		}
	}
}

// learn lets every peer say a word, so that the switch knows them all.
func (r *rig) learn() {
	r.Helper()
	for i := range r.peers {
		r.mark(i)
	}
}

// settled waits until the switch has taken in what the peers sent, and checks
// the books of all ports.
func (r *rig) settled(sent []int) []vale.Counters {
	r.Helper()
	all := make([]vale.Counters, len(r.ports))
	for i, p := range r.ports {
		r.until(fmt.Sprintf("port %d has taken in %d frames", i, sent[i]), func() bool {
			all[i] = p.Counters()
			return all[i].InFrames >= uint64(sent[i])
		})
	}
	var in, out uint64
	for i, p := range r.ports {
		// Read again: others may have delivered to it meanwhile.
		c := p.Counters()
		all[i] = c
		if c.InFrames != uint64(sent[i]) {
			r.Errorf("port %d took in %d frames; its peer sent %d", i, c.InFrames, sent[i])
		}
		if c.InCopies != c.InDelivered+vale.Sum(c.InDrops) {
			r.Errorf("port %d: %d copies are not %d delivered + %d dropped", i, c.InCopies, c.InDelivered, vale.Sum(c.InDrops))
		}
		in += c.InDelivered
		out += c.OutFrames
	}
	if in != out {
		r.Errorf("ports sent %d copies to others, and others received %d", in, out)
	}
	return all
}
