package frame_test

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"github.com/vale-vmnet/vale-vmnet/vale/frame"
)

// This file is the slow second opinion: a packet builder and a decoder that
// share no code with the package, and a 16-bit adder.

// naiveSum adds one 16-bit word at a time.
func naiveSum(parts ...[]byte) uint16 {
	all := bytes.Join(parts, nil)
	if len(all)%2 == 1 {
		all = append(all, 0)
	}
	sum := uint32(0)
	for i := 0; i < len(all); i += 2 {
		sum += uint32(all[i])<<8 + uint32(all[i+1])
		if sum > 0xffff {
			sum -= 0xffff
		}
	}
	return uint16(sum)
}

// packet describes one packet; bytes builds it with every checksum right.
type packet struct {
	tags    int // VLAN tags
	v6      bool
	udp     bool
	options []byte // IPv4 options, a multiple of 4
	hop     []byte // IPv6 hop-by-hop header without its next-header byte
	dest    []byte // IPv6 destination options, likewise
	id      uint16
	frag    uint16 // IPv4 flags and offset
	seq     uint32
	flags   byte
	tcpOpts []byte // a multiple of 4
	payload []byte
}

func (k packet) l3() int { return 14 + 4*k.tags }

func (k packet) l4() int {
	if k.v6 {
		l4 := k.l3() + 40
		for _, ext := range [][]byte{k.hop, k.dest} {
			if ext != nil {
				l4 += 1 + len(ext)
			}
		}
		return l4
	}
	return k.l3() + 20 + len(k.options)
}

func (k packet) hdrLen() int {
	if k.udp {
		return k.l4() + 8
	}
	return k.l4() + 20 + len(k.tcpOpts)
}

func (k packet) csumOffset() int {
	if k.udp {
		return 6
	}
	return 16
}

func (k packet) proto() byte {
	if k.udp {
		return 17
	}
	return 6
}

func (k packet) addrs() []byte {
	if k.v6 {
		return []byte{0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff}
	}
	return []byte{10, 1, 2, 3, 192, 168, 255, 254}
}

// partial is the sum of the pseudo-header.
func (k packet) partial() uint16 {
	return naiveSum(k.addrs(), []byte{0, k.proto()}, be16(k.hdrLen()-k.l4()+len(k.payload)))
}

func be16(v int) []byte { return binary.BigEndian.AppendUint16(nil, uint16(v)) }

func (k packet) bytes() []byte {
	b := []byte{2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2}
	for i := range k.tags {
		b = append(b, [][]byte{{0x81, 0, 0x20, 7}, {0x88, 0xa8, 0, 9}}[(i+k.tags)%2]...)
	}
	var l4 []byte
	if k.udp {
		l4 = append(l4, 0x30, 0x39, 0x00, 0x35)
		l4 = append(l4, be16(8+len(k.payload))...)
		l4 = append(l4, 0, 0)
	} else {
		l4 = append(l4, 0x30, 0x39, 0x00, 0x50)
		l4 = binary.BigEndian.AppendUint32(l4, k.seq)
		l4 = append(l4, 1, 2, 3, 4, byte(20+len(k.tcpOpts))<<2, k.flags, 0x10, 0, 0, 0, 0, 0)
		l4 = append(l4, k.tcpOpts...)
	}
	l4 = append(l4, k.payload...)
	ip := k.ipv4(k.addrs(), len(l4))
	if k.v6 {
		ip = k.ipv6(k.addrs(), len(l4))
	}
	sum := ^naiveSum(be16(int(k.partial())), l4)
	if sum == 0 && k.udp {
		sum = 0xffff
	}
	copy(l4[k.csumOffset():], be16(int(sum)))
	return bytes.Join([][]byte{b, ip, l4}, nil)
}

func (k packet) ipv4(addrs []byte, l4len int) []byte {
	ip := []byte{0x45 + byte(len(k.options)/4), 0x10}
	ip = append(ip, be16(20+len(k.options)+l4len)...)
	ip = append(ip, be16(int(k.id))...)
	ip = append(ip, be16(int(k.frag))...)
	ip = append(ip, 64, k.proto(), 0, 0)
	ip = append(append(ip, addrs...), k.options...)
	copy(ip[10:], be16(int(^naiveSum(ip))))
	return append([]byte{8, 0}, ip...)
}

func (k packet) ipv6(addrs []byte, l4len int) []byte {
	type ext struct {
		number byte
		rest   []byte
	}
	var exts []ext
	if k.hop != nil {
		exts = append(exts, ext{0, k.hop})
	}
	if k.dest != nil {
		exts = append(exts, ext{60, k.dest})
	}
	next := func(i int) byte {
		if i < len(exts) {
			return exts[i].number
		}
		return k.proto()
	}
	var chain []byte
	for i, e := range exts {
		chain = append(append(chain, next(i+1)), e.rest...)
	}
	ip := []byte{0x60, 0, 0x12, 0x34}
	ip = append(ip, be16(len(chain)+l4len)...)
	ip = append(ip, next(0), 64)
	return bytes.Join([][]byte{{0x86, 0xdd}, ip, addrs, chain}, nil)
}

// vnet is the virtio-net header a guest would send with the packet.
func (k packet) vnet(gsoType uint8, gsoSize int) frame.VnetHdr {
	return frame.VnetHdr{
		Flags: frame.NeedsCsum, GSOType: gsoType, GSOSize: uint16(gsoSize),
		HdrLen: uint16(k.hdrLen()), CsumStart: uint16(k.l4()), CsumOffset: uint16(k.csumOffset()),
	}
}

// unfinished is the packet as a guest sends it: with anything in the checksum field.
func (k packet) unfinished(field uint16) []byte {
	b := k.bytes()
	copy(b[k.l4()+k.csumOffset():], be16(int(field)))
	return b
}

// decoded is what a receiver sees in one frame.
type decoded struct {
	l3, l4   int
	v6       bool
	proto    byte
	id       uint32
	fragment bool
	fragOff  int
	more     bool
	payload  []byte // behind the transport header, or of the fragment
	flags    byte
	seq      uint32
	hdrLen   int
}

// decode reads a frame from a wire and fails on any wrong length or checksum.
func decode(b []byte) (d decoded, err error) {
	d.l3 = 14
	etype := binary.BigEndian.Uint16(b[12:])
	for etype == 0x8100 || etype == 0x88a8 {
		etype = binary.BigEndian.Uint16(b[d.l3+2:])
		d.l3 += 4
	}
	ip := b[d.l3:]
	var addrs []byte
	if etype == 0x0800 {
		ihl := int(ip[0]&15) * 4
		if int(binary.BigEndian.Uint16(ip[2:])) != len(ip) {
			return d, fmt.Errorf("total length %d of %d bytes", binary.BigEndian.Uint16(ip[2:]), len(ip))
		}
		if naiveSum(ip[:ihl]) != 0xffff {
			return d, fmt.Errorf("bad IPv4 header checksum")
		}
		frag := binary.BigEndian.Uint16(ip[6:])
		d.id, d.fragOff, d.more = uint32(binary.BigEndian.Uint16(ip[4:])), int(frag&0x1fff)*8, frag&0x2000 != 0
		d.fragment = d.more || d.fragOff > 0
		d.proto, d.l4, addrs = ip[9], d.l3+ihl, ip[12:20]
	} else {
		d.v6 = true
		if int(binary.BigEndian.Uint16(ip[4:])) != len(ip)-40 {
			return d, fmt.Errorf("payload length %d of %d bytes", binary.BigEndian.Uint16(ip[4:]), len(ip)-40)
		}
		d.proto, d.l4, addrs = ip[6], d.l3+40, ip[8:40]
		for !d.fragment && (d.proto == 0 || d.proto == 60 || d.proto == 43 || d.proto == 44) {
			ext := b[d.l4:]
			size := (int(ext[1]) + 1) * 8
			if d.proto == 44 {
				word := binary.BigEndian.Uint16(ext[2:])
				size, d.fragment, d.fragOff, d.more = 8, true, int(word&^7), word&1 == 1
				d.id = binary.BigEndian.Uint32(ext[4:])
			}
			d.proto, d.l4 = ext[0], d.l4+size
		}
	}
	if d.fragment {
		d.hdrLen, d.payload = d.l4, b[d.l4:]
		return d, nil
	}
	l4 := b[d.l4:]
	if naiveSum(addrs, []byte{0, d.proto}, be16(len(l4)), l4) != 0xffff {
		return d, fmt.Errorf("bad checksum of protocol %d", d.proto)
	}
	switch d.proto {
	case 17:
		d.hdrLen = d.l4 + 8
		if int(binary.BigEndian.Uint16(l4[4:])) != len(l4) {
			return d, fmt.Errorf("UDP length %d of %d bytes", binary.BigEndian.Uint16(l4[4:]), len(l4))
		}
		if l4[6] == 0 && l4[7] == 0 {
			return d, fmt.Errorf("UDP without checksum")
		}
	case 6:
		d.hdrLen, d.flags, d.seq = d.l4+int(l4[12]>>4)*4, l4[13], binary.BigEndian.Uint32(l4[4:])
	}
	d.payload = b[d.hdrLen:]
	return d, nil
}

// receive is a receiver's side of a Segment: the frame in one piece, the
// checksum completed as virtio tells a driver to.
func receive(s frame.Segment) []byte {
	b := bytes.Join([][]byte{s.Hdr, s.Payload}, nil)
	if s.Vnet.Flags&frame.NeedsCsum != 0 {
		start := int(s.Vnet.CsumStart)
		sum := ^naiveSum(b[start:])
		if sum == 0 {
			sum = 0xffff
		}
		copy(b[start+int(s.Vnet.CsumOffset):], be16(int(sum)))
	}
	return b
}
