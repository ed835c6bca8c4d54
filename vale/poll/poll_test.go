package poll_test

import (
	"errors"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vale-vmnet/vale-vmnet/vale"
	"github.com/vale-vmnet/vale-vmnet/vale/poll"
)

// ring is a source whose frames are a number.
type ring struct {
	kick    int
	frames  atomic.Int64 // waiting
	moved   atomic.Int64
	polls   atomic.Int64
	asleep  atomic.Bool // armed, and not kicked since
	panics  atomic.Bool
	faults  atomic.Int64
	onFault chan any
}

func newRing(t *testing.T) *ring {
	t.Helper()
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return &ring{kick: fd, onFault: make(chan any, 1)}
}

func (r *ring) Poll(*vale.Batch) int {
	r.polls.Add(1)
	if r.panics.Load() {
		panic(errors.New("memory went away"))
	}
	n := r.frames.Swap(0)
	r.moved.Add(n)
	return int(n)
}

func (r *ring) Arm() bool {
	r.asleep.Store(true)
	return r.frames.Load() == 0
}
func (r *ring) Disarm()     { r.asleep.Store(false) }
func (r *ring) KickFD() int { return r.kick }
func (r *ring) Fault(v any, stack []byte) {
	r.faults.Add(1)
	r.onFault <- v
}

// offer makes frames available as a driver does: a kick only when asked for.
func (r *ring) offer(t *testing.T, n int64) {
	t.Helper()
	r.frames.Add(n)
	if r.kick >= 0 && r.asleep.Load() {
		if _, err := unix.Write(r.kick, []byte{1, 0, 0, 0, 0, 0, 0, 0}); err != nil {
			t.Fatal(err)
		}
	}
}

// until waits for a condition that nothing but a bug delays for long.
func until(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !cond(); runtime.Gosched() {
		if time.Now().After(end) {
			t.Fatalf("waited in vain until %s", what)
		}
	}
}

func newPool(t *testing.T, cfg poll.Config) *poll.Pool {
	t.Helper()
	p, err := poll.NewPool(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

func add(t *testing.T, p *poll.Pool, s poll.Source) *poll.Handle {
	t.Helper()
	h, err := p.Add(s)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func TestQuietSourceSleepsUntilKicked(t *testing.T) {
	p := newPool(t, poll.Config{Workers: 1, BusyPoll: 10 * time.Microsecond})
	r := newRing(t)
	add(t, p, r)
	for i := range int64(200) {
		until(t, "the source is armed", r.asleep.Load)
		// Nobody polls a source that sleeps, so the count stands still
		// from one full turn of another source to the next.
		polls := r.polls.Load()
		turn := newRing(t)
		h := add(t, p, turn)
		until(t, "the worker took a turn", func() bool { return turn.asleep.Load() })
		h.Remove()
		if now := r.polls.Load(); now != polls {
			t.Fatalf("a sleeping source was polled %d times", now-polls)
		}
		r.offer(t, 3)
		until(t, "the frames moved", func() bool { return r.moved.Load() == 3*(i+1) })
	}
}

// A frame that comes between the last poll and the arming has no kick.
func TestArmLosesNoFrame(t *testing.T) {
	p := newPool(t, poll.Config{Workers: 1, BusyPoll: -1})
	r := newRing(t)
	add(t, p, r)
	for i := range int64(20000) {
		r.offer(t, 1)
		until(t, "the frame moved", func() bool { return r.moved.Load() == i+1 })
	}
}

func TestFaultIsTheSourcesOwn(t *testing.T) {
	p := newPool(t, poll.Config{Workers: 1})
	good, bad := newRing(t), newRing(t)
	add(t, p, good)
	h := add(t, p, bad)
	bad.panics.Store(true)
	bad.offer(t, 1)
	if v := <-bad.onFault; v.(error).Error() != "memory went away" {
		t.Fatalf("fault %v", v)
	}
	polls := bad.polls.Load()
	good.offer(t, 5)
	until(t, "the other source's frames moved", func() bool { return good.moved.Load() == 5 })
	if bad.polls.Load() != polls {
		t.Error("a source was polled after its fault")
	}
	h.Remove() // of a source that is gone already
}

func TestRemoveIsFinal(t *testing.T) {
	p := newPool(t, poll.Config{Workers: 2})
	for range 500 {
		r := newRing(t)
		h := add(t, p, r)
		r.offer(t, 1)
		h.Remove()
		polls := r.polls.Load()
		r.frames.Add(1)
		if r.polls.Load() != polls {
			t.Fatal("polled after Remove")
		}
	}
}

// A source without a kick is polled for ever, and does not starve the others.
func TestPolledSource(t *testing.T) {
	p := newPool(t, poll.Config{Workers: 1})
	r, other := newRing(t), newRing(t)
	polled := &ring{kick: -1, onFault: make(chan any, 1)}
	add(t, p, polled)
	add(t, p, r)
	add(t, p, other)
	until(t, "the quiet sources are armed", func() bool { return r.asleep.Load() && other.asleep.Load() })
	for i := range int64(50) {
		polled.offer(t, 1)
		r.offer(t, 1)
		until(t, "both moved", func() bool { return polled.moved.Load() == i+1 && r.moved.Load() == i+1 })
	}
}

// A source without a kick does not hide the kicks of the only other one.
func TestPolledSourceBesideOneThatSleeps(t *testing.T) {
	p := newPool(t, poll.Config{Workers: 1})
	add(t, p, &ring{kick: -1, onFault: make(chan any, 1)})
	r := newRing(t)
	add(t, p, r)
	for i := range int64(20) {
		until(t, "the quiet source is armed", r.asleep.Load)
		r.offer(t, 1)
		until(t, "its frame moved", func() bool { return r.moved.Load() == i+1 })
	}
}

func TestSourcesSpreadOverWorkers(t *testing.T) {
	p := newPool(t, poll.Config{Workers: 2})
	if p.Workers() != 2 {
		t.Fatalf("%d workers", p.Workers())
	}
	// A source that hogs its worker must not hold up one that was added
	// next.
	hog := &hog{ring: newRing(t), release: make(chan struct{})}
	add(t, p, hog)
	until(t, "the hog runs", hog.running.Load)
	r := newRing(t)
	add(t, p, r)
	r.offer(t, 1)
	until(t, "the other worker moved the frame", func() bool { return r.moved.Load() == 1 })
	close(hog.release)
}

type hog struct {
	*ring
	running atomic.Bool
	release chan struct{}
}

func (h *hog) Poll(b *vale.Batch) int {
	h.running.Store(true)
	<-h.release
	return h.ring.Poll(b)
}

func TestCloseLeavesNothing(t *testing.T) {
	fds, routines := countFDs(t), runtime.NumGoroutine()
	for range 20 {
		p, err := poll.NewPool(poll.Config{Workers: 2})
		if err != nil {
			t.Fatal(err)
		}
		add(t, p, newRing(t)).Remove()
		p.Close()
		if _, err := p.Add(newRing(t)); err == nil {
			t.Fatal("a closed pool took a source")
		}
	}
	until(t, "the workers are gone", func() bool { return runtime.NumGoroutine() <= routines })
	// The rings of this test keep theirs until it ends: two a round.
	if now := countFDs(t); now != fds+40 {
		t.Errorf("%d descriptors more than before", now-fds-40)
	}
}

func countFDs(t *testing.T) int {
	t.Helper()
	d, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(d)
}

func TestPinning(t *testing.T) {
	p := newPool(t, poll.Config{Workers: 1, CPUs: []int{0}})
	r := &whereami{ring: newRing(t), cpus: make(chan string, 1)}
	add(t, p, r)
	if got := <-r.cpus; got != "0" {
		t.Errorf("the worker may run on CPUs %s, want 0", got)
	}
	_, err := poll.NewPool(poll.Config{Workers: 1, CPUs: []int{1023}})
	if err == nil || !strings.Contains(err.Error(), "pin worker to CPU 1023") {
		t.Errorf("pinning to CPU 1023: %v", err)
	}
}

type whereami struct {
	*ring
	cpus chan string
}

func (w *whereami) Poll(b *vale.Batch) int {
	status, err := os.ReadFile("/proc/self/task/" + strconv.Itoa(unix.Gettid()) + "/status")
	if err != nil {
		status = []byte("Cpus_allowed_list:\t" + err.Error())
	}
	for line := range strings.Lines(string(status)) {
		if v, ok := strings.CutPrefix(line, "Cpus_allowed_list:\t"); ok {
			select {
			case w.cpus <- strings.TrimSpace(v):
			default:
			}
		}
	}
	return w.ring.Poll(b)
}
