package frame

import (
	"encoding/binary"
	"math/rand/v2"
	"slices"
)

// fragment cuts a UDP datagram, its checksum complete, into IP fragments of
// GSOSize bytes each. The UDP header counts as payload here: it is in the first
// fragment only.
func (s *Splitter) fragment(dst []Segment, h VnetHdr, p headers, pkt []byte) []Segment {
	tmpl, payload := pkt[:p.fragAt], pkt[p.fragAt:]
	size, extra := int(h.GSOSize), p.fragHeaderLen()
	count := (len(payload) + size - 1) / size
	dst = slices.Grow(dst, count)
	s.reserve(count, len(tmpl)+extra)

	id := rand.Uint32()
	for i := range count {
		part := payload[i*size : min((i+1)*size, len(payload))]
		hdr := s.header(tmpl, extra)
		if p.version == 6 {
			p.setFragment6(hdr, id, i*size, i < count-1)
		} else {
			p.setFragment4(hdr, uint16(id), i*size, i < count-1)
		}
		p.setIPLen(hdr, len(hdr)-p.l3+len(part), 0)
		dst = append(dst, Segment{Hdr: hdr, Payload: part})
	}
	return dst
}

// setFragment4 makes an IPv4 header that of the fragment at offset. DF goes:
// with UFO the sender asked for fragments. A sender that meant the datagram to
// stay whole may have left its identification zero (RFC 6864, 4.1); fragments
// need one, so they get id.
func (p *headers) setFragment4(hdr []byte, id uint16, offset int, more bool) {
	ip := hdr[p.l3:p.l4]
	if binary.BigEndian.Uint16(ip[4:]) == 0 {
		binary.BigEndian.PutUint16(ip[4:], id)
	}
	frag := uint16(offset / 8)
	if more {
		frag |= ipv4MF
	}
	binary.BigEndian.PutUint16(ip[6:], frag)
	if offset > 0 {
		clearOptions(ip[ipv4Len:])
	}
}

// clearOptions replaces the IPv4 options that belong in the first fragment only
// by no-operations (RFC 791, 3.1: the copied flag).
func clearOptions(opts []byte) {
	const end, nop, copied = 0, 1, 0x80
	for len(opts) > 0 && opts[0] != end {
		size := 1
		if opts[0] != nop {
			if len(opts) < 2 || opts[1] < 2 || int(opts[1]) > len(opts) {
				return
			}
			size = int(opts[1])
		}
		if opts[0]&copied == 0 {
			for i := range size {
				opts[i] = nop
			}
		}
		opts = opts[size:]
	}
}

// setFragment6 fills in the fragment header at the end of hdr (RFC 8200, 4.5).
func (p *headers) setFragment6(hdr []byte, id uint32, offset int, more bool) {
	frag := hdr[p.fragAt:]
	frag[0], hdr[p.fragNext] = hdr[p.fragNext], extFragment
	frag[1] = 0
	word := uint16(offset) // the low three bits are free, being a multiple of 8
	if more {
		word |= 1
	}
	binary.BigEndian.PutUint16(frag[2:], word)
	binary.BigEndian.PutUint32(frag[4:], id)
}
