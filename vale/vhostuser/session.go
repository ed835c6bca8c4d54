package vhostuser

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/vale-vmnet/vale-vmnet/vale"
	"github.com/vale-vmnet/vale-vmnet/vale/poll"
	"github.com/vale-vmnet/vale-vmnet/vale/vhostuser/eventfd"
	"github.com/vale-vmnet/vale-vmnet/vale/vhostuser/guestmem"
	vp "github.com/vale-vmnet/vale-vmnet/vale/vhostuser/vhostproto"
)

// session is one connection of a front end. All but end runs on the goroutine
// of serve.
type session struct {
	port *vale.Port
	pool *poll.Pool
	log  *slog.Logger
	conn *vp.Conn
	link *link
	done chan struct{} // closed when nothing of the session is left

	features vp.Features
	protocol vp.ProtocolFeatures
	mem      *guestmem.Memory
	rings    [2 * MaxPairs]*vring
	unshared bool        // a ring waits for memory
	batch    *vale.Batch // for announcements, made for the first
	mtu      uint64      // what the front end gave its guest, 0: nothing said
	pid      int
	peer     string

	stalled atomic.Bool // the guest has blocked a call

	mu     sync.Mutex
	reason error // why the session ended; the first one counts
}

// errNoCalls ends a session whose guest fills its call eventfd and lets writes
// to it block.
var errNoCalls = errors.New("guest blocks its call eventfd")

// watch frees workers from such writes, in all sessions of this process.
var watch = sync.OnceValue(eventfd.NewWatch)

func newSession(e *Endpoint, sock *net.UnixConn) *session {
	s := &session{port: e.port, pool: e.opts.Pool, log: e.log, conn: vp.NewConn(sock), done: make(chan struct{})}
	s.link = &link{s: s}
	for i := range s.rings {
		r := newVring()
		r.queue.OnBroken(func() { s.end(r.queue.Err()) })
		s.rings[i] = r
	}
	s.pid, s.peer = peerOf(sock)
	s.describe()
	return s
}

// end makes serve return with err, unless the session has a reason to end
// already. It does not block.
func (s *session) end(err error) {
	s.mu.Lock()
	if s.reason == nil {
		s.reason = err
	}
	s.mu.Unlock()
	s.conn.Close()
}

// serve answers the front end until the connection ends, and cleans up. It
// returns why.
func (s *session) serve() error {
	s.log.Info("front end connected", "peer", s.peer)
	err := s.messages()
	s.mu.Lock()
	if s.reason != nil {
		err = s.reason
	}
	s.mu.Unlock()
	for i := range s.rings {
		s.stop(i)
	}
	// No delivery is running any more: the queues are stopped.
	s.port.Detach(s.link)
	s.signalBroken()
	if s.stalled.Load() {
		// A worker may have been in a blocked call until just now, and a
		// guest that hangs up meanwhile is not to get away with it.
		err = errNoCalls
	}
	for _, r := range s.rings {
		r.closeFDs()
	}
	if s.mem != nil {
		s.mem.Close()
	}
	s.conn.Close()
	switch {
	case errors.Is(err, errGone), errors.Is(err, errClosed), errors.Is(err, errDeleted):
		s.log.Info("front end disconnected", "peer", s.peer, "reason", err)
	default:
		s.log.Warn("front end cut off", "peer", s.peer, "reason", err)
	}
	return err
}

// signalBroken tells the front end of broken rings by their error eventfd.
func (s *session) signalBroken() {
	var sig eventfd.Signaler
	watch().Add(&sig, sig.Mute)
	defer watch().Remove(&sig)
	for _, r := range s.rings {
		if r.queue.Err() != nil && r.err >= 0 {
			sig.Signal(r.err)
		}
	}
}

// stall ends a session whose guest blocked a call. It has no other call
// blocked: each costs the other guests of a worker time.
func (s *session) stall() {
	s.stalled.Store(true)
	for _, r := range s.rings {
		r.queue.Signaler.Mute()
	}
	s.end(errNoCalls)
}

// messages answers the front end until something ends the session.
func (s *session) messages() (err error) {
	// Starting a ring touches the guest's memory, which may be gone.
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if v := recover(); v != nil {
			if fault, ok := v.(interface{ Addr() uintptr }); !ok || s.mem == nil || !s.mem.Owns(fault.Addr()) {
				s.log.Error("session panicked", "panic", v, "stack", string(debug.Stack()))
			}
			err = fmt.Errorf("guest memory went away: %v", v)
		}
	}()
	for {
		m, body, err := s.conn.Receive()
		if err != nil {
			if err := s.refuse(err); err != nil {
				return err
			}
			continue
		}
		if err := s.carryOut(m, body); err != nil {
			// The front end may wait for the answer; it gets one, then
			// the end of the connection.
			s.conn.Refuse(m.Header)
			return fmt.Errorf("%v: %w", m.Request, err)
		}
	}
}

// carryOut handles a message and closes the descriptors that nobody took, after
// a fault of the guest's memory too.
func (s *session) carryOut(m *vp.Message, body vp.Body) error {
	defer m.Close()
	return s.handle(m, body)
}

// refuse deals with a message that could not be received. It returns nil when
// the session can go on: a front end may ask for what we do not know.
func (s *session) refuse(err error) error {
	var bad *vp.MessageError
	var unknown *vp.UnknownRequestError
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, unix.ECONNRESET):
		return errGone
	case errors.As(err, &unknown) && errors.As(err, &bad):
		s.log.Warn("unknown request", "request", unknown.Request.String())
		return s.conn.Refuse(bad.Header)
	case errors.As(err, &bad):
		s.conn.Refuse(bad.Header)
	}
	return err
}

// describe publishes what observers see of the link.
func (s *session) describe() {
	info := &vale.LinkInfo{
		Kind: Kind, Peer: s.peer, PID: s.pid,
		Features: append(s.features.Names(), s.protocol.Names()...),
		Details:  map[string]string{},
	}
	for i, r := range s.rings {
		if !r.runs {
			continue
		}
		if i%2 == 0 {
			info.Queues++
		}
		info.Details["ring."+strconv.Itoa(i)] = strconv.Itoa(r.size) + " entries"
	}
	if s.mtu != 0 {
		info.Details["mtu"] = strconv.FormatUint(s.mtu, 10)
	}
	if s.unshared && (s.mem == nil || s.mem.Bytes() == 0) {
		info.Details["waiting"] = "guest memory is not shared (share=on)"
	}
	if s.mem != nil {
		info.Details["memory"] = strconv.FormatUint(s.mem.Bytes()>>20, 10) + " MiB"
	}
	s.link.info.Store(info)
}

// peerOf names the process at the other end of a socket.
func peerOf(sock *net.UnixConn) (pid int, name string) {
	raw, err := sock.SyscallConn()
	if err != nil {
		return 0, "unknown"
	}
	var cred *unix.Ucred
	ctlErr := raw.Control(func(fd uintptr) {
		cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	if ctlErr != nil || err != nil || cred.Pid == 0 {
		return 0, "unknown"
	}
	pid = int(cred.Pid)
	comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	if err != nil {
		return pid, "pid " + strconv.Itoa(pid)
	}
	return pid, fmt.Sprintf("%s[%d]", strings.TrimSpace(string(comm)), pid)
}
