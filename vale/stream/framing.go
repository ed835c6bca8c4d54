package stream

import (
	"encoding/binary"
	"errors"
)

const (
	// MaxFrame is the longest frame that the format carries: NET_BUFSIZE in
	// QEMU's include/net/net.h. The switch itself takes less, frame.MaxLen.
	MaxFrame = 4096 + 65536

	// prefixLen is the size of the length before each frame.
	prefixLen = 4
)

// Why a session was ended by us. A peer that breaks the format has no way to
// find the start of a frame again.
var (
	ErrEmpty   = errors.New("peer sent a frame of length zero")
	ErrTooLong = errors.New("peer sent a frame longer than 69632 bytes")
)

// next takes the first frame off buf. It returns the frame and the bytes
// behind it. A nil frame without an error means that buf ends before the frame
// does: all of it is needed again, together with what follows.
func next(buf []byte) (frame, rest []byte, err error) {
	if len(buf) < prefixLen {
		return nil, buf, nil
	}
	n := binary.BigEndian.Uint32(buf)
	switch {
	case n == 0:
		return nil, buf, ErrEmpty
	case n > MaxFrame:
		return nil, buf, ErrTooLong
	case len(buf)-prefixLen < int(n):
		return nil, buf, nil
	}
	end := prefixLen + int(n)
	return buf[prefixLen:end:end], buf[end:], nil
}

// appendFrame appends a frame and its length to buf.
func appendFrame(buf, frame []byte) []byte {
	buf = binary.BigEndian.AppendUint32(buf, uint32(len(frame)))
	return append(buf, frame...)
}
