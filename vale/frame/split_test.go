package frame_test

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/vale-vmnet/vale-vmnet/vale/frame"
	"pgregory.net/rapid"
)

const allOffloads = frame.Csum | frame.TSO4 | frame.TSO6 | frame.ECN | frame.UFO | frame.USO

func genPacket(t *rapid.T, udp bool) packet {
	k := packet{
		tags: rapid.IntRange(0, 2).Draw(t, "tags"), v6: rapid.Bool().Draw(t, "v6"), udp: udp,
		id: rapid.Uint16Min(1).Draw(t, "id"), seq: rapid.Uint32().Draw(t, "seq"), flags: rapid.Byte().Draw(t, "flags"),
		tcpOpts: make([]byte, 4*rapid.IntRange(0, 10).Draw(t, "tcp options")),
	}
	for i := range k.tcpOpts {
		k.tcpOpts[i] = byte(i*37 + 1)
	}
	if k.v6 {
		if rapid.Bool().Draw(t, "hop-by-hop") {
			k.hop = []byte{0, 1, 4, 0, 0, 0, 0}
		}
		if rapid.Bool().Draw(t, "destination options") {
			k.dest = []byte{1, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
		}
	} else {
		// router alert (copied), record route (not copied), end and padding
		k.options = [][]byte{nil, {148, 4, 0, 0}, {7, 7, 4, 1, 2, 3, 4, 0}, {1, 1, 148, 4, 0, 0, 7, 3, 4, 0, 0, 0}}[rapid.IntRange(0, 3).Draw(t, "options")]
	}
	n := rapid.OneOf(rapid.IntRange(0, 200), rapid.IntRange(0, 64000)).Draw(t, "payload")
	k.payload = make([]byte, n)
	x := rapid.Uint64().Draw(t, "seed") | 1
	for i := range k.payload {
		x = x*6364136223846793005 + 1442695040888963407
		k.payload[i] = byte(x >> 56)
	}
	return k
}

func genGSOSize(t *rapid.T, k packet, least int) int {
	least = max(least, (len(k.payload)+200)/frame.MaxSegments+8)
	return rapid.OneOf(rapid.IntRange(least, least+1500), rapid.SampledFrom([]int{1448, 1460, 8948, 65535})).Draw(t, "gso size")
}

// genPartial draws what the sender left in the checksum field: anything, unless
// the frame passes to a receiver that relies on the sum of the pseudo-header.
func genPartial(t *rapid.T, k packet, h frame.VnetHdr, have frame.Offloads) uint16 {
	if have&frame.Csum != 0 && k.hdrLen()+len(k.payload) <= k.hdrLen()+int(h.GSOSize) {
		return k.partial()
	}
	return rapid.Uint16().Draw(t, "partial")
}

// mustSplit checks the packet and splits a private copy of it.
func mustSplit(t rapid.TB, h frame.VnetHdr, pkt []byte, have frame.Offloads) []frame.Segment {
	t.Helper()
	head := bytes.Clone(pkt[:min(len(pkt), frame.MaxHeaders)])
	checked, err := frame.Check(h, head, len(pkt))
	if err != nil {
		t.Fatalf("Check(%+v): %v", h, err)
	}
	var s frame.Splitter
	segs, err := s.Split(nil, checked, bytes.Clone(pkt), have)
	if err != nil {
		t.Fatalf("Split(%+v): %v", checked, err)
	}
	limit := checked.WireLen(len(pkt))
	for i, seg := range segs {
		if missing := seg.Vnet.Needs() &^ have; missing != 0 {
			t.Fatalf("segment %d needs %v", i, missing)
		}
		if n := len(seg.Hdr) + len(seg.Payload); n > limit && checked.Needs()&^have != 0 {
			t.Fatalf("segment %d has %d bytes, limit %d", i, n, limit)
		}
	}
	return segs
}

// Whatever the receiver can do, the segments together are the packet.
func TestSplitTCP(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		k := genPacket(t, false)
		h := k.vnet(frame.GSOTCPv4, genGSOSize(t, k, 1))
		if k.v6 {
			h.GSOType = frame.GSOTCPv6
		}
		h.GSOType |= rapid.SampledFrom([]uint8{0, frame.GSOECN}).Draw(t, "ecn")
		have := rapid.SampledFrom([]frame.Offloads{0, frame.Csum}).Draw(t, "have")
		segs := mustSplit(t, h, k.unfinished(genPartial(t, k, h, have)), have)

		got, flags := k, byte(0)
		got.payload = nil
		for i, seg := range segs {
			d, err := decode(receive(seg))
			if err != nil {
				t.Fatalf("segment %d: %v", i, err)
			}
			if d.seq != k.seq+uint32(len(got.payload)) {
				t.Fatalf("segment %d: sequence %d after %d bytes from %d", i, d.seq, len(got.payload), k.seq)
			}
			if !d.v6 && uint16(d.id) != k.id+uint16(i) {
				t.Fatalf("segment %d: identification %d from %d", i, d.id, k.id)
			}
			if i > 0 && d.flags&0x80 != 0 {
				t.Fatalf("segment %d: CWR", i)
			}
			if i < len(segs)-1 && (d.flags&9 != 0 || len(d.payload) != int(h.GSOSize)) {
				t.Fatalf("segment %d: flags %#x, %d bytes", i, d.flags, len(d.payload))
			}
			flags |= d.flags
			got.payload = append(got.payload, d.payload...)
		}
		got.flags = flags
		requireEqual(t, got.bytes(), k.bytes())
		requireHeaders(t, k, segs)
	})
}

// requireHeaders compares what no segment may change: Ethernet, VLAN tags, IP
// options and extension headers, ports, acknowledgement, window, TCP options.
func requireHeaders(t rapid.TB, k packet, segs []frame.Segment) {
	t.Helper()
	want := k.bytes()[:k.hdrLen()]
	for i, seg := range segs {
		got := bytes.Clone(receive(seg)[:k.hdrLen()])
		mask := func(at, n int) { copy(got[at:at+n], want[at:at+n]) }
		if k.v6 {
			mask(k.l3()+4, 2)
		} else {
			mask(k.l3()+2, 4)
			mask(k.l3()+10, 2)
		}
		if k.udp {
			mask(k.l4()+4, 4)
		} else {
			mask(k.l4()+4, 4)
			mask(k.l4()+13, 1)
			mask(k.l4()+16, 2)
		}
		if !bytes.Equal(got, want) {
			t.Fatalf("segment %d: header\n%x, of\n%x", i, got, want)
		}
	}
}

func requireEqual(t rapid.TB, got, want []byte) {
	t.Helper()
	if !bytes.Equal(got, want) {
		i := 0
		for i < min(len(got), len(want)) && got[i] == want[i] {
			i++
		}
		t.Fatalf("got %d bytes, want %d, first difference at %d", len(got), len(want), i)
	}
}

func TestSplitUSO(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		k := genPacket(t, true)
		h := k.vnet(frame.GSOUDPL4, genGSOSize(t, k, 1))
		have := rapid.SampledFrom([]frame.Offloads{0, frame.Csum, allOffloads &^ frame.USO}).Draw(t, "have")
		segs := mustSplit(t, h, k.unfinished(genPartial(t, k, h, have)), have)
		var payload []byte
		for i, seg := range segs {
			d, err := decode(receive(seg))
			if err != nil {
				t.Fatalf("datagram %d: %v", i, err)
			}
			if i < len(segs)-1 && len(d.payload) != int(h.GSOSize) {
				t.Fatalf("datagram %d: %d bytes", i, len(d.payload))
			}
			payload = append(payload, d.payload...)
		}
		requireEqual(t, payload, k.payload)
		requireHeaders(t, k, segs)
	})
}

func TestSplitUFO(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		k := genPacket(t, true)
		h := k.vnet(frame.GSOUDP, genGSOSize(t, k, 24))
		have := rapid.SampledFrom([]frame.Offloads{0, frame.Csum, allOffloads &^ frame.UFO}).Draw(t, "have")
		segs := mustSplit(t, h, k.unfinished(genPartial(t, k, h, have)), have)
		if len(segs) == 1 {
			requireEqual(t, receive(segs[0]), k.bytes())
			return
		}
		requireEqual(t, reassemble(t, segs, int(h.GSOSize)), k.bytes())
	})
}

// reassemble puts fragments together as RFC 791 3.2 and RFC 8200 4.5 say: the
// headers of the first, then the payload of all.
func reassemble(t rapid.TB, segs []frame.Segment, size int) []byte {
	t.Helper()
	var whole []byte
	var first decoded
	total := 0
	for i, seg := range segs {
		b := receive(seg)
		d, err := decode(b)
		if err != nil {
			t.Fatalf("fragment %d: %v", i, err)
		}
		if i == 0 {
			first = d
			whole = bytes.Clone(b[:d.l4])
		}
		if !d.fragment || d.fragOff != total || d.more != (i < len(segs)-1) || d.id != first.id || len(d.payload) > size {
			t.Fatalf("fragment %d: %+v after %d bytes", i, d, total)
		}
		whole = append(whole, d.payload...)
		total += len(d.payload)
	}
	if first.v6 {
		whole = append(whole[:first.l4-8], whole[first.l4:]...)
		binary.BigEndian.PutUint16(whole[first.l3+4:], uint16(len(whole)-first.l3-40))
		at := first.l3 + 6 // the next-header byte that named the fragment header
		for size := 40; whole[at] != 44; {
			at = first.l3 + size
			size += (int(whole[at+1]) + 1) * 8
		}
		whole[at] = first.proto
		return whole
	}
	ip := whole[first.l3:]
	copy(ip[2:], be16(len(ip)))
	copy(ip[6:], []byte{0, 0, 64, first.proto, 0, 0})
	copy(ip[10:], be16(int(^naiveSum(ip[:first.l4-first.l3]))))
	return whole
}

// A frame without GSO gets its checksum in place, or passes.
func TestSplitChecksum(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		k := genPacket(t, rapid.Bool().Draw(t, "udp"))
		h := k.vnet(frame.GSONone, 0)
		pkt := k.unfinished(rapid.Uint16().Draw(t, "partial"))
		want := k.bytes()
		if pad := 60 - len(pkt); pad > 0 && rapid.Bool().Draw(t, "pad") {
			junk := bytes.Repeat([]byte{0xa5}, pad) // padding need not be zero
			pkt, want = append(pkt, junk...), append(want, junk...)
		}
		segs := mustSplit(t, h, pkt, 0)
		if len(segs) != 1 || segs[0].Vnet != (frame.VnetHdr{}) {
			t.Fatalf("got %d segments, header %+v", len(segs), segs[0].Vnet)
		}
		requireEqual(t, append(bytes.Clone(segs[0].Hdr), segs[0].Payload...), want)

		segs = mustSplit(t, h, pkt, frame.Csum)
		requireEqual(t, append(bytes.Clone(segs[0].Hdr), segs[0].Payload...), pkt)
		if segs[0].Vnet.Flags != frame.NeedsCsum {
			t.Fatalf("passed with header %+v", segs[0].Vnet)
		}
	})
}

// Bytes behind the IP packet, or behind the UDP datagram in it (RFC 9868), are
// no part of the checksum.
func TestChecksumEndsWithDatagram(t *testing.T) {
	junk := []byte{0xa5, 0x5a, 0xa5}
	for _, k := range []packet{{id: 1}, {v6: true}, {udp: true, id: 1}, {udp: true, v6: true}} {
		segs := mustSplit(t, k.vnet(0, 0), append(k.unfinished(0), junk...), 0)
		requireEqual(t, segs[0].Hdr, append(k.bytes(), junk...))
		if !k.udp {
			continue
		}
		longer := packet{udp: true, v6: k.v6, id: 1, payload: junk}.bytes()[:k.l4()] // IP length covers the junk
		pkt := append(longer, append(k.unfinished(0)[k.l4():], junk...)...)
		segs = mustSplit(t, k.vnet(0, 0), pkt, 0)
		requireEqual(t, segs[0].Hdr[k.l4():], append(k.bytes()[k.l4():], junk...))
	}
}

// UDP whose checksum comes out as zero has 0xffff, as zero means none.
func TestUDPZeroChecksum(t *testing.T) {
	k := packet{udp: true, id: 1, payload: []byte{0, 0}}
	b := k.bytes()
	c := binary.BigEndian.Uint16(b[k.l4()+6:])
	k.payload = be16(int(c)) // now everything sums to 0xffff
	if got := k.bytes()[k.l4()+6:][:2]; !bytes.Equal(got, []byte{0xff, 0xff}) {
		t.Fatalf("the reference gives %x", got)
	}
	segs := mustSplit(t, k.vnet(0, 0), k.unfinished(0), 0)
	requireEqual(t, segs[0].Hdr, k.bytes())
}

// A protocol the switch does not know is summed from CsumStart, the field
// counting as the sender left it.
func TestGenericChecksum(t *testing.T) {
	pkt := append(make([]byte, 12), 0x88, 0xb5)
	pkt = append(pkt, 9, 9, 0x12, 0x34, 0x80, 0, 0xff, 0xff, 7)
	h := frame.VnetHdr{Flags: frame.NeedsCsum, CsumStart: 16, CsumOffset: 2}
	segs := mustSplit(t, h, pkt, 0)
	want := bytes.Clone(pkt)
	copy(want[18:], be16(int(^naiveSum(pkt[16:]))))
	requireEqual(t, segs[0].Hdr, want)
}

// Behind a routing header the destination in the IPv6 header is not the one of
// the pseudo-header, so the sender's partial sum is what there is.
func TestRoutedIPv6(t *testing.T) {
	final := bytes.Repeat([]byte{0x77}, 16)
	k := packet{v6: true, seq: 5, payload: bytes.Repeat([]byte{3}, 3000)}
	plain := k.bytes()
	route := append([]byte{6, 2, 4, 1, 0, 0, 0, 0}, final...) // type 4, one segment left
	pkt := bytes.Join([][]byte{plain[:k.l4()], route, plain[k.l4():]}, nil)
	pkt[14+6] = 43
	length := len(pkt) - k.l4() - len(route)
	copy(pkt[14+4:], be16(length+len(route)))
	pseudo := naiveSum(pkt[14+8:14+24], final, []byte{0, 6}, be16(length))
	copy(pkt[k.l4()+len(route)+16:], be16(int(pseudo)))
	h := k.vnet(frame.GSOTCPv6, 1000)
	h.CsumStart += uint16(len(route))
	whole := h
	whole.GSOType = frame.GSONone
	for _, c := range []struct {
		h    frame.VnetHdr
		have frame.Offloads
		size int
	}{{h, 0, 1020}, {h, frame.Csum, 1020}, {whole, 0, 3020}} {
		for i, seg := range mustSplit(t, c.h, pkt, c.have) {
			b := receive(seg)
			l4 := b[k.l4()+len(route):]
			if len(l4) != c.size || naiveSum(b[14+8:14+24], final, []byte{0, 6}, be16(len(l4)), l4) != 0xffff {
				t.Errorf("%+v: segment %d: bad checksum of %d bytes", c, i, len(l4))
			}
		}
	}
}

func TestIPv4Fragments(t *testing.T) {
	k := packet{udp: true, frag: 0x4000, payload: bytes.Repeat([]byte{5}, 2000),
		options: []byte{7, 7, 4, 0, 0, 0, 0, 148, 4, 0, 0, 0}}
	segs := mustSplit(t, k.vnet(frame.GSOUDP, 1003), k.unfinished(0), 0)
	var first decoded
	for i, seg := range segs {
		d, err := decode(receive(seg))
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			first = d
		}
		if seg.Hdr[14+6]&0x40 != 0 {
			t.Errorf("fragment %d has DF", i)
		}
		if d.id != first.id {
			t.Errorf("fragment %d: identification %d, want %d", i, d.id, first.id)
		}
		want := k.options
		if i > 0 {
			want = []byte{1, 1, 1, 1, 1, 1, 1, 148, 4, 0, 0, 0}
		}
		if !bytes.Equal(seg.Hdr[34:46], want) {
			t.Errorf("fragment %d: options %x, want %x", i, seg.Hdr[34:46], want)
		}
		if i < len(segs)-1 && len(seg.Payload) != 1000 {
			t.Errorf("fragment %d: %d bytes", i, len(seg.Payload))
		}
	}
	if len(segs) != 3 {
		t.Errorf("got %d fragments, want 3", len(segs))
	}
}

// Fragments repeat the hop-by-hop header and divide the destination options.
func TestIPv6Fragments(t *testing.T) {
	k := packet{udp: true, v6: true, payload: make([]byte, 2000),
		hop: []byte{0, 1, 4, 0, 0, 0, 0}, dest: []byte{0, 1, 4, 0, 0, 0, 0}}
	for i, seg := range mustSplit(t, k.vnet(frame.GSOUDP, 1000), k.unfinished(0), 0) {
		more := byte(1)
		if i == 2 {
			more = 0
		}
		offset := be16(i * 1000)
		want := append([]byte{44}, k.hop...)
		want = append(want, 60, 0, offset[0], offset[1]|more)
		if got := seg.Hdr[54:]; seg.Hdr[20] != 0 || len(got) != 16 || !bytes.Equal(got[:12], want) {
			t.Errorf("fragment %d: headers %x, want %x and an identification", i, got, want)
		}
	}
}

// Options that lie about their length are left alone.
func TestIPv4FragmentsBadOptions(t *testing.T) {
	for _, opts := range [][]byte{{7, 0, 0, 0}, {7, 5, 0, 0}, {1, 1, 1, 7}, {0, 7, 7, 7}} {
		k := packet{udp: true, id: 1, payload: make([]byte, 2000), options: opts}
		segs := mustSplit(t, k.vnet(frame.GSOUDP, 1480), k.unfinished(0), 0)
		requireEqual(t, reassemble(t, segs, 1480), k.bytes())
		if got := segs[1].Hdr[37]; got != opts[3] {
			t.Errorf("options %x: last became %x", opts, got)
		}
	}
}

// Several frames on one dst stay valid together; an empty dst starts over
// without allocating.
func TestSplitterMemory(t *testing.T) {
	k := packet{payload: bytes.Repeat([]byte{1}, 60000), id: 1}
	h, pkt := k.vnet(frame.GSOTCPv4, 1448), k.unfinished(0)
	var s frame.Splitter
	var dst []frame.Segment
	var err error
	for i := range 20 {
		next := packet{payload: k.payload, id: uint16(i * 100)}
		if dst, err = s.Split(dst, h, next.unfinished(0), 0); err != nil {
			t.Fatal(err)
		}
	}
	each := (len(k.payload) + 1447) / 1448
	for i, seg := range dst {
		d, err := decode(receive(seg))
		if want := i/each*100 + i%each; err != nil || int(d.id) != want {
			t.Fatalf("segment %d: identification %d, want %d, %v", i, d.id, want, err)
		}
	}
	u := packet{udp: true, v6: true, payload: k.payload}
	uh, upkt := u.vnet(frame.GSOUDP, 1448), u.unfinished(0)
	allocs := testing.AllocsPerRun(100, func() {
		checked, err1 := frame.Check(h, pkt[:frame.MaxHeaders], len(pkt))
		dst, err = s.Split(dst[:0], checked, pkt, 0)
		_, err2 := frame.Check(frame.VnetHdr{GSOType: 77}, pkt, len(pkt))
		if err != nil || err1 != nil || err2 == nil {
			t.Fatal(err, err1, err2)
		}
		if dst, err = s.Split(dst, uh, upkt, 0); err != nil {
			t.Fatal(err)
		}
	})
	if allocs != 0 {
		t.Errorf("%v allocations per run", allocs)
	}
}
