package guestmem

import (
	"encoding/binary"
	"testing"
)

// FuzzTable reads a memory table of a 64 KiB file from arbitrary bytes. What
// Map accepts must be safe to touch from the first to the last byte.
func FuzzTable(f *testing.F) {
	row := func(words ...uint64) []byte {
		var b []byte
		for _, w := range words {
			b = binary.LittleEndian.AppendUint64(b, w)
		}
		return b
	}
	f.Add(row())
	f.Add(row(0, 0x7f00_0000_0000, 0x8000, 0, 0x1_0000_0000, 0x7f00_0000_8000, 0x8000, 0x8000))
	f.Add(row(0x100, 0x200, 0x1234, 0x321))
	f.Add(row(0, 0, 0x1_0000, 0))
	f.Add(row(0, 0, 0x1_0001, 0))
	f.Add(row(^uint64(0), 0, 1, 0))
	f.Add(row(0, 0, ^uint64(0), 1, 1, 1, 1, 1))
	f.Add(row(0, 0, 0x2000, 0, 0x1000, 0x2000, 0x1000, 0))
	fd := memfd(f, 1<<16, 0)
	f.Fuzz(func(t *testing.T, table []byte) {
		var specs []RegionSpec
		for ; len(table) >= 32 && len(specs) < 2*MaxTableRegions; table = table[32:] {
			word := func(i int) uint64 { return binary.LittleEndian.Uint64(table[8*i:]) }
			specs = append(specs, RegionSpec{Region{word(0), word(1), word(2), word(3)}, fd})
		}
		m, err := Map(specs)
		if err != nil {
			return
		}
		for _, s := range specs {
			b := m.Slice(s.GuestAddr, uint32(s.Size))
			u := m.UserSlice(s.UserAddr, uint32(s.Size))
			if uint64(len(b)) != s.Size || uint64(len(u)) != s.Size {
				t.Fatalf("region %v: %d bytes by guest address, %d by user address", s.Region, len(b), len(u))
			}
			b[0], b[len(b)-1] = 1, 2
			if u[len(u)-1] != 2 {
				t.Fatalf("region %v: guest and user address lead to different bytes", s.Region)
			}
			if end := s.GuestAddr + s.Size; m.Find(s.GuestAddr, uint32(s.Size)+1) != nil || (m.Find(end, 1) != nil && len(specs) == 1) {
				t.Fatalf("region %v reaches beyond its end", s.Region)
			}
		}
		if err := m.Close(); err != nil {
			t.Fatal(err)
		}
	})
}
