package vale_test

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/vale-vmnet/vale-vmnet/vale"
	"github.com/vale-vmnet/vale-vmnet/vale/frame"
)

const tcpHeaders = 14 + 20 + 20

// tcp makes a TCPv4 frame as a guest with TSO hands it over: any length, the
// checksum begun with the pseudo-header only.
func tcp(to, from, payload int) (frame.VnetHdr, []byte) {
	n := 40 + payload
	f := append(append([]byte{}, mac(to)...), mac(from)...)
	f = append(f, 0x08, 0x00, 0x45, 0, byte(n>>8), byte(n), 0, 1, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2)
	binary.BigEndian.PutUint16(f[24:], ^sum16(f[14:34]))
	f = append(f, 0x04, 0, 0, 80, 0, 0, 0x10, 0, 0, 0, 0, 0, 0x50, 0x18, 0xff, 0xff, 0, 0, 0, 0)
	pseudo := append(bytes.Clone(f[26:34]), 0, 6, byte((n-20)>>8), byte(n-20))
	binary.BigEndian.PutUint16(f[14+20+16:], sum16(pseudo))
	for i := range payload {
		f = append(f, byte(i*7+i>>8))
	}
	h := frame.VnetHdr{Flags: frame.NeedsCsum, CsumStart: 34, CsumOffset: 16}
	if payload > 1460 {
		h.GSOType, h.GSOSize, h.HdrLen = frame.GSOTCPv4, 1460, tcpHeaders
	}
	return h, f
}

// sum16 is the ones' complement sum of RFC 1071, one word at a time.
func sum16(b []byte) uint16 {
	var s uint32
	for i := 0; i < len(b); i += 2 {
		w := uint32(b[i]) << 8
		if i+1 < len(b) {
			w |= uint32(b[i+1])
		}
		if s += w; s > 0xffff {
			s -= 0xffff
		}
	}
	return uint16(s)
}

// checkTCP checks lengths and checksums of one frame and gives its payload.
func checkTCP(t *testing.T, f []byte, seq int) []byte {
	t.Helper()
	if sum16(f[14:34]) != 0xffff {
		t.Errorf("segment at %d: wrong IP checksum", seq)
	}
	n := int(binary.BigEndian.Uint16(f[16:]))
	if n != len(f)-14 {
		t.Fatalf("segment at %d: IP length %d in a frame of %d bytes", seq, n, len(f))
	}
	if got := int(binary.BigEndian.Uint32(f[38:])); got != 0x1000+seq {
		t.Errorf("sequence number %#x, want %#x", got, 0x1000+seq)
	}
	pseudo := append(bytes.Clone(f[26:34]), 0, 6, byte((n-20)>>8), byte(n-20))
	if sum16(append(pseudo, f[34:]...)) != 0xffff {
		t.Errorf("segment at %d: wrong TCP checksum", seq)
	}
	return f[tcpHeaders:]
}

func (h *host) sendOffloaded(c *vale.Client, hdr frame.VnetHdr, pieces ...[]byte) {
	h.Helper()
	h.batch.Reset()
	h.batch.AddPieces(hdr, pieces)
	if err := c.Send(h.batch); err != nil {
		h.Fatal(err)
	}
}

// TestOffloads floods one TSO frame to receivers of different abilities.
func TestOffloads(t *testing.T) {
	h := newHost(t, vale.Config{})
	a := h.connect("vale-1:a")
	plain := h.connect("vale-1:plain")
	csum := h.connectWith("vale-1:csum", vale.ClientConfig{Offloads: frame.Csum})
	tso := h.connectWith("vale-1:tso", vale.ClientConfig{Offloads: frame.Csum | frame.TSO4})
	const payload = 60000
	hdr, f := tcp(everybody, 1, payload)
	want := bytes.Clone(f[tcpHeaders:])
	h.sendOffloaded(a, hdr, f[:30], f[30:100], f[100:])

	var all []byte
	segments := received(plain)
	for _, s := range segments {
		if len(s) > 1514 {
			t.Errorf("a segment has %d bytes", len(s))
		}
		all = append(all, checkTCP(t, s, len(all))...)
	}
	if !bytes.Equal(all, want) {
		t.Errorf("the segments carry %d bytes, other than the %d sent", len(all), len(want))
	}

	got := csum.TryRecv(64)
	if len(got) != len(segments) {
		t.Errorf("%d segments for the port that computes checksums, want %d", len(got), len(segments))
	}
	for _, s := range got {
		if s.Hdr.Flags != frame.NeedsCsum || s.Hdr.GSOType != frame.GSONone || s.Hdr.CsumStart != 34 || s.Hdr.CsumOffset != 16 {
			t.Errorf("header of a segment: %+v", s.Hdr)
		}
	}
	if got := tso.TryRecv(64); len(got) != 1 || got[0].Hdr != hdr || !bytes.Equal(got[0].Data, f) {
		t.Errorf("the frame did not pass as it was to the port that has TSO: %d frames, %+v", len(got), got)
	}
	c := a.Port().Counters()
	if c.InFrames != 1 || c.InCopies != uint64(2*len(segments)+1) {
		t.Errorf("%d frames in, %d copies; want 1, %d", c.InFrames, c.InCopies, 2*len(segments)+1)
	}
	h.balanced()
}

func TestChecksumFilledIn(t *testing.T) {
	h := newHost(t, vale.Config{})
	a, b := h.connect("vale-1:a"), h.connect("vale-1:b")
	hdr, f := tcp(everybody, 1, 999)
	plain := eth(everybody, 1, 200, 1)
	h.batch.Reset()
	const pairs = 200 // more bytes than the switch works on at a time
	for range pairs {
		h.batch.Add(hdr, f)
		h.batch.Add(frame.VnetHdr{}, plain)
	}
	if err := a.Send(h.batch); err != nil {
		t.Fatal(err)
	}
	got := received(b)
	if len(got) != 2*pairs {
		t.Fatalf("%d frames, want %d", len(got), 2*pairs)
	}
	for i := 0; i < len(got); i += 2 {
		if !bytes.Equal(checkTCP(t, got[i], 0), f[tcpHeaders:]) || !bytes.Equal(got[i+1], plain) {
			t.Fatalf("frames %d and %d are not what was sent", i, i+1)
		}
	}
	h.balanced()
}

// TestMTUOfSegments: what counts is the size on the wire.
func TestMTUOfSegments(t *testing.T) {
	h := newHost(t, vale.Config{})
	a := h.connect("vale-1:a")
	b := h.connectWith("vale-1:b", vale.ClientConfig{Offloads: frame.Csum | frame.TSO4})
	for _, p := range []*vale.Port{a.Port(), b.Port()} {
		for _, c := range []struct{ mtu, frames int }{{1500, 1}, {1499, 0}} {
			if err := p.SetMTU(c.mtu); err != nil {
				t.Fatal(err)
			}
			hdr, f := tcp(everybody, 1, 60000)
			h.sendOffloaded(a, hdr, f)
			if n := len(received(b)); n != c.frames {
				t.Errorf("MTU %d of %s: %d frames arrived, want %d", c.mtu, p.Name(), n, c.frames)
			}
		}
		p.SetMTU(0)
	}
	if n := a.Port().Counters().InDrops[vale.DropTooLong]; n != 2 {
		t.Errorf("%d frames were too long, want 2", n)
	}
	h.balanced()
}

func TestBadOffload(t *testing.T) {
	h := newHost(t, vale.Config{})
	a, b := h.connect("vale-1:a"), h.connect("vale-1:b")
	good, f := tcp(everybody, 1, 3000)
	lies := []func(*frame.VnetHdr){
		func(h *frame.VnetHdr) { h.GSOType = 77 },
		func(h *frame.VnetHdr) { h.GSOType = frame.GSOTCPv6 },
		func(h *frame.VnetHdr) { h.GSOSize = 0 },
		func(h *frame.VnetHdr) { h.Flags = 0 },
		func(h *frame.VnetHdr) { h.CsumStart = 65535 },
		func(h *frame.VnetHdr) { h.CsumOffset = 65535 },
	}
	for _, lie := range lies {
		hdr := good
		lie(&hdr)
		h.sendOffloaded(a, hdr, f)
	}
	h.expect(b)
	if n := a.Port().Counters().InDrops[vale.DropBadOffload]; n != uint64(len(lies)) {
		t.Errorf("%d frames dropped for bad headers, want %d", n, len(lies))
	}
	h.balanced()
}
