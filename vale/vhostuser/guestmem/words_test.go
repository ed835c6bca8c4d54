package guestmem

import (
	"encoding/binary"
	"testing"

	"pgregory.net/rapid"
)

// TestWordsAgreeWithEncoding holds the words against encoding/binary on random
// bytes, and against their neighbours, which they must leave alone.
func TestWordsAgreeWithEncoding(t *testing.T) {
	b := mustMap(t, RegionSpec{Region{Size: page}, memfd(t, page, 0)}).Slice(0, page)
	rapid.Check(t, func(t *rapid.T) {
		want := rapid.SliceOfN(rapid.Byte(), 64, 64).Draw(t, "bytes")
		copy(b, want)
		off := 4 * rapid.IntRange(0, 15).Draw(t, "word")
		half := 2 * rapid.IntRange(0, 31).Draw(t, "half")
		if got := Load32(b, off); got != binary.LittleEndian.Uint32(want[off:]) {
			t.Fatalf("Load32(%d) = %#x of % x", off, got, want)
		}
		if got := Load16(b, half); got != binary.LittleEndian.Uint16(want[half:]) {
			t.Fatalf("Load16(%d) = %#x of % x", half, got, want)
		}
		v := rapid.Uint32().Draw(t, "value")
		Store32(b, off, v)
		binary.LittleEndian.PutUint32(want[off:], v)
		Store16(b, half, uint16(v>>7))
		Fence()
		binary.LittleEndian.PutUint16(want[half:], uint16(v>>7))
		if got := string(b[:64]); got != string(want) {
			t.Fatalf("memory is % x, want % x", got, want)
		}
	})
}

func TestAligned(t *testing.T) {
	b := mustMap(t, RegionSpec{Region{Size: page}, memfd(t, page, 0)}).Slice(0, page)
	if !Aligned(b, 4096) || !Aligned(b[16:], 16) || Aligned(b[8:], 16) || Aligned(b[1:], 2) {
		t.Error("Aligned is wrong")
	}
}

func BenchmarkSliceHit(b *testing.B) {
	m := mustMap(b, RegionSpec{Region{Size: 16 * page}, memfd(b, 16*page, 0)})
	hit := m.Find(0, 1)
	var sum int
	for i := range b.N {
		s, ok := hit.Slice(uint64(i&15)*page, 64)
		if !ok {
			b.Fatal("miss")
		}
		sum += len(s)
	}
	_ = sum
}
