// Package eventfd signals eventfds that somebody else holds too.
//
// A front end gives us an eventfd to interrupt its guest with. Writing 1 to it
// is all there is to do, but the front end keeps the same open file: it can
// fill the counter and clear O_NONBLOCK, both at any time, and then a write
// waits until somebody reads. No flag of write(2) avoids that for eventfds, and
// a check before the write comes too early.
//
// So writes are watched. A [Watch] looks at every [Signaler] now and then, and
// frees one that has been in the same write for two looks by reading the
// eventfd itself. Its owner is told, and cuts the front end off.
package eventfd

import (
	"encoding/binary"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

var one = binary.NativeEndian.AppendUint64(nil, 1)

// Signaler writes to one eventfd at a time. The zero value has none.
type Signaler struct {
	// writes is odd while a write is under way.
	writes atomic.Uint64
	fd     atomic.Int64 // of the write under way
	seen   uint64       // writes at the last look of the watch
	stuck  func()
	muted  atomic.Bool
}

// Signal adds 1 to fd. A full counter of a non-blocking eventfd means that
// nobody has looked yet, so that failure is of no matter. Calls for one
// Signaler must not overlap, and fd stays open until Signal returns.
func (s *Signaler) Signal(fd int) {
	if s.muted.Load() {
		return
	}
	s.fd.Store(int64(fd))
	s.writes.Add(1)
	_, _ = unix.Write(fd, one)
	s.writes.Add(1)
}

// Mute makes Signal do nothing from now on. A write under way goes on.
func (s *Signaler) Mute() { s.muted.Store(true) }

// Watch frees Signalers that are stuck.
type Watch struct {
	mu        sync.Mutex
	signalers map[*Signaler]struct{}
	done      chan struct{}
	stopped   sync.WaitGroup
}

// Interval is the time between two looks.
const Interval = 50 * time.Millisecond

// NewWatch starts a watch, until Close.
func NewWatch() *Watch {
	w := &Watch{signalers: map[*Signaler]struct{}{}, done: make(chan struct{})}
	w.stopped.Go(w.run)
	return w
}

// Add watches s. stuck is called, each time, after s was freed from a write
// that did not end; it must not block.
func (w *Watch) Add(s *Signaler, stuck func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	s.stuck = stuck
	w.signalers[s] = struct{}{}
}

// Remove watches s no more.
func (w *Watch) Remove(s *Signaler) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.signalers, s)
}

// Close ends the watch.
func (w *Watch) Close() {
	close(w.done)
	w.stopped.Wait()
}

func (w *Watch) run() {
	tick := time.NewTicker(Interval)
	defer tick.Stop()
	for {
		select {
		case <-w.done:
			return
		case <-tick.C:
			w.look()
		}
	}
}

func (w *Watch) look() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for s := range w.signalers {
		now := s.writes.Load()
		if now&1 == 1 && now == s.seen && s.free(now) {
			s.stuck()
		}
		s.seen = now
	}
}

// free ends the write with this number, if it is still under way. While it is,
// its owner keeps the descriptor open; the duplicate stays that of the same
// file when the write ends right now and the number goes to another file.
func (s *Signaler) free(write uint64) bool {
	fd, err := unix.FcntlInt(uintptr(s.fd.Load()), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	if s.writes.Load() != write || writable(fd) {
		return false
	}
	// The front end may have writers of its own wait for room, and each time
	// one of them may be faster than ours.
	for range maxDrains {
		drain(fd)
		time.Sleep(drainPause)
		if s.writes.Load() != write {
			break
		}
	}
	return true
}

const (
	maxDrains  = 200
	drainPause = 50 * time.Microsecond
)

// writable says whether a write would go through: then the writer is only
// waiting for a processor.
func writable(fd int) bool {
	p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
	_, err := unix.Poll(p, 0)
	return err != nil || p[0].Revents&unix.POLLOUT != 0
}

// drain empties the counter. RWF_NOWAIT holds whatever the front end does to
// the flags of the file.
func drain(fd int) {
	var b [8]byte
	_, _ = unix.Preadv2(fd, [][]byte{b[:]}, -1, unix.RWF_NOWAIT)
}
