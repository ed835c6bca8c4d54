package vhostproto

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

const (
	// HeaderSize is the size of a header on the wire.
	HeaderSize = 12
	// MaxPayload bounds what the other side can make us read at once. The
	// largest message of the specification has some 300 bytes.
	MaxPayload = 4096
	// MaxFDs is the most descriptors a message carries.
	MaxFDs = 8
)

// Header flags.
const (
	flagVersionMask = 0x3
	flagVersion     = 0x1

	FlagReply     = 1 << 2 // the message answers a request
	FlagNeedReply = 1 << 3 // the sender waits for an answer (REPLY_ACK)
)

// Errors that end a connection, because its stream is out of step or the other
// side speaks another protocol.
var (
	ErrVersion     = errors.New("protocol version is not 1")
	ErrTooLong     = errors.New("payload is too long")
	ErrTooManyFDs  = errors.New("too many file descriptors")
	ErrUnexpected  = errors.New("unexpected message")
	ErrNoRefusal   = errors.New("the answer cannot say no")
	errShortHeader = errors.New("header is too short")
)

// Header begins every message.
type Header struct {
	Request Request
	Flags   uint32
	Size    uint32 // of the payload, in bytes
}

// Append adds the wire form to b.
func (h Header) Append(b []byte) []byte {
	b = le.AppendUint32(b, uint32(h.Request))
	b = le.AppendUint32(b, h.Flags)
	return le.AppendUint32(b, h.Size)
}

// ParseHeader reads and checks a header. The flags other than the version are
// for the caller to judge.
func ParseHeader(b []byte) (Header, error) {
	if len(b) < HeaderSize {
		return Header{}, errShortHeader
	}
	h := Header{Request: Request(le.Uint32(b)), Flags: le.Uint32(b[4:]), Size: le.Uint32(b[8:])}
	if h.Flags&flagVersionMask != flagVersion {
		return h, fmt.Errorf("read header of %v: %w (flags %#x)", h.Request, ErrVersion, h.Flags)
	}
	if h.Size > MaxPayload {
		return h, fmt.Errorf("read header of %v: %w (%d bytes, at most %d)", h.Request, ErrTooLong, h.Size, MaxPayload)
	}
	return h, nil
}

// NeedReply says whether the sender waits for an answer.
func (h Header) NeedReply() bool { return h.Flags&FlagNeedReply != 0 }

// IsReply says whether the message is an answer.
func (h Header) IsReply() bool { return h.Flags&FlagReply != 0 }

// Message is one message as it came from the wire. It owns its descriptors:
// Close closes those that nobody took.
type Message struct {
	Header
	Payload []byte
	FDs     []int
}

// TakeFD hands the first descriptor over to the caller, or -1 when there is
// none (left).
func (m *Message) TakeFD() int {
	if len(m.FDs) == 0 {
		return -1
	}
	fd := m.FDs[0]
	m.FDs = m.FDs[1:]
	return fd
}

// Close closes the descriptors that were not taken.
func (m *Message) Close() {
	closeAll(m.FDs)
	m.FDs = nil
}

func closeAll(fds []int) {
	for _, fd := range fds {
		// close(2) of a descriptor we own fails only with news about the
		// file, and nobody waits for those.
		_ = unix.Close(fd)
	}
}

// MessageError says that a message came whole but was not acceptable. The
// stream is in step: the receiver may refuse the message and read on.
type MessageError struct {
	Header Header
	Err    error
}

func (e *MessageError) Error() string { return fmt.Sprintf("decode %v: %v", e.Header.Request, e.Err) }
func (e *MessageError) Unwrap() error { return e.Err }
