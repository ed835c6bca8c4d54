package vhosttest

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vale-vmnet/vale-vmnet/vale/vhostuser/guestmem"
	"github.com/vale-vmnet/vale-vmnet/vale/vhostuser/vhostproto"
)

const limit = 20 * time.Second

// mirror is the smallest back end there is: it answers the handshake, and
// reflect moves one frame from the transmit ring to the receive ring. Its
// rings are plain bytes, read as virtio 1.2, 2.7 draws them.
type mirror struct {
	conn  *vhostproto.Conn
	offer vhostproto.Features

	mu       sync.Mutex // guards all below
	requests []vhostproto.Request
	mem      *guestmem.Memory
	rings    [2]struct {
		size              int
		desc, avail, used []byte
		call              int
		next              uint16
	}
}

// socketPair gives a guest's side and the mirror's.
func socketPair(t *testing.T) (front, back *net.UnixConn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	var ends [2]*net.UnixConn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "pair")
		c, err := net.FileConn(f)
		f.Close()
		if err != nil {
			t.Fatal(err)
		}
		ends[i] = c.(*net.UnixConn)
	}
	return ends[0], ends[1]
}

// serve answers until the guest hangs up.
func (m *mirror) serve() error {
	for {
		msg, body, err := m.conn.Receive()
		if err != nil {
			return err
		}
		m.mu.Lock()
		m.requests = append(m.requests, msg.Request)
		err = m.handle(msg, body)
		m.mu.Unlock()
		msg.Close()
		if err != nil {
			return err
		}
	}
}

func (m *mirror) handle(msg *vhostproto.Message, body vhostproto.Body) (err error) {
	switch msg.Request {
	case vhostproto.GetFeatures:
		return m.conn.Reply(msg.Header, vhostproto.U64(m.offer))
	case vhostproto.GetProtocolFeatures:
		return m.conn.Reply(msg.Header, vhostproto.U64(vhostproto.ProtocolFReplyAck))
	case vhostproto.GetVringBase:
		i := body.(vhostproto.VringState).Index
		return m.conn.Reply(msg.Header, vhostproto.VringState{Index: i, Num: uint32(m.rings[i].next)})
	case vhostproto.SetMemTable:
		var specs []guestmem.RegionSpec
		for i, r := range body.(vhostproto.MemTable).Regions {
			specs = append(specs, guestmem.RegionSpec{Region: r, FD: msg.FDs[i]})
		}
		m.mem, err = guestmem.Map(specs)
	case vhostproto.SetVringNum:
		m.rings[body.(vhostproto.VringState).Index].size = int(body.(vhostproto.VringState).Num)
	case vhostproto.SetVringAddr:
		a := body.(vhostproto.VringAddr)
		r := &m.rings[a.Index]
		r.desc = m.mem.UserSlice(a.Desc, uint32(16*r.size))
		r.avail = m.mem.UserSlice(a.Avail, uint32(6+2*r.size))
		r.used = m.mem.UserSlice(a.Used, uint32(6+8*r.size))
	case vhostproto.SetVringCall:
		m.rings[body.(vhostproto.VringFile).Index].call = msg.TakeFD()
	}
	if err != nil {
		return err
	}
	return m.conn.Ack(msg.Header, true)
}

// take gives the first descriptor of the next chain of a ring.
func (m *mirror) take(i int) (head uint16, b []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r := &m.rings[i]
	head = binary.LittleEndian.Uint16(r.avail[4+2*(int(r.next)%r.size):])
	d := r.desc[16*int(head):]
	return head, m.mem.Slice(binary.LittleEndian.Uint64(d), binary.LittleEndian.Uint32(d[8:]))
}

func (m *mirror) complete(i int, head uint16, n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r := &m.rings[i]
	slot := r.used[4+8*(int(r.next)%r.size):]
	binary.LittleEndian.PutUint32(slot, uint32(head))
	binary.LittleEndian.PutUint32(slot[4:], uint32(n))
	r.next++
	guestmem.Fence()
	guestmem.Store16(r.used, 2, r.next)
	_, _ = unix.Write(r.call, []byte{1, 0, 0, 0, 0, 0, 0, 0})
}

func (m *mirror) reflect() {
	from, src := m.take(1)
	to, dst := m.take(0)
	n := copy(dst, src)
	binary.LittleEndian.PutUint16(dst[10:], 1)
	m.complete(0, to, n)
	m.complete(1, from, 0)
}

// meet starts a guest on a mirror.
func meet(t *testing.T, cfg Config) (*Guest, *mirror) {
	t.Helper()
	front, back := socketPair(t)
	m := &mirror{conn: vhostproto.NewConn(back), offer: vhostproto.FVersion1 | vhostproto.FProtocolFeatures}
	ended := make(chan error, 1)
	go func() { ended <- m.serve() }()
	g, err := New(front, cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		g.Close()
		<-ended
		m.conn.Close()
		m.mem.Close()
		for i := range m.rings {
			unix.Close(m.rings[i].call)
		}
	})
	return g, m
}

func TestFramesComeBack(t *testing.T) {
	g, m := meet(t, Config{RingSize: 8})
	for i := range 50 {
		data := bytes.Repeat([]byte{byte(i)}, 60+i)
		if n, err := g.Tx[0].Send(Frame{Data: data}); n != 1 || err != nil {
			t.Fatalf("Send = %d, %v", n, err)
		}
		m.reflect()
		got, err := g.Rx[0].Recv(limit)
		if err != nil || !bytes.Equal(got.Data, data) {
			t.Fatalf("frame %d came back as %d bytes, %v", i, len(got.Data), err)
		}
	}
	if err := g.Tx[0].Drain(limit); err != nil {
		t.Fatal(err)
	}
	if err := g.Stop(); err != nil {
		t.Fatal(err)
	}
	if g.Tx[0].base != 50 || g.Rx[0].base != 50 {
		t.Errorf("rings stopped at %d and %d, want 50", g.Tx[0].base, g.Rx[0].base)
	}
}

func TestHandshakeFollowsQEMU(t *testing.T) {
	_, m := meet(t, Config{})
	want := []vhostproto.Request{
		vhostproto.GetFeatures, vhostproto.GetProtocolFeatures, vhostproto.SetProtocolFeatures,
		vhostproto.SetOwner, vhostproto.SetFeatures, vhostproto.SetMemTable, vhostproto.SetVringCall,
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for i, r := range want {
		if m.requests[i] != r {
			t.Fatalf("request %d is %v, want %v", i, m.requests[i], r)
		}
	}
}

// TestBrokenBackEnds checks that the guest notices what a back end does wrong.
func TestBrokenBackEnds(t *testing.T) {
	tests := []struct {
		name string
		do   func(g *Guest, m *mirror)
	}{
		{"completes what it never got", func(g *Guest, m *mirror) { m.complete(1, 3, 0) }},
		{"completes a chain out of range", func(g *Guest, m *mirror) { m.complete(0, 9999, 64) }},
		{"completes twice", func(g *Guest, m *mirror) {
			head, _ := m.take(0)
			m.complete(0, head, 64)
			m.complete(0, head, 64)
		}},
		{"writes too much", func(g *Guest, m *mirror) { head, _ := m.take(0); m.complete(0, head, 1<<20) }},
		{"writes no header", func(g *Guest, m *mirror) { head, _ := m.take(0); m.complete(0, head, 4) }},
		{"counts no buffers", func(g *Guest, m *mirror) {
			head, b := m.take(0)
			clear(b[:12])
			m.complete(0, head, 64)
		}},
		{"jumps", func(g *Guest, m *mirror) {
			m.mu.Lock()
			defer m.mu.Unlock()
			guestmem.Store16(m.rings[0].used, 2, 5000)
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			g, m := meet(t, Config{RingSize: 8})
			tt.do(g, m)
			var err error
			for range 3 {
				if _, e := g.Tx[0].Reap(); e != nil {
					err = e
				}
				if _, _, e := g.Rx[0].TryRecv(); e != nil {
					err = e
				}
			}
			if !errors.Is(err, ErrPeer) {
				t.Errorf("the guest says %v, want %v", err, ErrPeer)
			}
		})
	}
}

func TestWaitEnds(t *testing.T) {
	g, _ := meet(t, Config{})
	if _, err := g.Rx[0].Recv(time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("Recv = %v, want %v", err, os.ErrDeadlineExceeded)
	}
}
