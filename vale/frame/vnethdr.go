package frame

import (
	"encoding/binary"
	"strings"
)

// VnetHdrLen is the wire size of VnetHdr. With VIRTIO_NET_F_MRG_RXBUF or
// VERSION_1 the field num_buffers follows; it belongs to the ring, not here.
const VnetHdrLen = 10

// Flags of VnetHdr (virtio 1.3, 5.1.6).
const (
	// NeedsCsum: the checksum over [CsumStart, end) is still to be written.
	NeedsCsum = 1
	// DataValid: somebody has verified the checksum.
	DataValid = 2
	// RSCInfo: the checksum fields hold coalescing statistics instead.
	RSCInfo = 4
)

// Values of VnetHdr.GSOType. GSOECN is a bit beside the TCP types.
const (
	GSONone  = 0
	GSOTCPv4 = 1
	GSOUDP   = 3 // UFO: one datagram, to become IP fragments
	GSOTCPv6 = 4
	GSOUDPL4 = 5 // USO: several datagrams of one flow
	GSOECN   = 0x80
)

// VnetHdr is struct virtio_net_hdr of virtio 1.3 section 5.1.6 without
// num_buffers, little endian on the wire.
type VnetHdr struct {
	Flags, GSOType                         uint8
	HdrLen, GSOSize, CsumStart, CsumOffset uint16
}

// ReadVnetHdr decodes the header at the start of b, which must hold
// VnetHdrLen bytes.
func ReadVnetHdr(b []byte) VnetHdr {
	x := binary.LittleEndian.Uint64(b)
	return VnetHdr{
		Flags: uint8(x), GSOType: uint8(x >> 8),
		HdrLen: uint16(x >> 16), GSOSize: uint16(x >> 32), CsumStart: uint16(x >> 48),
		CsumOffset: binary.LittleEndian.Uint16(b[8:]),
	}
}

// Write encodes h at the start of b, which must hold VnetHdrLen bytes.
func (h VnetHdr) Write(b []byte) {
	binary.LittleEndian.PutUint64(b, uint64(h.Flags)|uint64(h.GSOType)<<8|
		uint64(h.HdrLen)<<16|uint64(h.GSOSize)<<32|uint64(h.CsumStart)<<48)
	binary.LittleEndian.PutUint16(b[8:], h.CsumOffset)
}

// Plain reports whether the frame is finished: any receiver takes it.
func (h VnetHdr) Plain() bool {
	return h.Flags&NeedsCsum|h.GSOType == 0
}

// Offloads says which unfinished frames a receiver takes. These are the
// VIRTIO_NET_F_GUEST_* features of a guest, or the TUNSETOFFLOAD flags of a tap.
type Offloads uint32

// The offloads. UFO and USO cover both IPv4 and IPv6.
const (
	Csum Offloads = 1 << iota
	TSO4
	TSO6
	ECN
	UFO
	USO
	// unknownGSO is no receiver's offload: it keeps a header that Check has not
	// seen from passing through.
	unknownGSO
)

var offloadNames = [...]string{"csum", "tso4", "tso6", "ecn", "ufo", "uso"}

// String gives the offloads as libvirt and ethtool name them: "csum,tso4".
func (o Offloads) String() string {
	if o == 0 {
		return "none"
	}
	var names []string
	for i, name := range offloadNames {
		if o&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	if o>>len(offloadNames) != 0 {
		names = append(names, "unknown")
	}
	return strings.Join(names, ",")
}

// Needs gives the offloads that a receiver must have to take the frame as it
// is. For a frame that is not Plain, h must have passed Check.
func (h VnetHdr) Needs() Offloads {
	var o Offloads
	if h.Flags&NeedsCsum != 0 {
		o = Csum
	}
	if h.GSOType == GSONone {
		return o
	}
	if h.GSOType&GSOECN != 0 {
		o |= ECN
	}
	switch h.GSOType &^ GSOECN {
	case GSOTCPv4:
		o |= TSO4
	case GSOTCPv6:
		o |= TSO6
	case GSOUDP:
		o |= UFO
	case GSOUDPL4:
		o |= USO
	default:
		o |= unknownGSO
	}
	return o
}
