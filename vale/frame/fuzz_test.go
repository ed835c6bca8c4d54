package frame_test

import (
	"bytes"
	"testing"

	"github.com/vale-vmnet/vale-vmnet/vale/frame"
)

// FuzzCheckSplit plays the hostile guest: ten bytes of header, then the frame.
// What Check accepts, Split must finish within the limits, leaving alone what
// policy looks at.
func FuzzCheckSplit(f *testing.F) {
	add := func(k packet, typ uint8, size int, have frame.Offloads) {
		b := make([]byte, frame.VnetHdrLen)
		k.vnet(typ, size).Write(b)
		f.Add(append(b, k.unfinished(0)...), uint32(have))
	}
	body := bytes.Repeat([]byte{0x5a}, 700)
	hop, dest := []byte{0, 1, 4, 0, 0, 0, 0}, []byte{0, 1, 4, 0, 0, 0, 0}
	add(packet{payload: body}, frame.GSOTCPv4, 100, 0)
	add(packet{payload: body, tags: 1, options: []byte{7, 4, 4, 0}}, frame.GSOTCPv4|frame.GSOECN, 100, frame.Csum|frame.TSO4)
	add(packet{payload: body, v6: true, tags: 2, hop: hop, dest: dest}, frame.GSOTCPv6, 100, frame.Csum)
	add(packet{payload: body, udp: true, options: []byte{7, 7, 4, 0, 0, 0, 0, 1}}, frame.GSOUDP, 104, 0)
	add(packet{payload: body, udp: true, v6: true, hop: hop, dest: dest}, frame.GSOUDP, 104, 0)
	add(packet{payload: body, udp: true}, frame.GSOUDPL4, 100, frame.Csum)
	add(packet{payload: body, udp: true, v6: true}, frame.GSONone, 0, 0)
	add(packet{payload: body}, frame.GSONone, 0, 0)
	f.Add(make([]byte, frame.VnetHdrLen+64), uint32(0))

	var s frame.Splitter
	f.Fuzz(func(t *testing.T, data []byte, haveBits uint32) {
		if len(data) < frame.VnetHdrLen {
			return
		}
		sent, pkt := frame.ReadVnetHdr(data), data[frame.VnetHdrLen:]
		have := frame.Offloads(haveBits) & allOffloads
		orig := bytes.Clone(pkt)
		h, err := frame.Check(sent, orig[:min(len(orig), frame.MaxHeaders)], len(orig))
		work := bytes.Clone(orig)
		segs, splitErr := s.Split(nil, sent, work, have)
		if err != nil {
			if splitErr != err || len(segs) != 0 {
				t.Fatalf("Check: %v; Split: %d segments, %v", err, len(segs), splitErr)
			}
			return
		}
		if again, err := frame.Check(h, orig, len(orig)); err != nil || again != h {
			t.Fatalf("Check of %+v again: %+v, %v", h, again, err)
		}
		if splitErr != nil || len(segs) == 0 || len(segs) > frame.MaxSegments {
			t.Fatalf("Split of %+v: %d segments, %v", h, len(segs), splitErr)
		}
		passed := h.Needs()&^have == 0
		limit, total := h.WireLen(len(orig)), 0
		for i, seg := range segs {
			b := append(bytes.Clone(seg.Hdr), seg.Payload...)
			total += len(b)
			if len(b) > limit && !passed {
				t.Fatalf("segment %d: %d bytes, limit %d", i, len(b), limit)
			}
			if seg.Vnet.Needs()&^have != 0 {
				t.Fatalf("segment %d: needs %v, receiver has %v", i, seg.Vnet.Needs(), have)
			}
			if again, err := frame.Check(seg.Vnet, b, len(b)); err != nil || again != seg.Vnet {
				t.Fatalf("segment %d: header %+v: %+v, %v", i, seg.Vnet, again, err)
			}
			if !bytes.Equal(b[:frame.HeaderLen], orig[:frame.HeaderLen]) {
				t.Fatalf("segment %d: Ethernet header changed", i)
			}
		}
		if total < len(orig) {
			t.Fatalf("%d bytes became %d", len(orig), total)
		}
		if len(segs) == 1 {
			at := len(orig)
			if !passed {
				at = int(h.CsumStart) + int(h.CsumOffset)
				copy(orig[at:at+2], segs[0].Hdr[at:at+2])
			}
			if !bytes.Equal(orig, segs[0].Hdr) {
				t.Fatalf("bytes besides the checksum at %d changed", at)
			}
		}
	})
}
