package virtq

import (
	"encoding/binary"

	"github.com/vale-vmnet/vale-vmnet/vale"
)

// Deliver copies frames into the buffers that the driver offers, as
// vale.Link.Deliver asks. It returns false when the queue is not running, with
// nothing counted.
func (q *Queue) Deliver(b *vale.Batch, list []uint16, t *vale.Tally) (counted bool) {
	q.mu.Lock()
	defer q.unlockRx(t, len(list), &counted)
	if !q.running {
		return false
	}
	free, e := q.pending()
	if e != nil {
		q.fail(e)
		return false
	}
	var (
		mask   = int(q.mask)
		last   = int(q.last)
		used   = int(q.usedIdx)
		hdrLen = uint32(q.cfg.HdrLen)
		table  = q.desc
		taken  = 0 // available entries used up
		done   = 0 // frames delivered
		bytes  = 0
	)
	for k, i := range list {
		if taken >= int(free) {
			t.Drop(vale.DropRingFull, len(list)-k)
			break
		}
		f := &b.Frames[i&(vale.MaxBatch-1)]
		head := q.avail[(last+taken)&mask]
		if int(head) >= len(table) {
			q.fail(broken("descriptor index %d in a ring of %d", head, len(table)))
			t.Drop(vale.DropLinkDown, len(list)-k)
			break
		}
		d := &table[head]
		addr, length, flags := d.addr, d.len, d.flags
		if need := f.Len + hdrLen; flags == descWrite && length >= need && f.Single() {
			if buf := q.bytes(addr, need); buf != nil {
				putHeader(buf, f, hdrLen, 1)
				copy(buf[hdrLen:], f.Data)
				u := &q.used[(used+taken)&mask]
				u.id, u.len = uint32(head), need
				taken++
				done++
				bytes += int(f.Len)
				continue
			}
		}
		n, reason, e := q.scatter(b, f, taken, int(free))
		if e != nil {
			q.fail(e)
			t.Drop(vale.DropLinkDown, len(list)-k)
			break
		}
		if n == 0 {
			t.Drop(reason, 1)
			continue
		}
		taken += n
		done++
		bytes += int(f.Len)
	}
	t.Deliver(done, bytes)
	if taken > 0 {
		q.last += uint16(taken)
		q.publish(q.usedIdx + uint16(taken))
	}
	return true
}

// unlockRx ends a delivery, a panic in it too. A fault of memory that is not
// the queue's guest's is the sender's and passes through; every other panic
// breaks this queue and is the end of the matter. Nothing was published in
// either case.
func (q *Queue) unlockRx(t *vale.Tally, frames int, counted *bool) {
	v := recover()
	if v == nil {
		q.mu.Unlock()
		return
	}
	fault, ok := v.(interface{ Addr() uintptr })
	if ok && !q.owns(fault.Addr()) {
		q.mu.Unlock()
		panic(v)
	}
	if ok {
		q.fail(broken("guest memory went away"))
	} else {
		q.fail(broken("internal error: %v", v))
	}
	t.Reset()
	t.Drop(vale.DropFault, frames)
	*counted = true
	q.mu.Unlock()
}

// putHeader writes the virtio-net header of a frame that takes n buffers.
func putHeader(b []byte, f *vale.Frame, hdrLen uint32, n int) {
	if f.Hdr.Plain() {
		binary.LittleEndian.PutUint64(b, 0)
		b[8], b[9] = 0, 0
	} else {
		f.Hdr.Write(b)
	}
	if hdrLen == 12 {
		binary.LittleEndian.PutUint16(b[10:], uint16(n))
	}
}

// scatter copies a frame into chains of several descriptors and, when
// MRG_RXBUF was negotiated, into as many chains as it takes, from the taken-th
// available entry on. It returns how many chains it filled, or 0 and why the
// frame is dropped.
func (q *Queue) scatter(b *vale.Batch, f *vale.Frame, taken, free int) (int, vale.Reason, *Error) {
	var (
		mask   = int(q.mask)
		hdrLen = q.cfg.HdrLen
		left   = hdrLen + int(f.Len)
		n      = 0
	)
	q.iov, q.walked = q.iov[:0], 0
	for left > 0 {
		if taken+n >= free {
			return 0, vale.DropRingFull, nil
		}
		if n > 0 && (!q.cfg.Mergeable || n == maxChains || q.walked > maxWalk) {
			return 0, vale.DropNoFit, nil
		}
		head := q.avail[(int(q.last)+taken+n)&mask]
		if int(head) >= len(q.desc) {
			return 0, 0, broken("descriptor index %d in a ring of %d", head, len(q.desc))
		}
		total, e := q.chain(head, true)
		if e != nil {
			return 0, 0, e
		}
		if total == 0 {
			return 0, 0, broken("empty buffer at descriptor %d", head)
		}
		part := int(min(uint64(left), total))
		u := &q.used[(int(q.usedIdx)+taken+n)&mask]
		u.id, u.len = uint32(head), uint32(part)
		left -= part
		n++
	}
	var hdr [12]byte
	putHeader(hdr[:], f, uint32(hdrLen), n)
	out := writer{q.iov}
	out.write(hdr[:hdrLen])
	out.write(f.Data)
	for _, p := range b.More(f) {
		out.write(p)
	}
	return n, 0, nil
}

// writer fills pieces of memory in order.
type writer struct{ to [][]byte }

func (w *writer) write(p []byte) {
	for len(p) > 0 && len(w.to) > 0 {
		n := copy(w.to[0], p)
		p = p[n:]
		if w.to[0] = w.to[0][n:]; len(w.to[0]) == 0 {
			w.to = w.to[1:]
		}
	}
}
