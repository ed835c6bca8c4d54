package virtq

import (
	"fmt"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/vale-vmnet/vale-vmnet/vale"
	"github.com/vale-vmnet/vale-vmnet/vale/vhostuser/guestmem"
)

// driver is the guest's side of one queue in memory of its own: ring of n
// entries, each with a buffer of 2 KiB.
type driver struct {
	n     int
	mem   *guestmem.Memory
	whole []byte
	cfg   Config
	idx   uint16
}

const ringBytes = 64 << 10

func newDriver(tb testing.TB, n int, write bool) *driver {
	tb.Helper()
	size := ringBytes + n*2048
	fd, err := unix.MemfdCreate("guest", unix.MFD_CLOEXEC)
	if err != nil {
		tb.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.Ftruncate(fd, int64(size)); err != nil {
		tb.Fatal(err)
	}
	mem, err := guestmem.Map([]guestmem.RegionSpec{{Region: guestmem.Region{Size: uint64(size)}, FD: fd}})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { mem.Close() })
	d := &driver{n: n, mem: mem, whole: mem.Slice(0, uint32(size))}
	nd, na, nu := Sizes(n)
	availAt := nd
	usedAt := (availAt + na + 63) &^ 63
	d.cfg = Config{
		Size: n, Desc: d.whole[:nd], Avail: d.whole[availAt : availAt+na], Used: d.whole[usedAt : usedAt+nu],
		Mem: mem, HdrLen: 12, Mergeable: true, Indirect: true, Call: -1,
	}
	table := descs(d.cfg.Desc, n)
	for i := range table {
		table[i] = desc{addr: uint64(ringBytes + i*2048), len: 2048}
		if write {
			table[i].flags = descWrite
		}
		words(d.cfg.Avail[4:], n)[i] = uint16(i)
	}
	return d
}

func (d *driver) buf(i int) []byte { return d.whole[ringBytes+i*2048:][:2048] }

// offer makes k more entries available.
func (d *driver) offer(k int) {
	d.idx += uint16(k)
	guestmem.Store16(d.cfg.Avail, 2, d.idx)
}

func (d *driver) usedIdx() uint16 { return guestmem.Load16(d.cfg.Used, 2) }

// BenchmarkForward moves frames from one guest's ring to another's in bursts
// of 32, with both guests' work kept to a few stores.
func BenchmarkForward(b *testing.B) {
	for _, size := range []int{64, 512, 1500} {
		b.Run(fmt.Sprintf("size=%d", size), func(b *testing.B) {
			f := vale.New(vale.Config{})
			defer f.Close()
			tx, rx := newDriver(b, 256, false), newDriver(b, 256, true)
			var qt, qr Queue
			for i := range 256 {
				fr := tx.buf(i)
				copy(fr[12:], []byte{2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0})
				descs(tx.cfg.Desc, 256)[i].len = uint32(12 + size)
			}
			if err := qt.Start(tx.cfg); err != nil {
				b.Fatal(err)
			}
			if err := qr.Start(rx.cfg); err != nil {
				b.Fatal(err)
			}
			pa := attach(b, f, "a", &qt)
			pb := attach(b, f, "b", &qr)
			teach := vale.NewBatch()
			teach.Add(vnet0, []byte{2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0})
			pb.Forward(teach)
			rx.offer(255)
			batch := vale.NewBatch()
			b.SetBytes(int64(size))
			k := 0
			last := uint16(0)
			for b.Loop() {
				if k++; k%32 == 0 {
					tx.offer(32)
					qt.Forward(batch, pa)
					u := rx.usedIdx()
					rx.offer(int(u - last))
					last = u
				}
			}
			got := pb.Counters().OutFrames
			if int(got) < k-64 {
				b.Fatalf("delivered %d of %d: %v %v", got, k, qt.Err(), qr.Err())
			}
			b.ReportMetric(float64(got)/b.Elapsed().Seconds()/1e6, "Mpps")
		})
	}
}
