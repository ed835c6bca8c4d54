package frame

import "encoding/binary"

const (
	etherIPv4 = 0x0800
	etherIPv6 = 0x86dd
	etherCTag = 0x8100 // IEEE 802.1Q
	etherSTag = 0x88a8 // IEEE 802.1ad
	maxTags   = 2

	protoTCP = 6
	protoUDP = 17

	// IPv6 extension headers, RFC 8200 section 4.
	extHopByHop = 0
	extRouting  = 43
	extFragment = 44
	extDestOpts = 60
	maxExts     = 8

	ipv4Len     = 20 // without options
	ipv6Len     = 40
	ipv6FragLen = 8
	udpLen      = 8
	tcpLen      = 20 // without options
	maxIPLen    = 65535

	ipv4MF = 0x2000

	tcpChecksum = 16 // offset of the checksum field in the TCP header
	udpChecksum = 6
)

// headers says where the headers of a packet are. All offsets count from the
// start of the frame.
type headers struct {
	version uint8 // 4, 6, or 0 when the frame does not carry IP
	proto   uint8 // what is at l4
	// fragment: this is one fragment of a datagram.
	fragment bool
	// routed: an IPv6 routing header still has segments left, so the address
	// in the IPv6 header is not the one in the pseudo-header (RFC 8200, 8.1).
	routed bool

	l3, l4 int
	// fragAt is where the part of an IP packet begins that fragments divide
	// among them; fragNext is the IPv6 next-header byte that describes it.
	fragAt, fragNext int
}

// parse finds the headers in head, the first bytes of a frame and at least
// HeaderLen of them. It fails when the frame claims to be IP and is not.
func parse(head []byte) (headers, bool) {
	p := headers{l3: HeaderLen}
	etype := binary.BigEndian.Uint16(head[12:])
	for tags := 0; tags < maxTags && (etype == etherCTag || etype == etherSTag); tags++ {
		if p.l3+VLANLen > len(head) {
			return p, false
		}
		etype = binary.BigEndian.Uint16(head[p.l3+2:])
		p.l3 += VLANLen
	}
	p.l4 = p.l3
	switch etype {
	case etherIPv4:
		ok := p.parseIPv4(head)
		return p, ok
	case etherIPv6:
		ok := p.parseIPv6(head)
		return p, ok
	}
	return p, true
}

func (p *headers) parseIPv4(head []byte) bool {
	b := head[p.l3:]
	if len(b) < ipv4Len || b[0]>>4 != 4 {
		return false
	}
	ihl := int(b[0]&15) * 4
	if ihl < ipv4Len || ihl > len(b) {
		return false
	}
	p.version, p.proto = 4, b[9]
	p.fragment = binary.BigEndian.Uint16(b[6:])&0x3fff != 0 // MF or an offset
	p.l4 = p.l3 + ihl
	p.fragAt = p.l4
	return true
}

// parseIPv6 walks the extension headers. It stops at what it does not know, or
// at a header that reaches past head; proto then names that header, which no
// caller takes for TCP or UDP.
func (p *headers) parseIPv6(head []byte) bool {
	b := head[p.l3:]
	if len(b) < ipv6Len || b[0]>>4 != 6 {
		return false
	}
	p.version, p.proto = 6, b[6]
	p.l4 = p.l3 + ipv6Len
	p.fragAt, p.fragNext = p.l4, p.l3+6
	for range maxExts {
		switch p.proto {
		case extHopByHop, extRouting, extDestOpts:
		case extFragment:
			p.fragment = true
			return true
		default:
			return true
		}
		if p.l4+8 > len(head) {
			return true
		}
		end := p.l4 + (int(head[p.l4+1])+1)*8
		if end > len(head) {
			return true
		}
		// What routers on the way must see stays in every fragment: all up to
		// the routing header, or else the hop-by-hop header (RFC 8200, 4.5).
		if p.proto != extDestOpts {
			p.fragAt, p.fragNext = end, p.l4
		}
		if p.proto == extRouting && head[p.l4+3] != 0 {
			p.routed = true
		}
		p.proto, p.l4 = head[p.l4], end
	}
	return true
}

// pseudo is the sum of the pseudo-header (RFC 9293 3.1, RFC 8200 8.1) without
// its length field. partial is the sender's checksum field, which should hold
// the sum of the whole pseudo-header for length bytes; it is believed only when
// the true destination is inside a routing header.
func (p *headers) pseudo(pkt []byte, partial uint16, length int) uint16 {
	if p.routed {
		return Add(partial, ^uint16(length))
	}
	addrs := pkt[p.l3+12 : p.l3+20]
	if p.version == 6 {
		addrs = pkt[p.l3+8 : p.l3+40]
	}
	return Add(Sum(addrs), uint16(p.proto))
}

// l4End is where the TCP segment or UDP datagram ends in a frame of n bytes:
// short frames are padded. A length that makes no sense counts as the rest of
// the frame.
func (p *headers) l4End(pkt []byte) int {
	least, end := p.l4+tcpLen, len(pkt)
	if p.proto == protoUDP {
		least = p.l4 + udpLen
	}
	ip := p.l3 + int(binary.BigEndian.Uint16(pkt[p.l3+2:]))
	if p.version == 6 {
		ip = p.l3 + ipv6Len + int(binary.BigEndian.Uint16(pkt[p.l3+4:]))
	}
	if least <= ip && ip <= end {
		end = ip
	}
	if p.proto == protoUDP {
		udp := p.l4 + int(binary.BigEndian.Uint16(pkt[p.l4+4:]))
		if least <= udp && udp <= end {
			end = udp
		}
	}
	return end
}
