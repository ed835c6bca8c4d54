package virtq

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/vale-vmnet/vale-vmnet/vale/vhostuser/eventfd"
	"github.com/vale-vmnet/vale-vmnet/vale/vhostuser/guestmem"
)

// MaxSize is the largest ring taken; virtio allows 32768, QEMU 1024.
const MaxSize = 4096

// Flags of a descriptor (section 2.7.5) and of the rings (2.7.6, 2.7.8).
const (
	descNext     = 1
	descWrite    = 2
	descIndirect = 4

	availNoInterrupt = 1
	usedNoNotify     = 1
)

// ErrBroken is wrapped by every Error.
var ErrBroken = errors.New("virtqueue is broken")

// Error says how a driver broke a queue.
type Error struct{ Reason string }

// Error gives the reason after the words of ErrBroken.
func (e *Error) Error() string { return ErrBroken.Error() + ": " + e.Reason }

// Unwrap gives ErrBroken.
func (e *Error) Unwrap() error { return ErrBroken }

func broken(format string, args ...any) *Error {
	return &Error{fmt.Sprintf(format, args...)}
}

// Config describes a ring that a driver set up.
type Config struct {
	Size      int // entries, a power of two
	Desc      []byte
	Avail     []byte
	Used      []byte
	Mem       *guestmem.Memory
	Base      uint16 // index of the first available entry to take
	EventIdx  bool   // VIRTIO_F_EVENT_IDX was negotiated
	Indirect  bool   // VIRTIO_F_INDIRECT_DESC
	Mergeable bool   // VIRTIO_NET_F_MRG_RXBUF: one frame may take several chains
	HdrLen    int    // virtio-net header: 12 with VERSION_1 or MRG_RXBUF, else 10
	Call      int    // eventfd that interrupts the driver, -1: none
}

// Sizes gives the bytes of the three parts of a ring with n entries.
func Sizes(n int) (desc, avail, used int) {
	return n * descSize, 6 + 2*n, 6 + n*usedSize
}

// Queue is one virtqueue. Start gives it a ring, Stop takes it away; the other
// methods do nothing while it is stopped.
type Queue struct {
	// Signaler makes the calls. Its owner has it watched.
	Signaler eventfd.Signaler

	// err is set when the driver broke the queue; read without mu.
	err atomic.Pointer[Error]

	mu      sync.Mutex // guards all below
	running bool
	ring
	onBroken func()
	iov      [][]byte // scratch: pieces of a chain
	walked   int      // descriptors that the frame in hand has taken
}

// ring is the running state.
type ring struct {
	cfg       Config
	mask      uint16
	desc      []desc
	avail     []uint16
	used      []usedElem
	usedFlags uint16 // ours

	last    uint16 // next available entry to take
	usedIdx uint16 // next used entry to fill, as published
	region  *guestmem.Mapping
}

// Start runs the queue over the ring of cfg. The used index goes on from what
// the ring says, as a driver expects after a re-connection.
func (q *Queue) Start(cfg Config) error {
	r, err := newRing(cfg)
	if err != nil {
		return err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.ring = r
	q.running = true
	q.err.Store(nil)
	return nil
}

func newRing(cfg Config) (ring, error) {
	n := cfg.Size
	nd, na, nu := Sizes(n)
	switch {
	case n < 1 || n > MaxSize || n&(n-1) != 0:
		return ring{}, broken("size %d is not a power of two up to %d", n, MaxSize)
	case len(cfg.Desc) < nd || len(cfg.Avail) < na || len(cfg.Used) < nu:
		return ring{}, broken("a part of the ring is not in guest memory")
	case !guestmem.Aligned(cfg.Desc, 16) || !guestmem.Aligned(cfg.Avail, 2) || !guestmem.Aligned(cfg.Used, 4):
		return ring{}, broken("a part of the ring is misaligned")
	case cfg.HdrLen != 10 && cfg.HdrLen != 12:
		return ring{}, broken("header length %d", cfg.HdrLen)
	case cfg.Mem == nil:
		return ring{}, broken("no memory table")
	}
	r := ring{
		cfg:    cfg,
		mask:   uint16(n - 1),
		desc:   descs(cfg.Desc, n),
		avail:  words(cfg.Avail[4:], n),
		used:   usedElems(cfg.Used[4:], n),
		last:   cfg.Base,
		region: guestmem.NoMapping,
	}
	// A driver that re-connects has used entries up to here already.
	r.usedIdx = guestmem.Load16(cfg.Used, 2)
	return r, nil
}

// Stop takes the ring away and gives the index of the next available entry,
// which a later Start takes as Base.
func (q *Queue) Stop() (base uint16) {
	q.mu.Lock()
	defer q.mu.Unlock()
	base = q.last
	q.running = false
	q.ring = ring{last: base}
	return base
}

// SetCall replaces the eventfd that interrupts the driver and returns the old
// one, which nobody uses any more.
func (q *Queue) SetCall(fd int) (old int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	old, q.cfg.Call = q.cfg.Call, fd
	return old
}

// SetMemory replaces the memory table of a running queue. When it returns the
// old table is not used any more.
func (q *Queue) SetMemory(m *guestmem.Memory) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.cfg.Mem, q.region = m, guestmem.NoMapping
}

// Err gives the Error of a broken queue, nil for one in order.
func (q *Queue) Err() error {
	if e := q.err.Load(); e != nil {
		return e
	}
	return nil
}

// fail breaks the queue. The caller holds mu.
func (q *Queue) fail(e *Error) {
	q.running = false
	if q.err.CompareAndSwap(nil, e) && q.onBroken != nil {
		q.onBroken()
	}
}

// Fail breaks the queue for a reason that its owner found.
func (q *Queue) Fail(reason string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.fail(&Error{reason})
}

// OnBroken sets what to call once when the driver breaks the queue. It is
// called with the queue locked, by whoever found out: it must not block and
// not call the queue.
func (q *Queue) OnBroken(f func()) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.onBroken = f
}

// pending says how many available entries wait.
func (q *Queue) pending() (uint16, *Error) {
	n := q.availIdx() - q.last
	if int(n) > len(q.desc) {
		return 0, broken("available index is %d entries ahead in a ring of %d", n, len(q.desc))
	}
	return n, nil
}

// The words of the rings that are not in a table: the index and flags that the
// driver writes, and the event index behind each ring (section 2.7.10).

func (r *ring) availIdx() uint16   { return guestmem.Load16(r.cfg.Avail, 2) }
func (r *ring) availFlags() uint16 { return guestmem.Load16(r.cfg.Avail, 0) }
func (r *ring) usedEvent() uint16  { return guestmem.Load16(r.cfg.Avail, 4+2*len(r.desc)) }

func (r *ring) setUsed(flags, idx uint16) {
	guestmem.Store32(r.cfg.Used, 0, uint32(flags)|uint32(idx)<<16)
}

func (r *ring) setAvailEvent(idx uint16) {
	guestmem.Store16(r.cfg.Used, 4+len(r.desc)*usedSize, idx)
	guestmem.Fence()
}

// bytes translates a guest address range, remembering the region for the next
// one. It gives nil for a range that is not inside one region.
func (q *Queue) bytes(addr uint64, n uint32) []byte {
	if b, ok := q.region.Slice(addr, n); ok {
		return b
	}
	r := q.cfg.Mem.Find(addr, n)
	if r == nil {
		return nil
	}
	q.region = r
	b, _ := r.Slice(addr, n)
	return b
}

// owns says that a faulting address lies in the queue's guest's memory. The
// caller holds mu.
func (q *Queue) owns(addr uintptr) bool {
	return q.cfg.Mem != nil && q.cfg.Mem.Owns(addr)
}

// Owns says that a faulting address lies in the queue's guest's memory.
func (q *Queue) Owns(addr uintptr) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.owns(addr)
}
