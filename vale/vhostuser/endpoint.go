package vhostuser

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/vale-vmnet/vale-vmnet/vale"
	"github.com/vale-vmnet/vale-vmnet/vale/loglimit"
	"github.com/vale-vmnet/vale-vmnet/vale/poll"
)

// Kind is the link kind of this package in vale.LinkInfo.
const Kind = "vhost-user"

// MaxPairs is the number of queue pairs offered.
const MaxPairs = 16

// Options shape an Endpoint.
type Options struct {
	Pool *poll.Pool   // runs the guests' transmit queues
	Log  *slog.Logger // nil: silent
}

// Endpoint is the socket of one port. It runs one session at a time, and a new
// one whenever the front end comes back.
type Endpoint struct {
	port   *vale.Port
	opts   Options
	log    *slog.Logger
	cancel context.CancelFunc
	done   chan struct{}

	mu      sync.Mutex
	session *session
	last    error     // why the last session ended
	banned  time.Time // no session before this
}

// errDeleted ends a session whose port was deleted; errClosed one whose
// endpoint was closed; errGone one whose front end hung up.
var (
	errDeleted = errors.New("the port was deleted")
	errClosed  = errors.New("the endpoint was closed")
	errGone    = errors.New("the front end closed the connection")
)

func newEndpoint(port *vale.Port, o Options) (*Endpoint, context.Context) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	ctx, cancel := context.WithCancel(context.Background())
	return &Endpoint{
		port:   port,
		opts:   o,
		log:    loglimit.New(o.Log).With("port", port.Name().String(), "link", Kind),
		cancel: cancel,
		done:   make(chan struct{}),
	}, ctx
}

// Serve runs an endpoint on a listening socket, which it closes in the end.
// The front ends connect to it (QEMU's chardev with server=off).
func Serve(l *net.UnixListener, port *vale.Port, o Options) *Endpoint {
	e, ctx := newEndpoint(port, o)
	go e.accept(ctx, l)
	go func() {
		<-ctx.Done()
		l.Close()
	}()
	return e
}

// Listen makes a listening socket at path and serves it. Nothing may be at
// path. Close unlinks it.
func Listen(path string, port *vale.Port, o Options) (*Endpoint, error) {
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("listen for vhost-user on %s: %w", path, err)
	}
	return Serve(l, port, o), nil
}

// Connect runs an endpoint that connects to the front end's listening socket
// (QEMU's chardev with server=on), again and again until Close. The socket need
// not exist yet.
func Connect(path string, port *vale.Port, o Options) (*Endpoint, error) {
	e, ctx := newEndpoint(port, o)
	go e.dial(ctx, path)
	return e, nil
}

// Close ends the session and the endpoint, and waits until nothing of them
// runs any more.
func (e *Endpoint) Close() error {
	e.cancel()
	e.mu.Lock()
	s := e.session
	e.mu.Unlock()
	if s != nil {
		s.end(errClosed)
	}
	<-e.done
	return nil
}

// LastError says why the last session ended, nil when there was none.
func (e *Endpoint) LastError() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.last
}

// maxConns bounds the connections of an endpoint: one has the port, and others
// wait a moment for it. Without a bound a flood of them would use up the
// descriptors that all ports share.
const maxConns = 8

// flood is the pause after a connection beyond maxConns.
const flood = 10 * time.Millisecond

// accept serves front ends that connect, each on a goroutine of its own: while
// one has the port, the others are told so by a closed connection.
func (e *Endpoint) accept(ctx context.Context, l *net.UnixListener) {
	var sessions sync.WaitGroup
	places := make(chan struct{}, maxConns)
	defer close(e.done)
	defer sessions.Wait()
	for {
		conn, err := l.AcceptUnix()
		if ctx.Err() != nil {
			if err == nil {
				conn.Close()
			}
			return
		}
		if err != nil {
			// Out of descriptors, most likely: others may give some back.
			e.log.Error("accept front end", "err", err)
			pause(ctx, time.Second)
			continue
		}
		select {
		case places <- struct{}{}:
			sessions.Go(func() {
				e.run(ctx, conn)
				<-places
			})
		default:
			e.log.Warn("refuse front end", "err", "too many connections wait for the port")
			conn.Close()
			pause(ctx, flood)
		}
	}
}

// retry is how long a connecting endpoint waits between attempts.
const retry = 500 * time.Millisecond

func (e *Endpoint) dial(ctx context.Context, path string) {
	defer close(e.done)
	for ctx.Err() == nil {
		conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: path, Net: "unix"})
		if err == nil {
			e.run(ctx, conn)
		}
		pause(ctx, retry)
	}
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// patience is how long a front end that comes back waits for its last session
// to be cleaned up, before the port counts as taken by somebody else.
const patience = 500 * time.Millisecond

// lastGoes waits for the end of the endpoint's session, and says whether it is
// worth while to try the port again.
func (e *Endpoint) lastGoes(ctx context.Context) bool {
	e.mu.Lock()
	s := e.session
	e.mu.Unlock()
	if s == nil {
		return true
	}
	t := time.NewTimer(patience)
	defer t.Stop()
	select {
	case <-s.done:
		return true
	case <-t.C:
	case <-ctx.Done():
	}
	return false
}

// run plugs a connection into the port and serves it to its end.
func (e *Endpoint) run(ctx context.Context, conn *net.UnixConn) {
	s := newSession(e, conn)
	defer close(s.done)
	if e.isBanned() {
		e.log.Warn("refuse front end", "peer", s.peer, "err", "it stalled a worker a moment ago")
		conn.Close()
		return
	}
	err := e.port.Attach(s.link)
	if errors.Is(err, vale.ErrBusy) && e.lastGoes(ctx) {
		err = e.port.Attach(s.link)
	}
	if err != nil {
		e.log.Warn("refuse front end", "peer", s.peer, "err", err)
		conn.Close()
		return
	}
	e.mu.Lock()
	e.session = s
	e.mu.Unlock()
	if ctx.Err() != nil {
		s.end(errClosed)
	}
	err = s.serve()
	e.mu.Lock()
	e.last = err
	if e.session == s {
		e.session = nil
	}
	if errors.Is(err, errNoCalls) {
		e.banned = time.Now().Add(ban)
	}
	e.mu.Unlock()
}

// ban is how long the port of a front end that stalled a worker stays closed:
// each stall costs the other guests of that worker a tenth of a second.
const ban = time.Minute

func (e *Endpoint) isBanned() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return time.Now().Before(e.banned)
}
