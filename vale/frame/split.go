package frame

import (
	"encoding/binary"
	"slices"
)

// Segment is one frame that came out of Split: Hdr, then Payload. Hdr always
// holds the Ethernet header. Payload lies in the packet given to Split, Hdr
// there or in the Splitter's memory.
type Segment struct {
	Hdr, Payload []byte
	Vnet         VnetHdr
}

// Splitter finishes frames for receivers that lack offloads. It owns the memory
// of the new headers and serves one goroutine. The zero value is ready.
type Splitter struct {
	scratch []byte
}

// Split turns pkt, a whole frame in private memory, into frames that a receiver
// with the offloads have takes, and appends them to dst. h is the header that
// Check gave for it; it is checked again here, against the private copy.
//
// A frame that the receiver takes as it is, or that lacks only its checksum,
// gives one Segment whose Hdr is pkt; the checksum is written into pkt.
// TCP (v4, v6) and USO are segmented, UFO is cut into IP fragments.
//
// The segments stay valid until pkt is reused or Split is called with an empty
// dst, which begins to reuse the header memory. So a caller that splits several
// frames before delivering them appends all to one dst.
func (s *Splitter) Split(dst []Segment, h VnetHdr, pkt []byte, have Offloads) ([]Segment, error) {
	if len(dst) == 0 {
		s.scratch = s.scratch[:0]
	}
	n := len(pkt)
	if n < HeaderLen {
		return dst, ErrShort
	}
	if n > MaxLen {
		return dst, ErrLong
	}
	if h.Plain() {
		return append(dst, Segment{Hdr: pkt}), nil
	}
	h, p, reason := check(h, pkt, n)
	if reason != 0 {
		return dst, reason
	}
	switch {
	case h.Needs()&^have == 0:
		return append(dst, Segment{Hdr: pkt, Vnet: h}), nil
	case h.GSOType == GSONone:
		p.complete(h, pkt)
		return append(dst, Segment{Hdr: pkt}), nil
	case h.GSOType == GSOUDP:
		p.complete(h, pkt) // over the whole datagram, so before it is cut
		return s.fragment(dst, h, p, pkt), nil
	}
	return s.segment(dst, h, p, pkt, have&Csum != 0), nil
}

// complete writes the checksum that h says is missing.
func (p *headers) complete(h VnetHdr, pkt []byte) {
	start := int(h.CsumStart)
	field := pkt[start+int(h.CsumOffset):][:2]
	if start == p.l4 && !p.routed && p.version != 0 && (p.proto == protoTCP || p.proto == protoUDP) {
		end := p.l4End(pkt)
		length := uint16(end - start)
		field[0], field[1] = 0, 0
		sum := Add(p.pseudo(pkt, 0, 0), length)
		putChecksum(field, Add(sum, Sum(pkt[start:end])), p.proto == protoUDP)
		return
	}
	// Virtio 1.3, 5.1.6.2.1: the field holds the pseudo-header's part already.
	// Which protocol this is is unknown, so zero is avoided as UDP demands; all
	// others take 0xffff just as well.
	putChecksum(field, Sum(pkt[start:]), true)
}

// putChecksum writes the checksum for a sum. To UDP zero means "no checksum",
// so it has 0xffff instead (RFC 768).
func putChecksum(field []byte, sum uint16, udp bool) {
	c := ^sum
	if c == 0 && udp {
		c = 0xffff
	}
	binary.BigEndian.PutUint16(field, c)
}

// reserve makes room for count headers of size bytes. Headers handed out before
// keep their old memory.
func (s *Splitter) reserve(count, size int) {
	need := count * size
	if cap(s.scratch)-len(s.scratch) < need {
		s.scratch = make([]byte, 0, max(2*cap(s.scratch), need, 4096))
	}
}

// header copies a header to scratch memory, followed by extra bytes to fill in.
func (s *Splitter) header(h []byte, extra int) []byte {
	from := len(s.scratch)
	to := from + len(h) + extra
	s.scratch = s.scratch[:to]
	out := s.scratch[from:to:to]
	copy(out, h)
	return out
}

// TCP flags at offset 13 of the header.
const (
	tcpFIN = 0x01
	tcpPSH = 0x08
	tcpCWR = 0x80
)

// segment cuts TCP or USO into segments with a full set of headers each. With
// csum the receiver completes the checksums.
func (s *Splitter) segment(dst []Segment, h VnetHdr, p headers, pkt []byte, csum bool) []Segment {
	hdrLen, size := int(h.HdrLen), int(h.GSOSize)
	tmpl, payload := pkt[:hdrLen], pkt[hdrLen:]
	count := (len(payload) + size - 1) / size
	dst = slices.Grow(dst, count)
	s.reserve(count, hdrLen)

	field := p.l4 + int(h.CsumOffset)
	partial := binary.BigEndian.Uint16(tmpl[field:])
	pseudo := p.pseudo(tmpl, partial, len(pkt)-p.l4)
	vnet := VnetHdr{}
	if csum {
		vnet = VnetHdr{Flags: NeedsCsum, CsumStart: h.CsumStart, CsumOffset: h.CsumOffset}
	}
	for i := range count {
		part := payload[i*size : min((i+1)*size, len(payload))]
		hdr := s.header(tmpl, 0)
		length := hdrLen - p.l4 + len(part)
		p.setIPLen(hdr, p.l4-p.l3+length, uint16(i))
		if p.proto == protoTCP {
			setTCP(hdr[p.l4:], uint32(i*size), i == 0, i == count-1)
		} else {
			binary.BigEndian.PutUint16(hdr[p.l4+4:], uint16(length))
		}
		sum := Add(pseudo, uint16(length))
		if csum {
			binary.BigEndian.PutUint16(hdr[field:], sum)
		} else {
			hdr[field], hdr[field+1] = 0, 0
			sum = Add(sum, Add(Sum(hdr[p.l4:]), Sum(part)))
			putChecksum(hdr[field:], sum, p.proto == protoUDP)
		}
		dst = append(dst, Segment{Hdr: hdr, Payload: part, Vnet: vnet})
	}
	return dst
}

// setTCP makes the header of the segment that begins at offset in the payload.
// CWR answers one congestion signal and goes with the first segment only
// (RFC 3168, 6.1.2).
func setTCP(tcp []byte, offset uint32, first, last bool) {
	seq := binary.BigEndian.Uint32(tcp[4:])
	binary.BigEndian.PutUint32(tcp[4:], seq+offset)
	if !first {
		tcp[13] &^= tcpCWR
	}
	if !last {
		tcp[13] &^= tcpFIN | tcpPSH
	}
}

// setIPLen sets the length of the IP packet in hdr, counted from the IP header
// on. An IPv4 packet gets the next identification as well.
func (p *headers) setIPLen(hdr []byte, length int, id uint16) {
	ip := hdr[p.l3:]
	if p.version == 6 {
		binary.BigEndian.PutUint16(ip[4:], uint16(length-ipv6Len))
		return
	}
	binary.BigEndian.PutUint16(ip[2:], uint16(length))
	binary.BigEndian.PutUint16(ip[4:], binary.BigEndian.Uint16(ip[4:])+id)
	ip[10], ip[11] = 0, 0
	binary.BigEndian.PutUint16(ip[10:], Checksum(hdr[p.l3:p.l4]))
}
