package e2e

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	"github.com/vale-vmnet/vale-vmnet/deploy/guest"
	"github.com/vale-vmnet/vale-vmnet/vale"
	"github.com/vale-vmnet/vale-vmnet/vale/frame"
	"github.com/vale-vmnet/vale-vmnet/vale/poll"
	"github.com/vale-vmnet/vale-vmnet/vale/stream"
	"github.com/vale-vmnet/vale-vmnet/vale/vhostuser"
)

// TestInProcess uses the switch as a library, without an agent: a virtio guest,
// a guest with an e1000 and this very process share it. The process answers
// ARP and ping like a host.
func TestInProcess(t *testing.T) {
	s := bareSite(t, 2*time.Minute)
	pool, err := poll.NewPool(poll.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { pool.Close() })
	fabric := vale.New(vale.Config{})
	t.Cleanup(fabric.Close)
	port := func(name string) *vale.Port {
		p, _, err := fabric.Open(vale.Name{Switch: "vale-1", Port: name})
		if err != nil {
			t.Fatal(err)
		}
		p.SetPersistent(true)
		return p
	}
	virtio, plain := filepath.Join(s.dir, "a.sock"), filepath.Join(s.dir, "e.sock")
	ea, err := vhostuser.Listen(virtio, port("a"), vhostuser.Options{Pool: pool})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ea.Close() })
	ee, err := stream.Listen(plain, port("e"), stream.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ee.Close() })
	client, err := port("go").Connect(vale.ClientConfig{})
	if err != nil {
		t.Fatal(err)
	}
	h := &echoHost{client: client, mac: net.HardwareAddr{2, 0, 0, 0, 0, 9}, addr: netip.MustParseAddr("10.4.0.9")}
	ended := make(chan error, 1)
	go func() { ended <- h.serve(s.ctx) }()
	t.Cleanup(func() {
		client.Close()
		if err := <-ended; !errors.Is(err, vale.ErrClosed) && !errors.Is(err, context.Canceled) {
			t.Errorf("host in process ended: %v", err)
		}
	})

	a := s.raw(t, "a", s.image(guest.Cloud), append(vhostUser(virtio, "52:54:00:00:00:0a"), sharedMemory...)...)
	e := s.raw(t, "e", s.image(guest.Full),
		"-netdev", "stream,id=n0,server=off,addr.type=unix,addr.path="+plain,
		"-device", "e1000,netdev=n0,mac=52:54:00:00:00:0e")
	s.up(t, map[*node]string{a: "10.4.0.1", e: "10.4.0.2"})
	for _, n := range []*node{a, e} {
		n.run(t, "ping -c 3 -i 0.2 -W 5 %s", h.addr)
		n.run(t, "ping -c 3 -i 0.2 -W 5 -s 1472 %s", h.addr)
	}
	a.run(t, "ping -c 3 -i 0.2 -W 5 10.4.0.2")
}

// echoHost answers ARP requests for its address and ICMP echo requests to it.
type echoHost struct {
	client *vale.Client
	mac    net.HardwareAddr
	addr   netip.Addr
}

func (h *echoHost) serve(ctx context.Context) error {
	out := vale.NewBatch()
	for {
		in, err := h.client.Recv(ctx, 64)
		if err != nil {
			return err
		}
		out.Reset()
		for _, f := range in {
			if reply := h.answer(bytes.Clone(f.Data)); reply != nil {
				out.Add(frame.VnetHdr{}, reply)
			}
		}
		if err := h.client.Send(out); err != nil {
			return err
		}
	}
}

// Offsets in an Ethernet frame with ARP (RFC 826), or IPv4 without options
// (RFC 791) and ICMP (RFC 792).
const (
	etherType = 12
	arpOp     = 20
	arpSender = 22 // MAC and address, 10 bytes; the target's follow
	arpTarget = 32
	ipProto   = 23
	ipSource  = 26
	ipDest    = 30
	icmpType  = 34
	icmpSum   = 36
)

// answer turns a request into its reply in place; nil when it is none for us.
func (h *echoHost) answer(f []byte) []byte {
	me := h.addr.AsSlice()
	switch {
	case len(f) >= 42 && binary.BigEndian.Uint16(f[etherType:]) == 0x0806 &&
		f[arpOp+1] == 1 && bytes.Equal(f[arpTarget+6:arpTarget+10], me):
		f[arpOp+1] = 2
		copy(f[arpTarget:], f[arpSender:arpSender+10])
		copy(f[arpSender:], h.mac)
		copy(f[arpSender+6:], me)
	case len(f) >= 42 && binary.BigEndian.Uint16(f[etherType:]) == 0x0800 &&
		f[14] == 0x45 && f[ipProto] == 1 && f[icmpType] == 8 && bytes.Equal(f[ipDest:ipDest+4], me):
		copy(f[ipDest:], f[ipSource:ipSource+4])
		copy(f[ipSource:], me)
		f[icmpType] = 0
		// The type lost 8 in the upper byte of its word: the sum gains it,
		// with end-around carry (RFC 1624).
		sum := uint32(binary.BigEndian.Uint16(f[icmpSum:])) + 0x0800
		binary.BigEndian.PutUint16(f[icmpSum:], uint16(sum+sum>>16))
	default:
		return nil
	}
	copy(f, f[6:12])
	copy(f[6:], h.mac)
	return f
}
