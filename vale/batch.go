package vale

import (
	"github.com/vale-vmnet/vale-vmnet/vale/frame"
)

// MaxBatch is the most frames that a Batch holds: netmap's default for
// dev.netmap.bridge.
const MaxBatch = 1024

// maxFrags bounds the further pieces of all frames of one batch.
const maxFrags = 4096

// Frame is one frame in the sender's memory. The switch reads it in place and
// the receiver copies it once; nobody keeps the slices after Port.Forward
// returns.
//
// The memory may belong to a hostile guest that rewrites it at any moment:
// the lengths here are checked copies, and whatever decides something is read
// from the bytes once.
type Frame struct {
	Data []byte // first piece, from the destination MAC on; often the whole frame
	Len  uint32 // bytes of all pieces together, Data included

	// Hdr is the sender's virtio-net header; the zero value for links
	// without one.
	Hdr frame.VnetHdr

	nfrag uint16 // further pieces: frags[frag0 : frag0+nfrag] of the batch
	frag0 uint32
}

// Batch carries frames from a link to its switch, together with the scratch
// memory that forwarding them takes. A Batch belongs to one goroutine at a
// time and is reused: a worker needs one, whatever the number of its ports.
type Batch struct {
	// Frames[:N] are the frames. A link fills them through Add, or directly.
	N      int
	Frames [MaxBatch]Frame

	// Queue is the sender's queue that the frames came from. A receiver
	// with several queues takes it as a hint, so that a flow that stays on
	// one queue here stays on one there, in order.
	Queue int

	frags [][]byte // further pieces of scatter-gather frames

	// Scratch of Port.Forward.
	target  [MaxBatch]uint16 // per frame: port index, or one of the marks
	order   [MaxBatch]uint16 // frame indices grouped by target
	merged  [MaxBatch]uint16 // unicast and flooded frames of one receiver, in order
	count   []uint16         // per port index: frames for it, then write position
	touched []uint16         // port indices with count > 0
	flooded [MaxBatch]uint16 // indices of the flooded frames
	acct    account          // the whole batch, for the sender
	tally   Tally            // the delivery that is running
	head    [256]byte        // private copy of the start of a frame
	adapter *adapter         // made when the first receiver lacks an offload
}

// identity is the list 0, 1, 2, ...: all frames of a batch.
var identity = func() (l [MaxBatch]uint16) {
	for i := range l {
		l[i] = uint16(i)
	}
	return
}()

// NewBatch makes an empty batch.
func NewBatch() *Batch {
	return &Batch{frags: make([][]byte, 0, 64)}
}

// Reset empties the batch.
func (b *Batch) Reset() {
	b.N = 0
	b.frags = b.frags[:0]
}

// Full says that the batch takes no more frames.
func (b *Batch) Full() bool { return b.N == MaxBatch }

// Add appends a frame that lies in one piece. It does nothing and returns
// false when the batch is full.
func (b *Batch) Add(hdr frame.VnetHdr, data []byte) bool {
	if b.N >= MaxBatch {
		return false
	}
	f := &b.Frames[b.N]
	f.Data = data
	f.Len = uint32(len(data))
	f.Hdr = hdr
	f.nfrag = 0
	b.N++
	return true
}

// AddPieces appends a frame that lies in several pieces. It does nothing and
// returns false when the batch has no room for it.
func (b *Batch) AddPieces(hdr frame.VnetHdr, pieces [][]byte) bool {
	if len(pieces) == 0 {
		return b.Add(hdr, nil)
	}
	if b.N >= MaxBatch || len(b.frags)+len(pieces)-1 > maxFrags {
		return false
	}
	f := &b.Frames[b.N]
	f.Data = pieces[0]
	f.Hdr = hdr
	f.frag0 = uint32(len(b.frags))
	f.nfrag = uint16(len(pieces) - 1)
	n := len(pieces[0])
	for _, p := range pieces[1:] {
		n += len(p)
		b.frags = append(b.frags, p)
	}
	f.Len = uint32(n)
	b.N++
	return true
}

// Single says that the frame lies in one piece, Data.
func (f *Frame) Single() bool { return f.nfrag == 0 }

// More gives the pieces of f after Data.
func (b *Batch) More(f *Frame) [][]byte {
	if f.nfrag == 0 {
		return nil
	}
	return b.frags[f.frag0 : f.frag0+uint32(f.nfrag)]
}

// Copy copies the frame's bytes from offset off on into dst and returns how
// many there were.
func (b *Batch) Copy(dst []byte, f *Frame, off int) int {
	n := 0
	if off < len(f.Data) {
		n = copy(dst, f.Data[off:])
		off = 0
	} else {
		off -= len(f.Data)
	}
	for _, p := range b.More(f) {
		if off >= len(p) {
			off -= len(p)
			continue
		}
		n += copy(dst[n:], p[off:])
		off = 0
	}
	return n
}

// Tally is what a link reports of one delivery: copies that reached the
// receiver, and the others by reason. Every frame of the list that Deliver was
// given must be counted in it once.
type Tally struct {
	Delivered uint64
	Bytes     uint64
	Drops     [NumReasons]uint64
	dropped   bool // some Drops entry is not zero
}

// Deliver counts one delivered frame of n bytes.
func (t *Tally) Deliver(frames, bytes int) {
	t.Delivered += uint64(frames)
	t.Bytes += uint64(bytes)
}

// Drop counts n copies dropped for reason r.
func (t *Tally) Drop(r Reason, n int) {
	if n > 0 {
		t.Drops[r] += uint64(n)
		t.dropped = true
	}
}

// add counts what another tally has.
func (t *Tally) add(o *Tally) {
	t.Delivered += o.Delivered
	t.Bytes += o.Bytes
	if o.dropped {
		t.dropped = true
		for i, n := range o.Drops {
			t.Drops[i] += n
		}
	}
}

// Reset forgets what was counted.
func (t *Tally) Reset() {
	t.Delivered, t.Bytes = 0, 0
	if t.dropped {
		t.Drops = [NumReasons]uint64{}
		t.dropped = false
	}
}
