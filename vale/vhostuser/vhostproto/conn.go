package vhostproto

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"
)

// Conn is one end of a vhost-user connection. One goroutine reads; any may
// write.
type Conn struct {
	sock *net.UnixConn
	oob  [64]byte // holds the control message of MaxFDs descriptors

	mu  sync.Mutex // keeps a message in one piece on the wire
	out []byte
}

// NewConn takes ownership of sock.
func NewConn(sock *net.UnixConn) *Conn { return &Conn{sock: sock} }

// Close ends the connection and wakes its reader.
func (c *Conn) Close() error { return c.sock.Close() }

// Socket is the socket below, for deadlines and peer credentials.
func (c *Conn) Socket() *net.UnixConn { return c.sock }

// ReadMessage reads one message of either direction without looking into it.
// It returns io.EOF when the other side closed between two messages, and
// io.ErrUnexpectedEOF inside one. On error all descriptors are closed.
func (c *Conn) ReadMessage() (*Message, error) {
	m := &Message{}
	if err := c.read(m); err != nil {
		m.Close()
		return nil, err
	}
	return m, nil
}

func (c *Conn) read(m *Message) error {
	var raw [HeaderSize]byte
	for n := 0; n < len(raw); {
		got, err := c.readWithFDs(raw[n:], m)
		n += got
		if err != nil {
			if errors.Is(err, io.EOF) && n > 0 {
				err = io.ErrUnexpectedEOF
			}
			if err == io.EOF {
				return err
			}
			return fmt.Errorf("read header: %w", err)
		}
	}
	h, err := ParseHeader(raw[:])
	m.Header = h
	if err != nil {
		return err
	}
	m.Payload = make([]byte, h.Size)
	// Descriptors travel with the first byte of a message. A plain read
	// makes the kernel drop any that come later.
	if _, err := io.ReadFull(c.sock, m.Payload); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return fmt.Errorf("read payload of %v: %w", h.Request, err)
	}
	return nil
}

// readWithFDs reads some bytes and adds the descriptors beside them to m.
func (c *Conn) readWithFDs(b []byte, m *Message) (int, error) {
	// ReadMsgUnix sets MSG_CMSG_CLOEXEC.
	n, oobn, flags, _, err := c.sock.ReadMsgUnix(b, c.oob[:unix.CmsgSpace(MaxFDs*4)])
	if err != nil {
		return 0, err
	}
	fds, err := parseRights(c.oob[:oobn])
	m.FDs = append(m.FDs, fds...)
	if err != nil {
		return n, err
	}
	if flags&unix.MSG_CTRUNC != 0 || len(m.FDs) > MaxFDs {
		return n, fmt.Errorf("%w: a message carries at most %d", ErrTooManyFDs, MaxFDs)
	}
	if n == 0 {
		return 0, io.EOF
	}
	return n, nil
}

// parseRights returns all descriptors in control messages, also beside an
// error, so that they can be closed.
func parseRights(oob []byte) ([]int, error) {
	if len(oob) == 0 {
		return nil, nil
	}
	cmsgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, fmt.Errorf("parse control message: %w", err)
	}
	var fds []int
	for i := range cmsgs {
		// SCM_CREDENTIALS may come along when the socket asks for it.
		if cmsgs[i].Header.Level != unix.SOL_SOCKET || cmsgs[i].Header.Type != unix.SCM_RIGHTS {
			continue
		}
		got, err := unix.ParseUnixRights(&cmsgs[i])
		if err != nil {
			return fds, fmt.Errorf("parse control message: %w", err)
		}
		fds = append(fds, got...)
	}
	return fds, nil
}

// Receive reads one request of a front end and validates it. A *MessageError
// leaves the connection usable; the descriptors are closed on every error.
func (c *Conn) Receive() (*Message, Body, error) {
	m, err := c.ReadMessage()
	if err != nil {
		return nil, nil, err
	}
	body, err := accept(m)
	if err != nil {
		m.Close()
		return nil, nil, &MessageError{m.Header, err}
	}
	return m, body, nil
}

func accept(m *Message) (Body, error) {
	if m.IsReply() {
		return nil, fmt.Errorf("%w: an answer to nothing", ErrUnexpected)
	}
	body, err := Decode(m.Request, m.Payload, len(m.FDs))
	if err != nil {
		return nil, err
	}
	if _, ok := body.(VringFile); ok && len(m.FDs) == 1 {
		if err := checkEventFD(m.FDs[0]); err != nil {
			return nil, err
		}
	}
	return body, nil
}

// checkEventFD refuses kick, call and error descriptors of any other kind: a
// write to a full pipe or to a file on a slow server could block.
func checkEventFD(fd int) error {
	kind, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(fd))
	if err != nil {
		return fmt.Errorf("find kind of descriptor: %w", err)
	}
	if kind != "anon_inode:[eventfd]" {
		return invalid("descriptor is %q, want an eventfd", kind)
	}
	return nil
}

// Send writes a request with its descriptors, which stay the caller's. The
// extra flags are usually 0 or FlagNeedReply.
func (c *Conn) Send(req Request, flags uint32, body Body, fds ...int) error {
	return c.write(Header{Request: req, Flags: flagVersion | flags}, body, fds)
}

// Reply answers a request.
func (c *Conn) Reply(to Header, body Body, fds ...int) error {
	return c.write(Header{Request: to.Request, Flags: flagVersion | FlagReply}, body, fds)
}

// Ack tells the sender of a request without an answer of its own whether it
// was carried out, if it wants to know (REPLY_ACK: zero is success).
func (c *Conn) Ack(to Header, ok bool) error {
	if !to.NeedReply() || to.Request.HasReply() {
		return nil
	}
	return c.answer(to, ok)
}

// Refuse answers a request that cannot be carried out, if the sender waits for
// an answer. It fails with ErrNoRefusal when the answer of that request has no
// room for a no; then only closing the connection keeps the sender from
// waiting.
func (c *Conn) Refuse(to Header) error {
	switch {
	case to.Request == GetConfig:
		// "a zero-length payload to indicate an error"
		return c.Reply(to, Empty{})
	case to.Request.HasReply():
		return fmt.Errorf("refuse %v: %w", to.Request, ErrNoRefusal)
	case to.NeedReply():
		return c.answer(to, false)
	}
	return nil
}

func (c *Conn) answer(to Header, ok bool) error {
	var v U64
	if !ok {
		v = 1
	}
	return c.Reply(to, v)
}

func (c *Conn) write(h Header, body Body, fds []int) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.out = body.Append(h.Append(c.out[:0]))
	h.Size = uint32(len(c.out) - HeaderSize)
	if h.Size > MaxPayload {
		return fmt.Errorf("write %v: %w (%d bytes)", h.Request, ErrTooLong, h.Size)
	}
	h.Append(c.out[:0])
	var rights []byte
	if len(fds) > 0 {
		rights = unix.UnixRights(fds...)
	}
	n, _, err := c.sock.WriteMsgUnix(c.out, rights, nil)
	if err == nil && n < len(c.out) {
		_, err = c.sock.Write(c.out[n:])
	}
	if err != nil {
		return fmt.Errorf("write %v: %w", h.Request, err)
	}
	return nil
}
