package guestmem

import (
	"errors"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"
)

const page = 4096

// memfd returns a file of size bytes that is closed with the test.
func memfd(t testing.TB, size int64, flags int) int {
	t.Helper()
	fd, err := unix.MemfdCreate("guestmem-test", unix.MFD_CLOEXEC|flags)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := unix.Ftruncate(fd, size); err != nil {
		t.Fatal(err)
	}
	return fd
}

func mustMap(t testing.TB, specs ...RegionSpec) *Memory {
	t.Helper()
	m, err := Map(specs)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	return m
}

// mappings counts the mappings of this process that show a test memfd.
func mappings(t testing.TB) int {
	t.Helper()
	text, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Count(string(text), "memfd:guestmem-test")
}

func TestCheckTable(t *testing.T) {
	many := make([]Region, MaxRegions+1)
	for i := range many {
		many[i] = Region{GuestAddr: uint64(i) * page, UserAddr: uint64(i) * page, Size: page}
	}
	tests := []struct {
		name    string
		regions []Region
		want    error
	}{
		{"none", nil, nil},
		{"low and high memory of one file", []Region{
			{GuestAddr: 0, UserAddr: 0x7f00_0000_0000, Size: 3 << 30},
			{GuestAddr: 4 << 30, UserAddr: 0x7f00_c000_0000, Size: 1 << 30, MmapOffset: 3 << 30},
		}, nil},
		{"neighbours out of order", []Region{
			{GuestAddr: page, UserAddr: page, Size: page},
			{GuestAddr: 0, UserAddr: 0, Size: page},
		}, nil},
		{"empty", []Region{{GuestAddr: page, UserAddr: page}}, ErrEmpty},
		{"guest end overflows", []Region{{GuestAddr: math.MaxUint64 - page + 1, Size: page}}, ErrOverflow},
		{"user end overflows", []Region{{UserAddr: math.MaxUint64, Size: page}}, ErrOverflow},
		{"offset overflows", []Region{{MmapOffset: math.MaxUint64 - 1, Size: page}}, ErrOverflow},
		{"offset beyond what files have", []Region{{MmapOffset: 1 << 62, Size: page}}, ErrOverflow},
		{"one region too big", []Region{{Size: MaxBytes + 1}}, ErrTooBig},
		{"all regions too big", []Region{
			{Size: MaxBytes}, {GuestAddr: MaxBytes, UserAddr: MaxBytes, Size: 1},
		}, ErrTooBig},
		{"guest overlap by a byte", []Region{
			{GuestAddr: 0, UserAddr: 0, Size: page + 1},
			{GuestAddr: page, UserAddr: 8 * page, Size: page},
		}, ErrOverlap},
		{"user overlap", []Region{
			{GuestAddr: 0, UserAddr: page, Size: page},
			{GuestAddr: page, UserAddr: page, Size: page},
		}, ErrOverlap},
		{"too many", many, ErrTooMany},
		{"as many as allowed", many[:MaxRegions], nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if err := CheckTable(tt.regions); !errors.Is(err, tt.want) {
				t.Fatalf("CheckTable = %v, want %v", err, tt.want)
			}
		})
	}
}

func TestTranslate(t *testing.T) {
	fd := memfd(t, 6*page, 0)
	// The file begins with a page of no region; the second region begins and
	// ends in the middle of pages.
	m := mustMap(t,
		RegionSpec{Region{GuestAddr: 0x10_0000, UserAddr: 0x7000_0000, Size: 2 * page, MmapOffset: page}, fd},
		RegionSpec{Region{GuestAddr: 0x4000_0100, UserAddr: 0x5000_0100, Size: 2 * page, MmapOffset: 3*page + 0x100}, fd},
	)
	if _, err := unix.Pwrite(fd, []byte("first"), page+16); err != nil {
		t.Fatal(err)
	}
	if _, err := unix.Pwrite(fd, []byte("second"), 5*page); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name string
		gpa  uint64
		user uint64
		n    uint32
		want string // "-" for nothing
	}{
		{"first", 0x10_0010, 0x7000_0010, 5, "first"},
		{"second", 0x4000_2000, 0x5000_2000, 6, "second"},
		{"no bytes", 0x10_0000, 0x7000_0000, 0, ""},
		{"below", 0x0f_ffff, 0x6fff_ffff, 1, "-"},
		{"crosses the end", 0x10_1fff, 0x7000_1fff, 2, "-"},
		{"at the end", 0x10_2000, 0x7000_2000, 0, "-"},
		{"longer than all", 0x10_0000, 0x7000_0000, math.MaxUint32, "-"},
		{"slack before the second", 0x4000_00ff, 0x5000_00ff, 1, "-"},
		{"address wraps", math.MaxUint64, math.MaxUint64, 2, "-"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for what, got := range map[string][]byte{"Slice": m.Slice(tt.gpa, tt.n), "UserSlice": m.UserSlice(tt.user, tt.n)} {
				if tt.want == "-" {
					if got != nil {
						t.Errorf("%s = %q, want nothing", what, got)
					}
				} else if got == nil || string(got) != tt.want || cap(got) != len(got) {
					t.Errorf("%s = %q (cap %d), want %q", what, got, cap(got), tt.want)
				}
			}
			if found := m.Find(tt.gpa, tt.n) != nil; found != (tt.want != "-") {
				t.Errorf("Find found = %v", found)
			}
			if _, ok := NoMapping.Slice(tt.gpa, tt.n); ok {
				t.Error("NoMapping has bytes")
			}
		})
	}
	if got := len(m.Prefix(0x10_1ffe, 10)); got != 2 {
		t.Errorf("Prefix at the end of a region has %d bytes, want 2", got)
	}
	if m.Bytes() != 4*page || len(m.Regions()) != 2 {
		t.Errorf("Bytes = %d, Regions = %v", m.Bytes(), m.Regions())
	}
}

// TestLookupAgreesWithScan compares the lookups with a plain scan of random
// tables.
func TestLookupAgreesWithScan(t *testing.T) {
	fd := memfd(t, 64*page, 0)
	rapid.Check(t, func(t *rapid.T) {
		var specs []RegionSpec
		guest, user := rapid.Uint64Range(0, 1<<40).Draw(t, "guest"), rapid.Uint64Range(0, 1<<46).Draw(t, "user")
		for range rapid.IntRange(0, 6).Draw(t, "regions") {
			r := Region{GuestAddr: guest, UserAddr: user,
				Size:       rapid.Uint64Range(1, 16*page).Draw(t, "size"),
				MmapOffset: rapid.Uint64Range(0, 48*page).Draw(t, "offset")}
			specs = append(specs, RegionSpec{r, fd})
			guest += r.Size + rapid.Uint64Range(0, 2*page).Draw(t, "guest gap")
			user += r.Size + rapid.Uint64Range(0, 2*page).Draw(t, "user gap")
		}
		m, err := Map(rapid.Permutation(specs).Draw(t, "order"))
		if err != nil {
			t.Fatal(err)
		}
		defer m.Close()
		scan := func(addr uint64, n uint32, start func(Region) uint64) int64 {
			for _, s := range specs {
				if off := addr - start(s.Region); addr >= start(s.Region) && off < s.Size && uint64(n) <= s.Size-off {
					return int64(s.MmapOffset + off)
				}
			}
			return -1
		}
		for range 20 {
			delta := rapid.Uint64Range(0, 100*page).Draw(t, "delta")
			n := rapid.Uint32Range(1, 3*page).Draw(t, "n")
			check := func(what string, got []byte, offset int64) {
				if (got == nil) != (offset < 0) {
					t.Fatalf("%s = %d bytes, scan says file offset %d", what, len(got), offset)
				}
				if got == nil {
					return
				}
				got[0]++
				var b [1]byte
				if _, err := unix.Pread(fd, b[:], offset); err != nil || b[0] != got[0] {
					t.Fatalf("%s leads elsewhere than file offset %d", what, offset)
				}
			}
			if len(specs) > 0 {
				g, u := specs[0].GuestAddr+delta, specs[0].UserAddr+delta
				check("Slice", m.Slice(g, n), scan(g, n, func(r Region) uint64 { return r.GuestAddr }))
				check("UserSlice", m.UserSlice(u, n), scan(u, n, func(r Region) uint64 { return r.UserAddr }))
			}
		}
	})
}

func TestAddRemoveShareMappings(t *testing.T) {
	before := mappings(t)
	fd := memfd(t, 4*page, 0)
	low := RegionSpec{Region{GuestAddr: 0, UserAddr: 0x1000_0000, Size: page}, fd}
	high := RegionSpec{Region{GuestAddr: 1 << 32, UserAddr: 0x2000_0000, Size: page, MmapOffset: 2 * page}, fd}

	one, err := Map([]RegionSpec{low})
	if err != nil {
		t.Fatal(err)
	}
	two, err := one.Add(high)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := two.Add(high); !errors.Is(err, ErrOverlap) {
		t.Errorf("Add twice: %v, want %v", err, ErrOverlap)
	}
	if got := mappings(t); got != before+2 {
		t.Errorf("%d mappings with two regions, want %d", got, before+2)
	}
	copy(one.Slice(0, 4), "held")
	if err := one.Close(); err != nil {
		t.Fatal(err)
	}
	if err := one.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
	if got := string(two.Slice(0, 4)); got != "held" {
		t.Errorf("shared mapping reads %q after the first Memory closed", got)
	}
	if _, err := two.Remove(Region{GuestAddr: 0, UserAddr: 0x1000_0000, Size: 2 * page}); !errors.Is(err, ErrNoRegion) {
		t.Errorf("Remove with another size: %v, want %v", err, ErrNoRegion)
	}
	three, err := two.Remove(low.Region)
	if err != nil {
		t.Fatal(err)
	}
	if two.Slice(0, 1) == nil || three.Slice(0, 1) != nil || three.Slice(1<<32, 1) == nil {
		t.Error("Remove changed the old Memory or kept the region in the new one")
	}
	if err := errors.Join(two.Close(), three.Close()); err != nil {
		t.Fatal(err)
	}
	if got := mappings(t); got != before {
		t.Errorf("%d mappings at the end, %d at the start", got, before)
	}
}

func TestMapLeavesNothingBehindOnError(t *testing.T) {
	before := mappings(t)
	fd := memfd(t, page, 0)
	_, err := Map([]RegionSpec{
		{Region{Size: page}, fd},
		{Region{GuestAddr: page, UserAddr: page, Size: page, MmapOffset: 1}, fd},
	})
	if !errors.Is(err, ErrTruncated) {
		t.Fatalf("Map = %v, want %v", err, ErrTruncated)
	}
	if !strings.Contains(err.Error(), "region 1") {
		t.Errorf("error %q does not name the region", err)
	}
	if got := mappings(t); got != before {
		t.Errorf("%d mappings after the error, %d before", got, before)
	}
}

func TestHostileFiles(t *testing.T) {
	open := func(path string, flags int) int {
		fd, err := unix.Open(path, flags|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Close(fd) })
		return fd
	}
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	sockets, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	event, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range append(append(pipe[:], sockets[:]...), event) {
		t.Cleanup(func() { unix.Close(fd) })
	}
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	writeSealed := memfd(t, page, unix.MFD_ALLOW_SEALING)
	if _, err := unix.FcntlInt(uintptr(writeSealed), unix.F_ADD_SEALS, unix.F_SEAL_WRITE); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name string
		fd   int
		want error
	}{
		{"not open", -1, unix.EBADF},
		{"directory", open(t.TempDir(), unix.O_RDONLY|unix.O_DIRECTORY), ErrNotMemory},
		{"device", open("/dev/zero", unix.O_RDWR), ErrNotMemory},
		{"pipe", pipe[0], ErrNotMemory},
		{"fifo", open(fifo, unix.O_RDWR), ErrNotMemory},
		{"socket", sockets[0], ErrNotMemory},
		{"eventfd", event, ErrNotMemory},
		{"proc file", open("/proc/self/mem", unix.O_RDWR), nil},
		{"empty file", memfd(t, 0, 0), ErrTruncated},
		{"sealed against writing", writeSealed, unix.EPERM},
		{"path only", open("/dev/shm", unix.O_PATH), nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m, err := Map([]RegionSpec{{Region{Size: page}, tt.fd}})
			if err == nil {
				m.Close()
				t.Fatal("Map accepted it")
			}
			if tt.want != nil && !errors.Is(err, tt.want) {
				t.Fatalf("Map = %v, want %v", err, tt.want)
			}
		})
	}
}

func TestLocalDiskFile(t *testing.T) {
	f, err := os.CreateTemp(t.TempDir(), "memory")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(page); err != nil {
		t.Fatal(err)
	}
	m := mustMap(t, RegionSpec{Region{Size: page}, int(f.Fd())})
	copy(m.Slice(0, 4), "disk")
	var b [4]byte
	if _, err := f.ReadAt(b[:], 0); err != nil || string(b[:]) != "disk" {
		t.Fatalf("file has %q, %v", b, err)
	}
}

func TestHugePages(t *testing.T) {
	const huge = 2 << 20
	fd := memfd(t, 2*huge, unix.MFD_HUGETLB|unix.MFD_HUGE_2MB)
	// The region begins and ends off the huge page. Nothing is touched, so
	// the test needs no huge page to be free.
	m, err := Map([]RegionSpec{{Region{GuestAddr: 0x1000, UserAddr: 0x1000, Size: huge, MmapOffset: 0x1000}, fd}})
	if err != nil {
		t.Fatal(err)
	}
	if n := len(m.byGuest[0].whole); n != 2*huge {
		t.Errorf("mapping has %d bytes, want two huge pages", n)
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestShrinkSealed(t *testing.T) {
	open := memfd(t, page, unix.MFD_ALLOW_SEALING)
	sealed := memfd(t, page, unix.MFD_ALLOW_SEALING)
	if _, err := unix.FcntlInt(uintptr(sealed), unix.F_ADD_SEALS, unix.F_SEAL_SHRINK); err != nil {
		t.Fatal(err)
	}
	if m := mustMap(t, RegionSpec{Region{Size: page}, sealed}); !m.ShrinkSealed() {
		t.Error("sealed file not noticed")
	}
	m := mustMap(t, RegionSpec{Region{Size: page}, sealed}, RegionSpec{Region{GuestAddr: page, UserAddr: page, Size: page}, open})
	if m.ShrinkSealed() {
		t.Error("one file may shrink, yet the memory counts as sealed")
	}
}

// TestTruncatedMemoryFaultsAreAttributed truncates a file under its mapping,
// as a hostile guest may, and finds out whose memory the fault was in.
func TestTruncatedMemoryFaultsAreAttributed(t *testing.T) {
	victim := mustMap(t, RegionSpec{Region{Size: 2 * page}, memfd(t, 2*page, 0)})
	fd := memfd(t, 2*page, 0)
	hostile := mustMap(t, RegionSpec{Region{Size: 2 * page}, fd})
	b := hostile.Slice(0, 2*page)
	if err := unix.Ftruncate(fd, page); err != nil {
		t.Fatal(err)
	}
	for name, touch := range map[string]func(){
		"copy":   func() { copy(b[page:], "x") },
		"Load32": func() { Load32(b, page) },
		"Load16": func() { Load16(b, page+2) },
		"Store":  func() { Store16(b, page, 1) },
	} {
		t.Run(name, func(t *testing.T) {
			addr := faultOf(t, touch)
			if !hostile.Owns(addr) || victim.Owns(addr) {
				t.Fatalf("fault at %#x: hostile owns it %v, victim owns it %v", addr, hostile.Owns(addr), victim.Owns(addr))
			}
		})
	}
}

func faultOf(t *testing.T, touch func()) (addr uintptr) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		fault, ok := recover().(interface {
			runtime.Error
			Addr() uintptr
		})
		if !ok {
			t.Fatal("no fault")
		}
		addr = fault.Addr()
	}()
	touch()
	return 0
}

func TestLookupsDoNotAllocate(t *testing.T) {
	m := mustMap(t, RegionSpec{Region{Size: page}, memfd(t, page, 0)})
	hit := NoMapping
	allocs := testing.AllocsPerRun(100, func() {
		if _, ok := hit.Slice(8, 64); !ok {
			hit = m.Find(8, 64)
		}
		_ = m.Slice(8, 64)
		_ = m.UserSlice(8, 64)
	})
	if allocs != 0 {
		t.Errorf("%v allocations per lookup", allocs)
	}
}
