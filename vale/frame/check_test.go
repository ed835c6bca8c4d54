package frame_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"

	"github.com/vale-vmnet/vale-vmnet/vale/frame"
	"pgregory.net/rapid"
)

func TestVnetHdrWire(t *testing.T) {
	type wire struct {
		Flags, GSOType                         uint8
		HdrLen, GSOSize, CsumStart, CsumOffset uint16
	}
	rapid.Check(t, func(t *rapid.T) {
		b := rapid.SliceOfN(rapid.Byte(), frame.VnetHdrLen, frame.VnetHdrLen+2).Draw(t, "b")
		var want wire
		if err := binary.Read(bytes.NewReader(b), binary.LittleEndian, &want); err != nil {
			t.Fatal(err)
		}
		h := frame.ReadVnetHdr(b)
		if wire(h) != want {
			t.Fatalf("ReadVnetHdr = %+v, want %+v", h, want)
		}
		got := bytes.Clone(b)
		clear(got[:frame.VnetHdrLen])
		h.Write(got)
		if !bytes.Equal(got, b) {
			t.Fatalf("Write gave %x, want %x", got, b)
		}
		if h.Plain() != (h.Flags&1 == 0 && h.GSOType == 0) {
			t.Fatalf("Plain(%+v) = %v", h, h.Plain())
		}
	})
}

func TestOffloadsString(t *testing.T) {
	for o, want := range map[frame.Offloads]string{
		0: "none", frame.Csum: "csum", frame.Csum | frame.TSO4 | frame.UFO: "csum,tso4,ufo",
		allOffloads: "csum,tso4,tso6,ecn,ufo,uso", 1 << 20: "unknown",
	} {
		if got := o.String(); got != want {
			t.Errorf("Offloads(%#x) = %q, want %q", uint32(o), got, want)
		}
	}
}

func TestNeeds(t *testing.T) {
	for _, c := range []struct {
		flags, gso uint8
		want       frame.Offloads
	}{
		{0, 0, 0},
		{frame.DataValid, 0, 0},
		{1, 0, frame.Csum},
		{1, frame.GSOTCPv4, frame.Csum | frame.TSO4},
		{1, frame.GSOTCPv4 | frame.GSOECN, frame.Csum | frame.TSO4 | frame.ECN},
		{1, frame.GSOTCPv6, frame.Csum | frame.TSO6},
		{1, frame.GSOUDP, frame.Csum | frame.UFO},
		{1, frame.GSOUDPL4, frame.Csum | frame.USO},
	} {
		if got := (frame.VnetHdr{Flags: c.flags, GSOType: c.gso}).Needs(); got != c.want {
			t.Errorf("flags %d type %#x needs %v, want %v", c.flags, c.gso, got, c.want)
		}
	}
	if (frame.VnetHdr{Flags: 1, GSOType: 2}).Needs()&^allOffloads == 0 {
		t.Error("an unknown GSO type passes to a receiver with all offloads")
	}
}

func TestCheck(t *testing.T) {
	tcp4 := packet{id: 1, payload: make([]byte, 5000)}
	tcp6 := packet{v6: true, tags: 2, hop: []byte{0, 1, 4, 0, 0, 0, 0}, payload: make([]byte, 5000)}
	udp4 := packet{udp: true, tags: 1, payload: make([]byte, 5000)}
	big := packet{payload: make([]byte, 65535-40)}
	tcpOpts := packet{tcpOpts: make([]byte, 40), payload: make([]byte, 3000)}
	edit := func(at int, b ...byte) func([]byte) []byte {
		return func(p []byte) []byte { copy(p[at:], b); return p }
	}
	cut := func(n int) func([]byte) []byte { return func(p []byte) []byte { return p[:n] } }
	hdr := func(h frame.VnetHdr, change func(*frame.VnetHdr)) frame.VnetHdr { change(&h); return h }
	longExt := bytes.Repeat([]byte{0}, 7+8*40)
	longExt[0] = 40

	tests := []struct {
		name string
		k    packet
		h    frame.VnetHdr
		edit func([]byte) []byte
		want error
		norm frame.VnetHdr
	}{
		{name: "plain", k: tcp4, h: frame.VnetHdr{Flags: 6, HdrLen: 9, GSOSize: 9, CsumStart: 9, CsumOffset: 9}},
		{name: "plain runt", k: tcp4, edit: cut(13), want: frame.ErrShort},
		{name: "plain too long", k: tcp4, edit: func(p []byte) []byte { return make([]byte, frame.MaxLen+1) }, want: frame.ErrLong},
		{name: "checksum", k: tcp4, h: hdr(tcp4.vnet(0, 7), func(h *frame.VnetHdr) { h.Flags = 0xff }),
			norm: frame.VnetHdr{Flags: 1, CsumStart: 34, CsumOffset: 16}},
		{name: "tso4", k: tcp4, h: hdr(tcp4.vnet(frame.GSOTCPv4, 1448), func(h *frame.VnetHdr) { h.HdrLen = 5000 }),
			norm: frame.VnetHdr{Flags: 1, GSOType: 1, HdrLen: 54, GSOSize: 1448, CsumStart: 34, CsumOffset: 16}},
		{name: "tso6, two tags, extension header", k: tcp6, h: tcp6.vnet(frame.GSOTCPv6, 1428),
			norm: frame.VnetHdr{Flags: 1, GSOType: 4, HdrLen: 90, GSOSize: 1428, CsumStart: 70, CsumOffset: 16}},
		{name: "ufo rounds down", k: udp4, h: udp4.vnet(frame.GSOUDP, 1477),
			norm: frame.VnetHdr{Flags: 1, GSOType: 3, HdrLen: 46, GSOSize: 1472, CsumStart: 38, CsumOffset: 6}},
		{name: "one segment is no gso", k: tcp4, h: tcp4.vnet(frame.GSOTCPv4|frame.GSOECN, 5000),
			norm: frame.VnetHdr{Flags: 1, CsumStart: 34, CsumOffset: 16}},
		{name: "longest", k: big, h: big.vnet(frame.GSOTCPv4, 64),
			norm: frame.VnetHdr{Flags: 1, GSOType: 1, HdrLen: 54, GSOSize: 64, CsumStart: 34, CsumOffset: 16}},
		{name: "too many segments", k: big, h: big.vnet(frame.GSOTCPv4, 63), want: frame.ErrSegments},
		{name: "most segments", k: packet{payload: make([]byte, 10*frame.MaxSegments)}, h: tcp4.vnet(frame.GSOTCPv4, 10),
			norm: frame.VnetHdr{Flags: 1, GSOType: 1, HdrLen: 54, GSOSize: 10, CsumStart: 34, CsumOffset: 16}},
		{name: "one segment too many", k: packet{payload: make([]byte, 10*frame.MaxSegments+1)}, h: tcp4.vnet(frame.GSOTCPv4, 10), want: frame.ErrSegments},
		{name: "longer than IPv4", k: packet{payload: make([]byte, 65535-39)}, h: big.vnet(frame.GSOTCPv4, 1448), want: frame.ErrLong},
		{name: "gso without checksum", k: tcp4, h: hdr(tcp4.vnet(1, 1448), func(h *frame.VnetHdr) { h.Flags = 2 }), want: frame.ErrGSONoCsum},
		{name: "ecn alone", k: tcp4, h: tcp4.vnet(frame.GSOECN, 1448), want: frame.ErrGSOType},
		{name: "unknown type", k: tcp4, h: tcp4.vnet(2, 1448), want: frame.ErrGSOType},
		{name: "ecn with udp", k: udp4, h: udp4.vnet(frame.GSOUDP|frame.GSOECN, 1448), want: frame.ErrGSOType},
		{name: "size 0", k: tcp4, h: tcp4.vnet(frame.GSOTCPv4, 0), want: frame.ErrGSOSize},
		{name: "fragment size 7", k: udp4, h: udp4.vnet(frame.GSOUDP, 7), want: frame.ErrGSOSize},
		{name: "type 4 on IPv6", k: tcp6, h: tcp6.vnet(frame.GSOTCPv4, 1448), want: frame.ErrGSOProtocol},
		{name: "type 6 on IPv4", k: tcp4, h: tcp4.vnet(frame.GSOTCPv6, 1448), want: frame.ErrGSOProtocol},
		{name: "tcp type on udp", k: udp4, h: udp4.vnet(frame.GSOTCPv4, 1448), want: frame.ErrGSOProtocol},
		{name: "udp type on tcp", k: tcp4, h: tcp4.vnet(frame.GSOUDPL4, 1448), want: frame.ErrGSOProtocol},
		{name: "gso on ARP", k: tcp4, h: tcp4.vnet(frame.GSOTCPv4, 1448), edit: edit(12, 8, 6), want: frame.ErrGSOProtocol},
		{name: "data offset short", k: tcp4, h: tcp4.vnet(1, 1448), edit: edit(46, 0x40), want: frame.ErrHeaders},
		{name: "data offset beyond", k: tcpOpts, h: tcpOpts.vnet(1, 1448), edit: cut(80), want: frame.ErrHeaders},
		{name: "TCP header cut", k: tcp4, h: tcp4.vnet(1, 1), edit: cut(53), want: frame.ErrHeaders},
		{name: "IPv6 fragments longer than a frame", k: packet{v6: true, udp: true, payload: make([]byte, 65491)},
			h: packet{v6: true, udp: true}.vnet(frame.GSOUDP, 65496), want: frame.ErrLong},
		{name: "extension header cut", k: packet{v6: true, hop: []byte{0, 1, 4, 0, 0, 0, 0}}, h: frame.VnetHdr{Flags: 1, CsumStart: 54},
			edit: cut(60), norm: frame.VnetHdr{Flags: 1, CsumStart: 54}},
		{name: "IPv4 version", k: tcp4, h: tcp4.vnet(0, 0), edit: edit(14, 0x65), want: frame.ErrIPHeader},
		{name: "IPv4 ihl short", k: tcp4, h: tcp4.vnet(0, 0), edit: edit(14, 0x44), want: frame.ErrIPHeader},
		{name: "IPv4 ihl beyond", k: tcp4, h: tcp4.vnet(0, 0), edit: func(p []byte) []byte { p[14] = 0x4f; return p[:60] }, want: frame.ErrIPHeader},
		{name: "IPv6 cut", k: tcp6, h: tcp6.vnet(0, 0), edit: cut(60), want: frame.ErrIPHeader},
		{name: "tag cut", k: udp4, h: udp4.vnet(0, 0), edit: cut(16), want: frame.ErrIPHeader},
		{name: "IPv4 fragment", k: packet{udp: true, frag: 0x2000}, h: packet{udp: true}.vnet(0, 0), want: frame.ErrFragment},
		{name: "IPv6 fragment", k: tcp6, h: tcp6.vnet(0, 0), edit: edit(22+6, 44), want: frame.ErrFragment},
		{name: "extension headers over the head, gso", k: packet{v6: true, hop: longExt, payload: make([]byte, 5000)},
			h: packet{v6: true, hop: longExt}.vnet(frame.GSOTCPv6, 1448), want: frame.ErrGSOProtocol},
		{name: "extension headers over the head, checksum", k: packet{v6: true, hop: longExt, payload: make([]byte, 5000)},
			h: packet{v6: true, hop: longExt}.vnet(0, 0), norm: frame.VnetHdr{Flags: 1, CsumStart: 54 + 328, CsumOffset: 16}},
		{name: "field on a MAC", k: tcp4, h: frame.VnetHdr{Flags: 1, CsumStart: 0, CsumOffset: 6}, want: frame.ErrCsumRange},
		{name: "field on a tag", k: udp4, h: frame.VnetHdr{Flags: 1, CsumStart: 14}, want: frame.ErrCsumRange},
		{name: "field on an IP address", k: tcp4, h: frame.VnetHdr{Flags: 1, CsumStart: 14, CsumOffset: 12}, want: frame.ErrCsumRange},
		{name: "field on a port", k: tcp4, h: frame.VnetHdr{Flags: 1, CsumStart: 34, CsumOffset: 2}, want: frame.ErrCsumField},
		{name: "field on a UDP port", k: udp4, h: frame.VnetHdr{Flags: 1, CsumStart: 40}, want: frame.ErrCsumField},
		{name: "field behind the end", k: tcp4, h: frame.VnetHdr{Flags: 1, CsumStart: 34, CsumOffset: 5020 - 1}, want: frame.ErrCsumRange},
		{name: "field over all", k: tcp4, h: frame.VnetHdr{Flags: 1, CsumStart: 65535, CsumOffset: 65535}, want: frame.ErrCsumRange},
		{name: "inside a UDP tunnel", k: udp4, h: frame.VnetHdr{Flags: 1, CsumStart: 38 + 8 + 50, CsumOffset: 16},
			norm: frame.VnetHdr{Flags: 1, CsumStart: 96, CsumOffset: 16}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			pkt := tt.k.bytes()
			if tt.edit != nil {
				pkt = tt.edit(pkt)
			}
			got, err := frame.Check(tt.h, pkt[:min(len(pkt), frame.MaxHeaders)], len(pkt))
			if !errors.Is(err, tt.want) || got != tt.norm {
				t.Errorf("got %+v, %v\nwant %+v, %v", got, err, tt.norm, tt.want)
			}
			var s frame.Splitter
			if segs, err := s.Split(nil, tt.h, pkt, 0); !errors.Is(err, tt.want) || tt.want != nil && len(segs) != 0 {
				t.Errorf("Split gives %d segments and %v, Check said %v", len(segs), err, tt.want)
			}
		})
	}
}

func TestHeaderErrorText(t *testing.T) {
	seen := map[string]bool{}
	for e := frame.ErrShort; e <= frame.ErrSegments; e++ {
		if e.Reason() == "unknown reason" || seen[e.Reason()] {
			t.Errorf("reason %d: %q", e, e.Reason())
		}
		seen[e.Reason()] = true
	}
	if got := frame.ErrGSOSize.Error(); got != "check virtio-net header: segment size too small" {
		t.Errorf("Error() = %q", got)
	}
	if got := frame.HeaderError(0).Reason() + frame.HeaderError(200).Reason(); got != "unknown reasonunknown reason" {
		t.Errorf("reasons out of range: %q", got)
	}
}

// WireLen is what an MTU is compared with.
func TestWireLen(t *testing.T) {
	for _, c := range []struct {
		name      string
		k         packet
		typ       uint8
		size, len int
	}{
		{"tso4", packet{}, frame.GSOTCPv4, 1460, 1514},
		{"tso6 with timestamps", packet{v6: true, tcpOpts: make([]byte, 12)}, frame.GSOTCPv6, 1428, 1514},
		{"ufo4", packet{udp: true}, frame.GSOUDP, 1480, 1514},
		{"ufo6", packet{udp: true, v6: true}, frame.GSOUDP, 1448, 1510},
		{"ufo4, tagged twice", packet{udp: true, tags: 2}, frame.GSOUDP, 1480, 1522},
		{"uso, tagged", packet{udp: true, tags: 1}, frame.GSOUDPL4, 1472, 1518},
		{"none", packet{udp: true}, frame.GSONone, 0, 5042},
	} {
		c.k.payload = make([]byte, 5000)
		pkt := c.k.unfinished(0)
		h, err := frame.Check(c.k.vnet(c.typ, c.size), pkt, len(pkt))
		if err != nil {
			t.Fatal(c.name, err)
		}
		got := h.WireLen(len(pkt))
		longest := 0
		for _, seg := range mustSplit(t, h, pkt, 0) {
			longest = max(longest, len(seg.Hdr)+len(seg.Payload))
		}
		if got != c.len || longest != c.len {
			t.Errorf("%s: WireLen %d, longest %d, want %d", c.name, got, longest, c.len)
		}
	}
}
