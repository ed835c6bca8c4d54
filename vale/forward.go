package vale

import (
	"encoding/binary"

	"github.com/vale-vmnet/vale-vmnet/vale/frame"
	"github.com/vale-vmnet/vale-vmnet/vale/mactab"
)

// Forwarding takes two passes over a batch.
//
//	classify  per frame: check, learn the source, look up the destination;
//	          only the first bytes of the frame are touched
//	deliver   per receiver: one list of its frames, one call of its link,
//	          which copies each frame once and wakes its peer once
//
// A batch for one receiver, the common case, needs no lists at all. Several
// receivers are sorted by counting, so the cost of a batch does not depend on
// the number of ports of the switch.

// Marks in Batch.target beside the port indices, which stay below maxIndex.
const (
	markDrop  = 0xffff
	markFlood = 0xfffe
	markDone  = 0xffff // in Batch.count: served together with the flooded frames
)

const macMask = 1<<48 - 1

// account gathers what became of a batch, for the counters of the sender.
type account struct {
	Tally
	copies    uint64
	bytes     uint64
	multicast uint64
	needs     frame.Offloads // what receivers must have to take all frames as they are
	maxLen    uint32         // longest frame on the wire, segmented
	receiver  *Port          // whose delivery is running
}

// Forward sends the frames of b, which the port's link received from its peer,
// through the switch. It keeps nothing of b. Frames that nobody takes are
// dropped and counted. The frames' memory may vanish meanwhile: with
// debug.SetPanicOnFault in force the panic passes through, after the books are
// closed, to the caller, whose link is at fault.
func (p *Port) Forward(b *Batch) {
	if b.N == 0 {
		return
	}
	a := &b.acct
	a.begin(b.N)
	defer p.close(b)
	st := p.fwd.Load()
	if !st.up {
		a.Drop(DropPortDown, b.N)
		return
	}
	v := p.sw.view.Load()
	first, uniform := p.classify(b, v, st)
	switch {
	case !uniform:
		p.deliverGroups(b, v)
	case first == markDrop:
	case first == markFlood:
		p.flood(b, v, identity[:b.N])
	default:
		p.deliver(b, v.ports[first], identity[:b.N])
	}
}

func (a *account) begin(n int) {
	a.Tally.Reset()
	a.copies, a.bytes, a.multicast = uint64(n), 0, 0
	a.needs, a.maxLen, a.receiver = 0, 0, nil
}

// close writes the counters. Copies that a memory fault kept from their
// receiver are counted here.
func (p *Port) close(b *Batch) {
	a := &b.acct
	if a.receiver != nil {
		a.settle(b)
	}
	if missing := a.copies - a.Delivered - a.dropSum(); missing != 0 {
		a.Drop(DropFault, int(missing))
	}
	c := &p.counters.in
	c.bytes.Add(a.bytes)
	c.copies.Add(a.copies)
	if a.multicast != 0 {
		c.multicast.Add(a.multicast)
	}
	if a.Delivered != 0 {
		c.delivered.Add(a.Delivered)
	}
	if a.dropped {
		for i, n := range a.Drops {
			if n != 0 {
				c.drops[i].Add(n)
			}
		}
	}
	// Last, so that who sees a frame counted, and reads this first, finds
	// what became of it counted too.
	c.frames.Add(uint64(b.N))
}

func (t *Tally) dropSum() uint64 {
	if !t.dropped {
		return 0
	}
	return Sum(t.Drops)
}

// settle books the running delivery with its receiver and with the sender.
func (a *account) settle(b *Batch) {
	t := &b.tally
	a.receiver.counters.addOut(t)
	a.receiver = nil
	a.add(t)
}

// classify fills b.target. It returns the target of the first frame and
// whether all frames have that same one; then b.target is left alone.
func (p *Port) classify(b *Batch, v *view, st *portState) (first uint16, uniform bool) {
	var (
		a       = &b.acct
		now     = p.sw.fabric.now.Load()
		lastSrc = mactab.MAC(0)
		lastDst = mactab.MAC(0)
		t       = uint16(markFlood) // for the all-zero address: unknown, flood
		bytes   uint64
		maxLen  uint32
		start   int
	)
	frames := b.Frames[:b.N]
	if len(frames[0].Data) >= frame.HeaderLen {
		// Most batches are one station talking to another.
		dst, src := frames[0].addresses()
		start, bytes, maxLen = sameRun(frames, dst, src, st.maxLen)
		if start > 0 {
			lastSrc, lastDst = src, dst
			p.learn(src, st, now)
			t = p.lookup(v, st, dst, now)
			if t >= markFlood {
				a.marked(t, dst, start)
			}
			if start == len(frames) {
				a.bytes, a.maxLen = bytes, maxLen
				return t, true
			}
		}
	}
	target := b.target[:len(frames)]
	for i := range start {
		target[i] = t
	}
	for i := start; i < len(frames); i++ {
		f := &frames[i]
		bytes += uint64(f.Len)
		var dst, src mactab.MAC
		if d := f.Data; len(d) >= frame.HeaderLen {
			dst, src = f.addresses()
		} else {
			var ok bool
			if dst, src, ok = b.macs(f); !ok {
				a.Drop(DropRunt, 1)
				target[i] = markDrop
				continue
			}
		}
		wire := f.Len
		if !f.Hdr.Plain() {
			if wire = b.checkOffload(f); wire == 0 {
				a.Drop(DropBadOffload, 1)
				target[i] = markDrop
				continue
			}
		}
		if wire > st.maxLen && b.overMTU(f, wire, st.maxLen) {
			a.Drop(DropTooLong, 1)
			target[i] = markDrop
			continue
		}
		maxLen = max(maxLen, wire)
		if src != lastSrc {
			lastSrc = src
			p.learn(src, st, now)
		}
		if dst != lastDst {
			lastDst = dst
			t = p.lookup(v, st, dst, now)
		}
		if t >= markFlood {
			a.marked(t, dst, 1)
		}
		target[i] = t
	}
	a.bytes, a.maxLen = bytes, maxLen
	first = target[0]
	for _, t := range target {
		if t != first {
			return first, false
		}
	}
	return first, true
}

// sameRun finds how many frames from the first on are plain, not too long, and
// from src to dst, and adds up their lengths.
func sameRun(frames []Frame, dst, src mactab.MAC, limit uint32) (n int, bytes uint64, maxLen uint32) {
	for i := range frames {
		f := &frames[i]
		if len(f.Data) < frame.HeaderLen || f.Len > limit || !f.Hdr.Plain() {
			return i, bytes, maxLen
		}
		if d, s := f.addresses(); d != dst || s != src {
			return i, bytes, maxLen
		}
		bytes += uint64(f.Len)
		maxLen = max(maxLen, f.Len)
	}
	return len(frames), bytes, maxLen
}

// addresses reads the two addresses, each once. Data holds them.
func (f *Frame) addresses() (dst, src mactab.MAC) {
	d := f.Data
	return mactab.MAC(binary.LittleEndian.Uint64(d) & macMask), mactab.MAC(binary.LittleEndian.Uint64(d[6:]) & macMask)
}

// learn notes where src is. Group addresses are no stations, and the all-zero
// address is everybody's who has not set one, such as pkt-gen on a VALE port.
func (p *Port) learn(src mactab.MAC, st *portState, now uint32) {
	if !src.Multicast() && src != 0 {
		p.sw.macs.Learn(mactab.Key(src, 0), st.id, now)
	}
}

// marked counts n frames to dst that have a mark for a target.
func (a *account) marked(t uint16, dst mactab.MAC, n int) {
	if t == markDrop {
		a.Drop(DropHairpin, n)
	} else if dst.Multicast() {
		a.multicast += uint64(n)
	}
}

// macs reads the addresses of a frame whose first piece is short.
func (b *Batch) macs(f *Frame) (dst, src mactab.MAC, ok bool) {
	var h [frame.HeaderLen]byte
	if b.Copy(h[:], f, 0) < len(h) {
		return 0, 0, false
	}
	return mactab.FromBytes(h[0:6]), mactab.FromBytes(h[6:12]), true
}

// lookup decides where a frame for dst goes: a port index or a mark.
func (p *Port) lookup(v *view, st *portState, dst mactab.MAC, now uint32) uint16 {
	if dst.Multicast() {
		return markFlood
	}
	id, ok := p.sw.macs.Lookup(mactab.Key(dst, 0), now)
	switch {
	case !ok:
		return markFlood
	case id == st.id:
		return markDrop
	}
	q := v.port(id)
	if q == nil {
		return markFlood
	}
	return uint16(id)
}

// checkOffload validates the virtio-net header of f against the frame and puts
// the normalised one in its place. It returns the length of the longest frame
// that f becomes on the wire, 0 when the header does not fit the frame.
func (b *Batch) checkOffload(f *Frame) uint32 {
	n := b.Copy(b.head[:], f, 0)
	h, err := frame.Check(f.Hdr, b.head[:n], int(f.Len))
	if err != nil {
		return 0
	}
	f.Hdr = h
	b.acct.needs |= h.Needs()
	return f.wireLen()
}

// wireLen is the length of the longest frame that f becomes on the wire.
func (f *Frame) wireLen() uint32 { return uint32(f.Hdr.WireLen(int(f.Len))) }

// overMTU says that a frame of wire bytes is too long for a port whose longest
// untagged frame is limit: 802.1Q and 802.1ad tags come on top.
func (b *Batch) overMTU(f *Frame, wire, limit uint32) bool {
	var h [frame.HeaderLen + frame.VLANLen]byte
	if b.Copy(h[:], f, 0) < len(h) {
		return wire > limit
	}
	for _, at := range []int{12, 16} {
		if t := binary.BigEndian.Uint16(h[at:]); t != 0x8100 && t != 0x88a8 {
			break
		}
		limit += frame.VLANLen
	}
	return wire > limit
}

// deliver hands the frames of list to one receiver.
func (p *Port) deliver(b *Batch, q *Port, list []uint16) {
	a, t := &b.acct, &b.tally
	t.Reset()
	a.receiver = q
	st := q.fwd.Load()
	switch {
	case !st.ready:
		t.Drop(DropLinkDown, len(list))
	case a.needs&^st.offloads != 0 || a.maxLen > st.maxLen:
		b.deliverAdapted(st, list)
	default:
		st.link.Deliver(b, list, t)
	}
	a.settle(b)
}

// flood hands the frames of list to every other port that takes frames.
func (p *Port) flood(b *Batch, v *view, list []uint16) {
	if !p.countFlood(b, v, len(list)) {
		return
	}
	for _, q := range v.flood {
		if q != p {
			p.deliver(b, q, list)
		}
	}
}

// countFlood books n flooded frames: one copy for each receiver. It returns
// false when there is none.
func (p *Port) countFlood(b *Batch, v *view, n int) bool {
	others := len(v.flood)
	// The index may have a new tenant when p was deleted meanwhile.
	if i := uint16(p.id); v.takes[i] && v.ports[i] == p {
		others--
	}
	if others <= 0 {
		b.acct.Drop(DropNoReceiver, n)
		return false
	}
	b.acct.copies += uint64(n) * uint64(others-1)
	return true
}
