package stream

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/vale-vmnet/vale-vmnet/vale"
	"github.com/vale-vmnet/vale-vmnet/vale/loglimit"
)

// Options of an endpoint. The zero value is good.
type Options struct {
	Log  *slog.Logger // nil: no log
	Mode fs.FileMode  // of a listening socket, 0660
}

// Endpoint serves one port on one socket, a peer at a time, until it is
// closed. The port should be persistent: an ephemeral one is deleted with its
// first peer, and every further peer is refused.
type Endpoint struct {
	port   *vale.Port
	log    *slog.Logger
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu       sync.Mutex
	closed   bool
	listener net.Listener // nil: connecting
	session  *session     // nil: no peer
	last     error        // why the last session ended
	said     string       // complaint that was logged last
}

func newEndpoint(port *vale.Port, o Options) (*Endpoint, context.Context) {
	log := o.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	ctx, cancel := context.WithCancel(context.Background())
	return &Endpoint{port: port, cancel: cancel, log: loglimit.New(log).With("port", port.Name().String(), "link", "stream")}, ctx
}

// Serve takes peers from a listener that the caller made. Close closes it.
func Serve(l net.Listener, port *vale.Port, o Options) *Endpoint {
	e, ctx := newEndpoint(port, o)
	e.listener = l
	e.wg.Go(func() { e.accept(ctx) })
	return e
}

// Connect keeps a connection to the socket at path, where a QEMU listens. It
// returns at once; connecting, and connecting again after the peer has gone, is
// tried with pauses of up to a second.
func Connect(path string, port *vale.Port, o Options) (*Endpoint, error) {
	if err := checkPath(path); err != nil {
		return nil, err
	}
	e, ctx := newEndpoint(port, o)
	e.wg.Go(func() { e.connect(ctx, path) })
	return e, nil
}

// LastError says why the last peer's session ended, nil when none has yet.
func (e *Endpoint) LastError() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.last
}

// Close ends the present session, removes a listening socket, and waits for
// the endpoint's goroutines. Further calls do nothing.
func (e *Endpoint) Close() error {
	e.mu.Lock()
	first := !e.closed
	e.closed = true
	s := e.session
	e.mu.Unlock()
	var err error
	if first {
		e.cancel()
		if e.listener != nil {
			err = e.listener.Close()
		}
		if s != nil {
			s.stop(errClosed)
		}
	}
	e.wg.Wait()
	return err
}

var errClosed = errors.New("endpoint was closed")

// retryMin and retryMax bound the pauses between attempts.
const (
	retryMin = 20 * time.Millisecond
	retryMax = time.Second
)

func (e *Endpoint) accept(ctx context.Context) {
	pause := retryMin
	for {
		conn, err := e.listener.Accept()
		switch {
		case err == nil:
			pause = retryMin
			if s := e.begin(conn); s != nil {
				e.wg.Go(func() { e.end(s, s.run()) })
			}
		case ctx.Err() != nil || errors.Is(err, net.ErrClosed):
			return
		default:
			// Most likely there are too many open files, which passes.
			e.complain("accept stream peer failed", err)
			if !sleep(ctx, pause) {
				return
			}
			pause = min(2*pause, retryMax)
		}
	}
}

func (e *Endpoint) connect(ctx context.Context, path string) {
	var (
		d     net.Dialer
		pause = retryMin
	)
	for {
		conn, err := d.DialContext(ctx, "unix", path)
		if err == nil {
			if s := e.begin(conn); s != nil {
				e.end(s, s.run())
				if s.heard {
					pause = retryMin
				}
			}
		} else if ctx.Err() == nil {
			e.complain("stream peer is not there yet; will try again", err)
		}
		if errors.Is(e.LastError(), vale.ErrGone) {
			return
		}
		if !sleep(ctx, pause) {
			return
		}
		pause = min(2*pause, retryMax)
	}
}

// sleep returns false when ctx ends first.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// begin makes conn the session of the port, or closes it.
func (e *Endpoint) begin(conn net.Conn) *session {
	e.mu.Lock()
	old := e.session
	e.mu.Unlock()
	if old != nil && hungUp(old.conn) {
		// A guest that was started again may be here before its former
		// self is cleared away. What that one still had to say is at most
		// a socket buffer.
		<-old.done
	}
	s, err := newSession(conn, e.port)
	e.mu.Lock()
	if err == nil && e.closed {
		err = errClosed
		s.stop(err)
	}
	if err != nil {
		e.last = err
		e.mu.Unlock()
		e.complain("stream peer refused", fmt.Errorf("process %d: %w", peerPID(conn), err))
		conn.Close()
		return nil
	}
	e.session, e.said = s, ""
	e.mu.Unlock()
	e.log.Info("stream peer connected", "peer", s.client.Info().Peer)
	return s
}

// complain logs a failure that may come again and again, once.
func (e *Endpoint) complain(what string, err error) {
	text := what + ": " + err.Error()
	e.mu.Lock()
	repeated := text == e.said
	e.said = text
	e.mu.Unlock()
	if !repeated {
		e.log.Warn(what, "err", err)
	}
}

// end notes that a session is over.
func (e *Endpoint) end(s *session, reason error) {
	e.mu.Lock()
	e.last = reason
	if e.session == s {
		e.session = nil
	}
	e.mu.Unlock()
	var bug *panicError
	if errors.As(reason, &bug) {
		e.log.Error("stream link broke; please report this", "err", bug, "stack", string(bug.stack))
	}
	e.log.Info("stream peer disconnected", "peer", s.client.Info().Peer, "reason", reason)
}
