package stream

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"
)

func TestNext(t *testing.T) {
	long := append(binary.BigEndian.AppendUint32(nil, MaxFrame), make([]byte, MaxFrame)...)
	for _, c := range []struct {
		name        string
		buf         []byte
		frame, rest []byte
		err         error
	}{
		{"nothing", nil, nil, nil, nil},
		{"part of the length", []byte{0, 0, 0}, nil, []byte{0, 0, 0}, nil},
		{"length alone", []byte{0, 0, 0, 1}, nil, []byte{0, 0, 0, 1}, nil},
		{"part of the frame", []byte{0, 0, 0, 2, 7}, nil, []byte{0, 0, 0, 2, 7}, nil},
		{"one frame", []byte{0, 0, 0, 2, 7, 8}, []byte{7, 8}, []byte{}, nil},
		{"more than one", []byte{0, 0, 0, 1, 7, 0, 0}, []byte{7}, []byte{0, 0}, nil},
		{"longest", long, long[4:], []byte{}, nil},
		{"zero length", []byte{0, 0, 0, 0, 9}, nil, []byte{0, 0, 0, 0, 9}, ErrEmpty},
		{"a byte too long", []byte{0, 1, 0x10, 1}, nil, []byte{0, 1, 0x10, 1}, ErrTooLong},
		{"negative as an int32", []byte{0xff, 0xff, 0xff, 0xff}, nil, []byte{0xff, 0xff, 0xff, 0xff}, ErrTooLong},
	} {
		t.Run(c.name, func(t *testing.T) {
			frame, rest, err := next(c.buf)
			if !bytes.Equal(frame, c.frame) || (frame == nil) != (c.frame == nil) || !bytes.Equal(rest, c.rest) || !errors.Is(err, c.err) {
				t.Errorf("next gave frame of %d bytes, rest of %d, error %v; want %d, %d, %v",
					len(frame), len(rest), err, len(c.frame), len(c.rest), c.err)
			}
		})
	}
}

// FuzzNext holds the parser against the format's definition and against
// itself: however the bytes are cut into reads, the same frames come out.
func FuzzNext(f *testing.F) {
	f.Add([]byte{}, uint16(1))
	f.Add([]byte{0, 0, 0, 1, 5, 0, 0, 0, 2, 6, 7}, uint16(3))
	f.Add([]byte{0, 0, 0, 0}, uint16(1))
	f.Add([]byte{0, 1, 0x10, 1, 1, 2, 3}, uint16(2))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff}, uint16(4))
	f.Add(appendFrame(appendFrame(nil, make([]byte, 60)), make([]byte, 1514)), uint16(100))
	f.Fuzz(func(t *testing.T, data []byte, chunk uint16) {
		want, wantErr := drain(data, len(data))
		got, gotErr := drain(data, max(1, int(chunk)))
		if !errors.Is(gotErr, wantErr) {
			t.Fatalf("in pieces of %d the error is %v, at once %v", chunk, gotErr, wantErr)
		}
		if !bytes.Equal(got, want) {
			t.Fatalf("in pieces of %d other frames come out than at once", chunk)
		}
		if wantErr == nil && !bytes.HasPrefix(data, got) {
			t.Fatal("the frames, framed again, are not what came in")
		}
	})
}

// drain parses data as it arrives in pieces, and frames what comes out again.
func drain(data []byte, chunk int) (out []byte, err error) {
	var buf []byte
	for len(data) > 0 {
		n := min(chunk, len(data))
		buf = append(buf, data[:n]...)
		data = data[n:]
		for {
			var f []byte
			if f, buf, err = next(buf); err != nil {
				return out, err
			}
			if f == nil {
				break
			}
			out = appendFrame(out, f)
		}
	}
	return out, nil
}
