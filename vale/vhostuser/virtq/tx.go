package virtq

import (
	"github.com/vale-vmnet/vale-vmnet/vale"
	"github.com/vale-vmnet/vale-vmnet/vale/frame"
)

// Budget is the most frames that one Gather takes: enough to spread the cost of
// a batch, few enough that their first bytes are still in the cache when they
// are copied.
const Budget = 256

// budgetBytes ends a Gather sooner when the frames are long: a worker's other
// guests wait while a batch is copied, and 256 frames of 64 KiB take
// milliseconds. Frames up to shortFrame are not counted: Budget of them are no
// more.
const (
	budgetBytes = 1 << 20
	shortFrame  = budgetBytes / Budget
)

// Forward moves the frames that the driver offers, at most Budget, through the
// port into the switch and gives their descriptors back. It returns how many
// there were, 0 for a queue that is stopped or broken. The queue stays locked
// meanwhile: while the frames are copied their memory cannot be unmapped.
func (q *Queue) Forward(b *vale.Batch, p *vale.Port) int {
	// The common answer of a poll, and it must be cheap.
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.running || q.availIdx() == q.last {
		return 0
	}
	b.Reset()
	n, e := q.gather(b)
	if n > 0 {
		p.Forward(b)
		q.last += n
		q.publish(q.usedIdx + n)
	}
	if e != nil {
		q.fail(e)
	}
	return int(n)
}

// gather fills b with the frames of the next available entries and their used
// entries, which are not yet published. A violation ends it; what came before
// counts.
func (q *Queue) gather(b *vale.Batch) (uint16, *Error) {
	n, e := q.pending()
	if e != nil {
		return 0, e
	}
	n = min(n, Budget)
	var (
		mask   = int(q.mask)
		last   = int(q.last)
		used   = int(q.usedIdx)
		hdrLen = uint32(q.cfg.HdrLen)
		table  = q.desc
		bytes  = 0
	)
	q.iov = q.iov[:0]
	for i := range int(n) {
		head := q.avail[(last+i)&mask]
		if int(head) >= len(table) {
			return uint16(i), broken("descriptor index %d in a ring of %d", head, len(table))
		}
		u := &q.used[(used+i)&mask]
		u.id, u.len = uint32(head), 0
		d := &table[head]
		addr, length, flags := d.addr, d.len, d.flags
		if flags&(descNext|descWrite|descIndirect) == 0 && length-hdrLen <= shortFrame {
			if buf := q.bytes(addr, length); buf != nil {
				b.Add(frame.ReadVnetHdr(buf), buf[hdrLen:])
				continue
			}
		}
		ok, e := q.gatherChain(b, head)
		if e != nil {
			return uint16(i), e
		}
		if !ok {
			return uint16(i), nil
		}
		if bytes += int(b.Frames[b.N-1].Len); bytes >= budgetBytes {
			return uint16(i + 1), nil
		}
	}
	return n, nil
}

// gatherChain adds the frame of a chain of several descriptors. It returns
// false when the batch has no room for its pieces.
func (q *Queue) gatherChain(b *vale.Batch, head uint16) (bool, *Error) {
	q.iov = q.iov[:0]
	total, e := q.chain(head, false)
	if e != nil {
		return false, e
	}
	hdrLen := q.cfg.HdrLen
	if total < uint64(hdrLen) || total > uint64(hdrLen)+frame.MaxLen {
		return false, broken("frame of %d bytes with its header", total)
	}
	var hdr [12]byte
	pieces := q.iov
	for n := 0; n < hdrLen; {
		k := copy(hdr[n:hdrLen], pieces[0])
		n += k
		if pieces[0] = pieces[0][k:]; len(pieces[0]) == 0 {
			pieces = pieces[1:]
		}
	}
	if b.AddPieces(frame.ReadVnetHdr(hdr[:]), pieces) {
		return true, nil
	}
	if b.N == 0 {
		return false, broken("frame in %d pieces", len(pieces))
	}
	return false, nil
}
