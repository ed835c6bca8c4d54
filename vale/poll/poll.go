// Package poll runs the forwarding workers: threads that move frames from
// their sources (the transmit rings of guests) into the switch.
//
// A worker busy-polls its sources while traffic flows, because waking a
// sleeping thread costs as much as forwarding hundreds of frames. A source that
// has been quiet for its window is armed: its peer is asked for a kick (an
// eventfd), checked once more, and left to epoll. When no source is left to poll
// the worker sleeps, so an idle switch costs no CPU.
//
//	        frames                    quiet for its window
//	polled <-------- polled, no frame --------------------> armed
//	   ^                                                      |
//	   +------------------------- kick -----------------------+
//
// The window is at most BusyPoll and adapts: it grows when a kick came so soon
// that polling on would have spared it, and shrinks when the sleep was long.
//
// Sources belong to one worker each, the one with the fewest. A source whose
// Poll panics, for example because its guest took memory away, is told by
// Fault and polled no more; the worker and its other sources go on.
package poll

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vale-vmnet/vale-vmnet/vale"
)

// Source is a ring that a worker polls. All methods but KickFD run on the
// worker's thread.
type Source interface {
	// Poll moves the frames that wait, at most about a batch of them, and
	// says how many there were. b is the worker's.
	Poll(b *vale.Batch) int
	// Arm asks the peer for a kick when it has frames. It returns false
	// when there are frames already, for which no kick may come.
	Arm() bool
	// Disarm tells the peer that kicks are not needed.
	Disarm()
	// KickFD gives the eventfd of the peer's kicks, -1 for a peer that
	// never kicks and must be polled.
	KickFD() int
	// Fault says that Poll, Arm or Disarm panicked with v. The source is
	// polled no more. It must not block.
	Fault(v any, stack []byte)
}

// Config shapes a Pool. Zero fields take the defaults.
type Config struct {
	Workers  int           // one per 2 CPUs, at least one
	CPUs     []int         // worker i is pinned to CPUs[i % len]; none: not pinned
	BusyPoll time.Duration // longest window, 50 µs; negative: arm at once
}

// DefaultWorkers is the number of workers of a Config that names none.
func DefaultWorkers() int { return max(1, runtime.NumCPU()/2) }

// Pool is a set of workers.
type Pool struct {
	workers []*worker
}

// NewPool starts the workers.
func NewPool(cfg Config) (*Pool, error) {
	if cfg.Workers <= 0 {
		cfg.Workers = DefaultWorkers()
	}
	if cfg.BusyPoll == 0 {
		cfg.BusyPoll = 50 * time.Microsecond
	}
	cfg.BusyPoll = max(cfg.BusyPoll, 0)
	p := &Pool{}
	for i := range cfg.Workers {
		cpu := -1
		if len(cfg.CPUs) > 0 {
			cpu = cfg.CPUs[i%len(cfg.CPUs)]
		}
		w, err := startWorker(cpu, cfg.BusyPoll)
		if err != nil {
			p.Close()
			return nil, err
		}
		p.workers = append(p.workers, w)
	}
	return p, nil
}

// Workers gives the number of workers.
func (p *Pool) Workers() int { return len(p.workers) }

// Close stops the workers. Sources that were not removed are polled no more.
func (p *Pool) Close() {
	for _, w := range p.workers {
		w.stop()
	}
}

// Handle is a source's place at its worker.
type Handle struct {
	w *worker
	s Source

	// Owned by the worker.
	fd     int
	gone   bool
	active bool
	quiet  time.Time     // when the source was first found empty
	armed  time.Time     // when it was last armed
	window time.Duration // how long it may be quiet before it is armed
}

// Add gives a source to the worker with the fewest.
func (p *Pool) Add(s Source) (*Handle, error) {
	w := p.workers[0]
	for _, o := range p.workers[1:] {
		if o.load.Load() < w.load.Load() {
			w = o
		}
	}
	h := &Handle{w: w, s: s, fd: s.KickFD(), window: w.busy}
	var err error
	w.load.Add(1)
	if !w.do(func() { err = w.add(h) }) {
		err = fmt.Errorf("add source: the worker is stopped")
	}
	if err != nil {
		w.load.Add(-1)
		return nil, err
	}
	return h, nil
}

// Remove takes the source away from its worker. When it returns the worker
// does not touch the source any more, and its KickFD may be closed. It must not
// be called from the source's own methods.
func (h *Handle) Remove() {
	h.w.do(func() {
		if !h.gone {
			h.w.drop(h)
		}
	})
}

// worker is one forwarding thread.
type worker struct {
	epfd, wakefd int
	busy         time.Duration
	load         atomic.Int32
	pending      atomic.Bool // commands wait
	done         chan struct{}

	mu       sync.Mutex
	commands []func()
	stopped  bool

	// Owned by the worker's thread.
	batch  *vale.Batch
	active []*Handle
	byFD   map[int32]*Handle
	// sources without a kick: always active, never in byFD
	kickless int
	current  *Handle // whose method is running
	events   [64]unix.EpollEvent
	quit     bool
}

func startWorker(cpu int, busy time.Duration) (*worker, error) {
	epfd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("create worker: epoll: %w", err)
	}
	wakefd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		unix.Close(epfd)
		return nil, fmt.Errorf("create worker: eventfd: %w", err)
	}
	w := &worker{
		epfd: epfd, wakefd: wakefd, busy: busy,
		done:  make(chan struct{}),
		batch: vale.NewBatch(),
		byFD:  make(map[int32]*Handle),
	}
	if err := w.watch(wakefd); err != nil {
		unix.Close(epfd)
		unix.Close(wakefd)
		return nil, fmt.Errorf("create worker: %w", err)
	}
	pinned := make(chan error, 1)
	go w.run(cpu, pinned)
	if err := <-pinned; err != nil {
		w.stop()
		return nil, err
	}
	return w, nil
}

// watch has epoll report each write to an eventfd, without the need to read it.
func (w *worker) watch(fd int) error {
	ev := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLET&0xffffffff, Fd: int32(fd)}
	if err := unix.EpollCtl(w.epfd, unix.EPOLL_CTL_ADD, fd, &ev); err != nil {
		return fmt.Errorf("watch eventfd: %w", err)
	}
	return nil
}

// do runs f on the worker's thread and waits for it. It returns false when the
// worker is stopped.
func (w *worker) do(f func()) bool {
	ran := make(chan struct{})
	w.mu.Lock()
	if w.stopped {
		w.mu.Unlock()
		return false
	}
	w.commands = append(w.commands, func() { f(); close(ran) })
	w.pending.Store(true)
	// Before the command can be the one that closes wakefd.
	w.wake()
	w.mu.Unlock()
	<-ran
	return true
}

func (w *worker) wake() {
	one := [8]byte{1}
	unix.Write(w.wakefd, one[:])
}

func (w *worker) stop() {
	if w.do(func() {
		w.mu.Lock()
		w.stopped = true
		w.mu.Unlock()
		w.quit = true
	}) {
		<-w.done
		unix.Close(w.epfd)
		unix.Close(w.wakefd)
	}
}

// spins is how many rounds of busy polling go between two looks at epoll for
// kicks of armed sources, and at the clock while frames move.
const spins = 32

// run is the worker's thread. A panic of a source ends a turn of loop, not
// the worker.
func (w *worker) run(cpu int, pinned chan<- error) {
	defer close(w.done)
	// The thread is never unlocked when it is pinned: it dies with its
	// affinity instead of carrying it to other goroutines.
	runtime.LockOSThread()
	debug.SetPanicOnFault(true)
	if cpu >= 0 {
		var set unix.CPUSet
		set.Set(cpu)
		if err := unix.SchedSetaffinity(0, &set); err != nil {
			pinned <- fmt.Errorf("pin worker to CPU %d: %w; check cpus in the configuration", cpu, err)
		}
	}
	close(pinned)
	for !w.quit {
		w.loop()
	}
	// Commands that came in with the last one are answered too.
	w.runCommands()
}

func (w *worker) loop() {
	defer w.rescue()
	for round := 0; !w.quit; round++ {
		if w.pending.Load() {
			w.runCommands()
			continue
		}
		if len(w.active) == 0 {
			w.wait(-1)
			continue
		}
		moved := 0
		for i := 0; i < len(w.active); i++ {
			h := w.active[i]
			w.current = h
			n := h.s.Poll(w.batch)
			if n > 0 {
				moved += n
				h.quiet = time.Time{}
			}
		}
		w.current = nil
		// One busy source must not keep the quiet ones polled.
		if moved == 0 || round%spins == 0 {
			w.settle(moved > 0)
		}
		if round%spins == 0 && len(w.active)-w.kickless < len(w.byFD) {
			w.wait(0)
		}
	}
}

// try runs a method of h's source outside Poll. A panic in it is the end of
// the source and makes try return false.
func (w *worker) try(h *Handle, method func()) (ok bool) {
	w.current = h
	defer w.rescue()
	method()
	w.current = nil
	return true
}

// rescue gives a panic to the source that caused it.
func (w *worker) rescue() {
	h := w.current
	if h == nil {
		return // a bug of the worker itself: crash
	}
	v := recover()
	if v == nil {
		return
	}
	w.current = nil
	w.drop(h)
	h.s.Fault(v, debug.Stack())
}

// settle arms the sources that have been quiet for their window. moved says that
// this round was not in vain for all of them.
func (w *worker) settle(moved bool) {
	now := time.Now()
	for i := len(w.active) - 1; i >= 0; i-- {
		h := w.active[i]
		if h.fd < 0 {
			continue
		}
		if h.quiet.IsZero() {
			h.quiet = now
			if moved {
				continue // perhaps it was this one
			}
		}
		if now.Sub(h.quiet) < h.window {
			continue
		}
		armed := false
		switch {
		case !w.try(h, func() { armed = h.s.Arm() }):
		case armed:
			h.active = false
			h.armed = now
			w.active = append(w.active[:i], w.active[i+1:]...)
		default:
			h.quiet = time.Time{}
			w.try(h, h.s.Disarm)
		}
	}
}

// adapt sizes a source's window by how long it slept: had it been worth while
// to poll on, the window grows up to the configured time; else it shrinks, so
// that a guest that sends now and then is not paid for with a processor that it
// could use itself.
func (h *Handle) adapt(slept, limit time.Duration) {
	if slept < limit {
		h.window = min(limit, max(2*h.window, limit/16))
	} else if h.window /= 2; h.window < limit/16 {
		h.window = 0
	}
}

// wait collects kicks.
func (w *worker) wait(timeout int) {
	n, err := unix.EpollWait(w.epfd, w.events[:], timeout)
	if err != nil {
		return // EINTR
	}
	var now time.Time
	for _, ev := range w.events[:n] {
		if h := w.byFD[ev.Fd]; h != nil && !h.active {
			if now.IsZero() {
				now = time.Now()
			}
			h.adapt(now.Sub(h.armed), w.busy)
			w.activate(h)
		}
	}
}

func (w *worker) activate(h *Handle) {
	h.active = true
	h.quiet = time.Time{}
	w.active = append(w.active, h)
	w.try(h, h.s.Disarm)
}

func (w *worker) runCommands() {
	w.mu.Lock()
	cmds := w.commands
	w.commands = nil
	w.pending.Store(false)
	w.mu.Unlock()
	for _, f := range cmds {
		f()
	}
}

func (w *worker) add(h *Handle) error {
	if h.fd >= 0 {
		if err := w.watch(h.fd); err != nil {
			return err
		}
		w.byFD[int32(h.fd)] = h
	} else {
		w.kickless++
	}
	w.activate(h)
	return nil
}

func (w *worker) drop(h *Handle) {
	h.gone = true
	w.load.Add(-1)
	if h.fd >= 0 {
		delete(w.byFD, int32(h.fd))
		unix.EpollCtl(w.epfd, unix.EPOLL_CTL_DEL, h.fd, nil)
	} else {
		w.kickless--
	}
	for i, a := range w.active {
		if a == h {
			w.active = append(w.active[:i], w.active[i+1:]...)
			break
		}
	}
}
