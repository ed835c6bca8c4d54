package frame

// HeaderError says why a sender's virtio-net header was refused. Being a small
// integer it costs no allocation, and a link can count by it.
type HeaderError uint8

// The reasons of Check.
const (
	ErrShort       HeaderError = iota + 1 // frame shorter than an Ethernet header, or head too short
	ErrLong                               // frame longer than MaxLen, or than IP allows
	ErrIPHeader                           // type says IP, bytes do not
	ErrFragment                           // an IP fragment has no checksum to complete
	ErrCsumRange                          // checksum field not inside the transport part of the frame
	ErrCsumField                          // checksum field is not where TCP or UDP has it
	ErrGSONoCsum                          // GSO without NeedsCsum
	ErrGSOType                            // unknown GSO type
	ErrGSOProtocol                        // the packet is not what the GSO type says
	ErrGSOSize                            // GSO size zero (or under 8 for fragments)
	ErrHeaders                            // transport header malformed or not within MaxHeaders
	ErrSegments                           // more than MaxSegments
)

var headerErrors = [...]string{
	ErrShort:       "frame too short",
	ErrLong:        "frame too long",
	ErrIPHeader:    "malformed IP header",
	ErrFragment:    "checksum offload on an IP fragment",
	ErrCsumRange:   "checksum out of range",
	ErrCsumField:   "checksum offset does not fit the protocol",
	ErrGSONoCsum:   "segmentation without checksum offload",
	ErrGSOType:     "unknown segmentation type",
	ErrGSOProtocol: "segmentation type does not fit the packet",
	ErrGSOSize:     "segment size too small",
	ErrHeaders:     "malformed or too long transport header",
	ErrSegments:    "too many segments",
}

// Reason is the short phrase alone, for counters.
func (e HeaderError) Reason() string {
	if int(e) < len(headerErrors) && headerErrors[e] != "" {
		return headerErrors[e]
	}
	return "unknown reason"
}

func (e HeaderError) Error() string {
	return "check virtio-net header: " + e.Reason()
}

// Check validates a sender's header against its frame and gives the normalised
// header to go on with. head is the first contiguous bytes of the frame, copied
// out of the sender's reach, at least min(n, MaxHeaders) of them; n is the
// length of the whole frame. The error is a HeaderError.
//
// Normalised means: only NeedsCsum is left of the flags, HdrLen is what the
// packet says and zero without GSO, and a GSO frame that is one segment anyway
// is no GSO frame. What virtio 1.3 section 5.1.6.2 lets a device ignore is zero.
func Check(h VnetHdr, head []byte, n int) (VnetHdr, error) {
	if n < HeaderLen {
		return VnetHdr{}, ErrShort
	}
	if n > MaxLen {
		return VnetHdr{}, ErrLong
	}
	if h.Plain() {
		return VnetHdr{}, nil
	}
	h, _, reason := check(h, head, n)
	if reason != 0 {
		return VnetHdr{}, reason
	}
	return h, nil
}

// check does the work of Check for a frame that is not plain.
func check(h VnetHdr, head []byte, n int) (VnetHdr, headers, HeaderError) {
	head = head[:min(len(head), n, MaxHeaders)]
	if len(head) < HeaderLen {
		return h, headers{}, ErrShort
	}
	if h.Flags&NeedsCsum == 0 {
		return h, headers{}, ErrGSONoCsum
	}
	p, ok := parse(head)
	if !ok {
		return h, p, ErrIPHeader
	}
	if reason := p.checkCsum(h, n); reason != 0 {
		return h, p, reason
	}
	out := VnetHdr{Flags: NeedsCsum, CsumStart: h.CsumStart, CsumOffset: h.CsumOffset}
	if h.GSOType == GSONone {
		return out, p, 0
	}
	headerLen, reason := p.checkGSO(h, head)
	if reason != 0 {
		return h, p, reason
	}
	if p.ipLen(n) > maxIPLen {
		return h, p, ErrLong
	}
	payload, size := n-headerLen, int(h.GSOSize)
	if h.GSOType == GSOUDP {
		payload = n - p.fragAt
	}
	if size == 0 {
		return h, p, ErrGSOSize
	}
	if payload <= size {
		return out, p, 0 // as Linux has it: too small to be a GSO frame
	}
	if h.GSOType == GSOUDP {
		if size, reason = p.checkFragments(size); reason != 0 {
			return h, p, reason
		}
	}
	if (payload+size-1)/size > MaxSegments {
		return h, p, ErrSegments
	}
	out.GSOType, out.GSOSize, out.HdrLen = h.GSOType, uint16(size), uint16(headerLen)
	return out, p, 0
}

// checkCsum checks CsumStart and CsumOffset for a frame of n bytes. TCP and UDP
// have one place for the field. Other protocols, and what a UDP tunnel carries,
// are for the sender to know, but the field must be behind the headers that the
// switch understands.
func (p *headers) checkCsum(h VnetHdr, n int) HeaderError {
	if p.fragment {
		return ErrFragment
	}
	start, offset := int(h.CsumStart), int(h.CsumOffset)
	if start < p.l4 || start+offset+2 > n {
		return ErrCsumRange
	}
	if p.version == 0 {
		return 0
	}
	switch p.proto {
	case protoTCP:
		if start != p.l4 || offset != tcpChecksum {
			return ErrCsumField
		}
	case protoUDP:
		if start == p.l4 && offset != udpChecksum || start > p.l4 && start < p.l4+udpLen {
			return ErrCsumField
		}
	}
	return 0
}

// checkGSO checks that the packet is what the GSO type says and gives the
// length of all headers up to the transport payload.
func (p *headers) checkGSO(h VnetHdr, head []byte) (int, HeaderError) {
	proto := uint8(protoUDP)
	switch h.GSOType {
	case GSOTCPv4, GSOTCPv4 | GSOECN:
		if p.version != 4 {
			return 0, ErrGSOProtocol
		}
		proto = protoTCP
	case GSOTCPv6, GSOTCPv6 | GSOECN:
		if p.version != 6 {
			return 0, ErrGSOProtocol
		}
		proto = protoTCP
	case GSOUDP, GSOUDPL4:
	default:
		return 0, ErrGSOType
	}
	if p.version == 0 || p.proto != proto || int(h.CsumStart) != p.l4 {
		return 0, ErrGSOProtocol
	}
	if proto == protoUDP {
		if p.l4+udpLen > len(head) {
			return 0, ErrHeaders
		}
		return p.l4 + udpLen, 0
	}
	if p.l4+tcpLen > len(head) {
		return 0, ErrHeaders
	}
	size := int(head[p.l4+12]>>4) * 4
	if size < tcpLen || p.l4+size > len(head) {
		return 0, ErrHeaders
	}
	return p.l4 + size, 0
}

// checkFragments gives the payload of a fragment, a multiple of 8 (RFC 791 3.2,
// RFC 8200 4.5), for a datagram that does not fit in one. The fragment header
// of IPv6 must not take a fragment over the limits.
func (p *headers) checkFragments(size int) (int, HeaderError) {
	size &^= 7
	if size == 0 {
		return 0, ErrGSOSize
	}
	if n := p.fragAt + ipv6FragLen + size; p.version == 6 && (n > MaxLen || p.ipLen(n) > maxIPLen) {
		return 0, ErrLong
	}
	return size, 0
}

// ipLen is the length field of the IP header in a frame of n bytes.
func (p *headers) ipLen(n int) int {
	if p.version == 6 {
		return n - p.l3 - ipv6Len
	}
	return n - p.l3
}

// WireLen is the length of the longest frame that a frame of n bytes becomes on
// a wire without offloads: n itself, or the first segment. It serves to hold GSO
// frames to an MTU. h must have passed Check.
//
// For UFO, where GSOSize counts the UDP header too, it is exact up to IP options
// and extension headers, and with them at most their length too much.
func (h VnetHdr) WireLen(n int) int {
	switch h.GSOType {
	case GSONone:
		return n
	case GSOUDP:
		// No IPv6 packet has its transport header so near.
		if h.CsumStart < HeaderLen+ipv6Len {
			return int(h.CsumStart) + int(h.GSOSize)
		}
		return int(h.CsumStart) + ipv6FragLen + int(h.GSOSize)
	}
	return int(h.HdrLen) + int(h.GSOSize)
}

// fragHeaderLen is what fragmentation adds to the headers.
func (p *headers) fragHeaderLen() int {
	if p.version == 6 {
		return ipv6FragLen
	}
	return 0
}
