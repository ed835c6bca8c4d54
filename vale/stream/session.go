package stream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime/debug"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/vale-vmnet/vale-vmnet/vale"
	"github.com/vale-vmnet/vale-vmnet/vale/frame"
)

const (
	// readSize holds many small frames or a few of the longest.
	readSize = 256 << 10
	// writeSize is how much is gathered for one write. It must hold a frame
	// of frame.MaxLen.
	writeSize = 128 << 10
)

// errPeerGone says that the peer ended the session in order.
var errPeerGone = errors.New("peer closed the connection")

// session is one peer at the endpoint's port.
type session struct {
	conn   net.Conn
	client *vale.Client
	done   chan struct{} // closed when both pumps have ended
	heard  bool          // the peer has sent a frame; read's, until done

	once sync.Once
	err  error // why it ended, by the first to say so
}

// newSession plugs the peer into the port. It fails with vale.ErrBusy or
// vale.ErrGone, and then leaves the connection to the caller.
func newSession(conn net.Conn, port *vale.Port) (*session, error) {
	info := vale.LinkInfo{Kind: "stream", Peer: "unix socket", Queues: 1}
	if pid := peerPID(conn); pid > 0 {
		info.PID = pid
		info.Peer = fmt.Sprintf("process %d", pid)
	}
	c, err := port.Connect(vale.ClientConfig{Info: info})
	if err != nil {
		return nil, err
	}
	return &session{conn: conn, client: c, done: make(chan struct{})}, nil
}

// run pumps frames both ways until one side ends, and says why.
func (s *session) run() error {
	defer close(s.done)
	writer := make(chan struct{})
	go func() {
		defer close(writer)
		s.stop(guard(s.write))
	}()
	s.stop(guard(s.read))
	<-writer
	return s.err
}

// panicError is a bug that a peer's frames have met.
type panicError struct {
	value any
	stack []byte
}

func (e *panicError) Error() string { return fmt.Sprintf("forwarding panicked: %v", e.value) }

// guard runs a pump. Forwarding runs other links' code on this peer's
// goroutine; if that breaks it costs this peer its link, not all guests theirs.
func guard(pump func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &panicError{v, debug.Stack()}
		}
	}()
	return pump()
}

// stop ends both pumps. The port is free for the next peer when it returns.
func (s *session) stop(reason error) {
	s.once.Do(func() {
		s.err = reason
		s.client.Close()
		s.conn.Close()
	})
}

// read sends what the peer writes into the switch.
func (s *session) read() error {
	var (
		b   = vale.NewBatch()
		buf = make([]byte, readSize)
		end = 0 // buf[:end] is not parsed yet
	)
	for {
		n, err := s.conn.Read(buf[end:])
		end += n
		rest, bad := s.send(b, buf[:end])
		end = copy(buf, rest)
		switch {
		case bad != nil:
			return bad
		case errors.Is(err, io.EOF) && end > 0:
			return fmt.Errorf("%w in the middle of a frame", errPeerGone)
		case errors.Is(err, io.EOF):
			return errPeerGone
		case err != nil:
			return fmt.Errorf("read from peer: %w", err)
		}
	}
}

// send forwards the complete frames of buf and returns the bytes behind them.
// The frames before one that breaks the format are good, and go.
func (s *session) send(b *vale.Batch, buf []byte) (rest []byte, err error) {
	for {
		b.Reset()
		for !b.Full() {
			var f []byte
			if f, buf, err = next(buf); f == nil {
				break
			}
			b.Add(frame.VnetHdr{}, f)
		}
		if b.N == 0 {
			return buf, err
		}
		s.heard = true
		if closed := s.client.Send(b); closed != nil {
			return buf, closed
		}
		if err != nil {
			return buf, err
		}
	}
}

// write hands the frames that the switch delivered to the peer, as many as
// there are at a time.
func (s *session) write() error {
	buf := make([]byte, 0, writeSize)
	for {
		frames, err := s.client.Recv(context.Background(), 256)
		if err != nil {
			return err
		}
		for i := range frames {
			if f := frames[i].Data; len(buf)+prefixLen+len(f) <= cap(buf) {
				buf = appendFrame(buf, f)
				continue
			}
			if err := s.flush(buf); err != nil {
				return err
			}
			buf = appendFrame(buf[:0], frames[i].Data)
		}
		if err := s.flush(buf); err != nil {
			return err
		}
		buf = buf[:0]
	}
}

func (s *session) flush(buf []byte) error {
	if _, err := s.conn.Write(buf); err != nil {
		return fmt.Errorf("write to peer: %w", err)
	}
	return nil
}

// peerPID asks the kernel who is at the other end, 0 when it cannot tell.
func peerPID(conn net.Conn) (pid int) {
	control(conn, func(fd int) {
		if cred, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
			pid = int(cred.Pid)
		}
	})
	return pid
}

// hungUp says that the peer has closed its end, though some of what it wrote
// may be still to be read.
func hungUp(conn net.Conn) (gone bool) {
	control(conn, func(fd int) {
		p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}}
		n, err := unix.Poll(p, 0)
		gone = err == nil && n > 0 && p[0].Revents&(unix.POLLRDHUP|unix.POLLHUP) != 0
	})
	return gone
}

func control(conn net.Conn, f func(fd int)) {
	uc, ok := conn.(*net.UnixConn)
	if !ok {
		return
	}
	raw, err := uc.SyscallConn()
	if err != nil {
		return
	}
	// A closed connection leaves f uncalled.
	_ = raw.Control(func(fd uintptr) { f(int(fd)) })
}
