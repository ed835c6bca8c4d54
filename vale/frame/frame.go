// Package frame holds what the switch knows about the inside of a frame: the
// virtio-net header that travels with it, the Internet checksum, and software
// segmentation.
//
// A guest that negotiated offloads hands over frames that are not finished.
// The TCP checksum may be missing (NeedsCsum), and one "frame" may be up to
// 64 KiB of TCP that real Ethernet would carry as 45 frames (GSO). Its
// virtio-net header says what is left to do. When the receiver negotiated the
// same offloads nothing is done at all: header and bytes pass through, which is
// why TCP between two guests is fast. Only when the receiver lacks an offload
// does the switch do that work, here:
//
//	guest header ──ReadVnetHdr──> VnetHdr ──Check──> normalised VnetHdr
//	                                                     │ Needs()
//	             receiver has all of it: pass through <──┤
//	             receiver lacks some:    Splitter.Split ──> one or many Segments
//
// Frames come from guests and every field may lie. Check therefore parses the
// packet itself and refuses a header that the packet contradicts; Split checks
// again, since it works on a private copy that the guest may have changed after
// the first look. The checksum field is never allowed to fall on an address, a
// port or a VLAN tag: completing the checksum would otherwise rewrite bytes
// that policy has already looked at.
//
// Everything is a pure function over byte slices. Nothing locks, and nothing
// allocates once the caller's and the Splitter's buffers have grown.
package frame

const (
	// HeaderLen is the Ethernet header: two addresses and the type.
	HeaderLen = 14
	// VLANLen is one IEEE 802.1Q tag.
	VLANLen = 4
	// MaxLen is the longest frame that a link may bring: the largest IP packet
	// behind a tagged Ethernet header.
	MaxLen = 65535 + HeaderLen + VLANLen
	// MaxHeaders is how many leading bytes of a frame are searched for headers.
	// A GSO frame whose Ethernet, IP and transport headers are longer is refused.
	MaxHeaders = 256
	// MaxSegments bounds the frames that one GSO frame may become, so that a
	// guest cannot buy unbounded work with one descriptor. 64 KiB at the
	// smallest TCP segment anybody uses (64 bytes) still fits.
	MaxSegments = 1024
)
