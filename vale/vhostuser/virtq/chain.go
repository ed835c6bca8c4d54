package virtq

import "encoding/binary"

// maxPieces bounds the descriptors of one chain, whatever the ring's size,
// maxChains the chains of one received frame, maxWalk the descriptors in all but
// the last of them, empty ones too, and maxParts the parts of memory that all
// these buffers lie in. A 64 KiB frame of a Linux guest is sent in up to 19
// pieces and received in 43 chains of 1536 bytes. The bounds keep a guest with
// absurd buffers from costing its peers' worker much time.
const (
	maxPieces = 256
	maxChains = 256
	maxWalk   = 512
	maxParts  = 1024
)

// chain appends the buffers of the chain that starts at head to q.iov, all of
// them readable by the device or, when write is set, writable. It returns
// their total length.
func (q *Queue) chain(head uint16, write bool) (total uint64, e *Error) {
	var (
		table = q.desc
		inner []byte // the indirect table, when in one
		limit = min(len(q.desc), maxPieces)
		i     = head
	)
	for n := 0; ; n++ {
		if n >= limit {
			return 0, broken("descriptor chain at %d has more than %d entries, or a loop", head, limit)
		}
		q.walked++
		var d desc
		if inner != nil {
			at := int(i) * descSize
			if at+descSize > len(inner) {
				return 0, broken("indirect descriptor %d is outside its table", i)
			}
			d = readDesc(inner[at : at+descSize])
		} else {
			if int(i) >= len(table) {
				return 0, broken("descriptor index %d in a ring of %d", i, len(table))
			}
			d = table[i]
		}
		if d.flags&descIndirect != 0 {
			switch {
			case !q.cfg.Indirect:
				return 0, broken("indirect descriptor without VIRTIO_F_INDIRECT_DESC")
			case inner != nil:
				return 0, broken("indirect table inside an indirect table")
			case d.flags&descNext != 0:
				return 0, broken("indirect descriptor with a next one")
			case d.len == 0 || d.len%uint32(descSize) != 0:
				return 0, broken("indirect table of %d bytes", d.len)
			}
			if inner = q.bytes(d.addr, d.len); inner == nil {
				return 0, broken("indirect table at %#x, %d bytes, is not in guest memory", d.addr, d.len)
			}
			limit = min(len(inner)/descSize, maxPieces)
			i, n = 0, -1
			continue
		}
		if (d.flags&descWrite != 0) != write {
			return 0, broken("descriptor %d has the wrong direction", i)
		}
		total += uint64(d.len)
		if d.len > 0 {
			if e := q.piece(d.addr, d.len); e != nil {
				return 0, e
			}
		}
		if d.flags&descNext == 0 {
			return total, nil
		}
		i = d.next
	}
}

// piece appends one buffer to q.iov, in parts where it crosses from one region
// of memory into the next.
func (q *Queue) piece(addr uint64, n uint32) *Error {
	if b := q.bytes(addr, n); b != nil {
		q.iov = append(q.iov, b)
		return nil
	}
	for n > 0 {
		b := q.cfg.Mem.Prefix(addr, n)
		if len(q.iov) >= maxParts {
			return broken("buffers in more than %d parts of memory", maxParts)
		}
		if len(b) == 0 {
			return broken("buffer at %#x, %d bytes, is not in guest memory", addr, n)
		}
		q.iov = append(q.iov, b)
		addr += uint64(len(b))
		n -= uint32(len(b))
	}
	return nil
}

// readDesc loads a descriptor of an indirect table, which need not be aligned.
func readDesc(b []byte) desc {
	return desc{
		addr:  binary.LittleEndian.Uint64(b),
		len:   binary.LittleEndian.Uint32(b[8:]),
		flags: binary.LittleEndian.Uint16(b[12:]),
		next:  binary.LittleEndian.Uint16(b[14:]),
	}
}
