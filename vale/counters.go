package vale

import "sync/atomic"

// portCounters are written once per batch. The inbound half belongs to the
// sender's worker, the outbound half to the workers of everybody who sends to
// this port, so each has cache lines of its own.
type portCounters struct {
	in struct {
		frames, bytes, multicast, copies, delivered atomic.Uint64
		drops                                       [NumReasons]atomic.Uint64
		_                                           [128]byte
	}
	out struct {
		frames, bytes atomic.Uint64
		drops         [NumReasons]atomic.Uint64
		_             [128]byte
	}
}

// Counters is a reading of a port's counters. "In" is what the port's link
// sent into the switch, "Out" what the switch delivered to the link.
//
// For every port InCopies = InDelivered + the sum of InDrops, and over a
// switch at rest the sum of InDelivered is the sum of OutFrames. A flooded
// frame makes one copy per receiving port, and one when there is none.
type Counters struct {
	InFrames    uint64
	InBytes     uint64
	InMulticast uint64 // multicast and broadcast among InFrames
	InCopies    uint64
	InDelivered uint64
	InDrops     [NumReasons]uint64 // copies of this port's frames, by reason
	OutFrames   uint64
	OutBytes    uint64
	OutDrops    [NumReasons]uint64 // copies meant for this port, by reason
}

func (c *portCounters) read() Counters {
	r := Counters{
		InFrames:    c.in.frames.Load(),
		InBytes:     c.in.bytes.Load(),
		InMulticast: c.in.multicast.Load(),
		InCopies:    c.in.copies.Load(),
		InDelivered: c.in.delivered.Load(),
		OutFrames:   c.out.frames.Load(),
		OutBytes:    c.out.bytes.Load(),
	}
	for i := range r.InDrops {
		r.InDrops[i] = c.in.drops[i].Load()
		r.OutDrops[i] = c.out.drops[i].Load()
	}
	return r
}

// addOut books one delivery to this port.
func (c *portCounters) addOut(t *Tally) {
	if t.Delivered != 0 {
		c.out.frames.Add(t.Delivered)
		c.out.bytes.Add(t.Bytes)
	}
	if t.dropped {
		for i, n := range t.Drops {
			if n != 0 {
				c.out.drops[i].Add(n)
			}
		}
	}
}

// Sum adds up drops over all reasons.
func Sum(drops [NumReasons]uint64) (n uint64) {
	for _, d := range drops {
		n += d
	}
	return n
}
