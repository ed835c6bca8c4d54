package vale

import "github.com/vale-vmnet/vale-vmnet/vale/frame"

// adapter turns frames that a receiver cannot take as they are into frames
// that it can: the slow path of a delivery between ports of different
// offloads. It is made once per Batch, on first need.
type adapter struct {
	batch    *Batch
	splitter frame.Splitter
	segments []frame.Segment
	linear   [frame.MaxLen]byte // private copy of the frame in hand
	used     int                // bytes of linear that frames in batch refer to
	tally    Tally              // the flush that is running
}

func (b *Batch) adapt() *adapter {
	if b.adapter == nil {
		b.adapter = &adapter{batch: NewBatch(), segments: make([]frame.Segment, 0, frame.MaxSegments)}
	}
	return b.adapter
}

// deliverAdapted delivers the frames of list to a receiver that may lack
// offloads or have a smaller MTU. A frame that is cut into segments counts as
// its segments from here on.
func (b *Batch) deliverAdapted(st *portState, list []uint16) {
	r, t := b.adapt(), &b.tally
	r.reset()
	r.batch.Queue = b.Queue
	for _, i := range list {
		f := &b.Frames[i]
		switch {
		case f.wireLen() > st.maxLen && b.overMTU(f, f.wireLen(), st.maxLen):
			t.Drop(DropTooLong, 1)
		case f.Hdr.Needs()&^st.offloads == 0:
			if !r.batch.addFrom(b, f) {
				r.flush(st, t)
				r.batch.addFrom(b, f)
			}
		default:
			b.split(r, f, st)
		}
	}
	r.flush(st, t)
}

// split cuts f into segments, or only fills in its checksum, and queues them.
func (b *Batch) split(r *adapter, f *Frame, st *portState) {
	if r.used+int(f.Len) > len(r.linear) || f.Hdr.GSOType != frame.GSONone {
		r.flush(st, &b.tally)
	}
	pkt := r.linear[r.used : r.used+int(f.Len)]
	n := b.Copy(pkt, f, 0)
	// The sender may have rewritten the frame since it was classified:
	// Split checks the copy again before it takes it apart.
	var err error
	r.segments, err = r.splitter.Split(r.segments[:0], f.Hdr, pkt, st.offloads)
	if err != nil || n != len(pkt) || len(r.segments) == 0 {
		b.tally.Drop(DropBadOffload, 1)
		return
	}
	// So may its headers have grown: the first segment is the longest.
	first := Frame{Data: r.segments[0].Hdr, Len: uint32(len(r.segments[0].Hdr) + len(r.segments[0].Payload))}
	if first.Len > st.maxLen && b.overMTU(&first, first.Len, st.maxLen) {
		b.tally.Drop(DropTooLong, 1)
		return
	}
	r.used += n
	b.acct.copies += uint64(len(r.segments) - 1)
	for i := range r.segments {
		s := &r.segments[i]
		if !r.batch.addSegment(s) {
			r.flush(st, &b.tally)
			r.batch.addSegment(s)
		}
	}
	if f.Hdr.GSOType != frame.GSONone {
		r.flush(st, &b.tally)
	}
}

// flush delivers what is queued.
func (r *adapter) flush(st *portState, t *Tally) {
	if r.batch.N > 0 {
		// A link may take back what it has counted, but not what others
		// have; and what it has counted holds when it panics.
		r.tally.Reset()
		defer t.add(&r.tally)
		st.link.Deliver(r.batch, identity[:r.batch.N], &r.tally)
	}
	r.reset()
}

func (r *adapter) reset() {
	r.batch.Reset()
	r.used = 0
}

// addSegment appends a segment; it returns false when there is no room.
func (b *Batch) addSegment(s *frame.Segment) bool {
	if len(s.Payload) == 0 {
		return b.Add(s.Vnet, s.Hdr)
	}
	if b.N >= MaxBatch || len(b.frags) >= maxFrags {
		return false
	}
	f := &b.Frames[b.N]
	f.Data, f.Len, f.Hdr = s.Hdr, uint32(len(s.Hdr)+len(s.Payload)), s.Vnet
	f.frag0, f.nfrag = uint32(len(b.frags)), 1
	b.frags = append(b.frags, s.Payload)
	b.N++
	return true
}

// addFrom appends frame f of another batch; it returns false when there is no
// room.
func (b *Batch) addFrom(src *Batch, f *Frame) bool {
	more := src.More(f)
	if b.N >= MaxBatch || len(b.frags)+len(more) > maxFrags {
		return false
	}
	g := &b.Frames[b.N]
	*g = *f
	g.frag0 = uint32(len(b.frags))
	b.frags = append(b.frags, more...)
	b.N++
	return true
}
