package porttest

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

const (
	headerLen = 14
	everybody = -1

	// minStamped is the shortest frame that says which one it is.
	minStamped = headerLen + 8
)

// address of the peer at port i.
func address(i int) []byte {
	if i == everybody {
		return []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	}
	return []byte{2, 0, 0, 0, 0, byte(i + 1)}
}

// frame makes a frame that no other call makes, when it is long enough to tell:
// its number, its sender and bytes that follow from both.
func (r *rig) frame(to, from, size int) []byte {
	r.seq++
	return stamped(to, from, size, r.seq)
}

func stamped(to, from, size int, seq uint32) []byte {
	f := make([]byte, 0, max(size, minStamped))
	f = append(append(f, address(to)...), address(from)...)
	f = append(f, 0x88, 0xb5) // for experiments, IEEE 802
	f = binary.BigEndian.AppendUint32(f, seq)
	f = binary.BigEndian.AppendUint32(f, uint32(from))
	x := seq*2654435761 + uint32(from)
	for len(f) < size {
		x = x*1664525 + 1013904223
		f = append(f, byte(x>>24))
	}
	return f[:size]
}

// stampOf reads sender and number of a frame and says whether all else in it is
// as it was made.
func stampOf(f []byte) (from int, seq uint32, err error) {
	if len(f) < minStamped {
		return 0, 0, fmt.Errorf("frame has %d bytes", len(f))
	}
	seq = binary.BigEndian.Uint32(f[headerLen:])
	from = int(binary.BigEndian.Uint32(f[headerLen+4:]))
	want := stamped(0, from, len(f), seq)
	if diff := compare(f[6:], want[6:]); diff != "" {
		return 0, 0, fmt.Errorf("frame %d from %d is damaged: %s", seq, from, diff)
	}
	return from, seq, nil
}

// compare describes how two frames differ, "" when they do not.
func compare(got, want []byte) string {
	if bytes.Equal(got, want) {
		return ""
	}
	at := 0
	for at < min(len(got), len(want)) && got[at] == want[at] {
		at++
	}
	return fmt.Sprintf("got %d bytes %x..., want %d bytes %x...; they differ from byte %d on",
		len(got), got[:min(24, len(got))], len(want), want[:min(24, len(want))], at)
}
