package virtq

import (
	"encoding/binary"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/vale-vmnet/vale-vmnet/vale"
	"github.com/vale-vmnet/vale-vmnet/vale/frame"
	"github.com/vale-vmnet/vale-vmnet/vale/vhostuser/guestmem"
)

var vnet0 frame.VnetHdr

// testLink is a link over one queue.
type testLink struct{ q *Queue }

func (l *testLink) Deliver(b *vale.Batch, list []uint16, t *vale.Tally) {
	if !l.q.Deliver(b, list, t) {
		t.Drop(vale.DropLinkDown, len(list))
	}
}
func (l *testLink) Info() vale.LinkInfo { return vale.LinkInfo{Kind: "test"} }
func (l *testLink) Close() error        { return nil }

func attach(tb testing.TB, f *vale.Fabric, name string, q *Queue) *vale.Port {
	tb.Helper()
	p, _, err := f.Open(vale.Name{Switch: "vale-1", Port: name})
	if err != nil {
		tb.Fatal(err)
	}
	l := &testLink{q}
	if err := p.Attach(l); err != nil {
		tb.Fatal(err)
	}
	p.SetLinkState(l, vale.LinkState{Ready: true})
	return p
}

// deliverOne hands the queue a frame of 1500 bytes and says what became of it.
func deliverOne(t *testing.T, q *Queue) vale.Tally {
	t.Helper()
	b := vale.NewBatch()
	b.Add(vnet0, make([]byte, 1500))
	var tally vale.Tally
	q.Deliver(b, []uint16{0}, &tally)
	return tally
}

// TestAbsurdReceiveBuffers offers buffers of a byte behind hundreds of empty
// descriptors. They are no reason to break the queue, but must not cost the
// sender thousands of descriptors a frame.
func TestAbsurdReceiveBuffers(t *testing.T) {
	const n = 256
	d := newDriver(t, n, true)
	table := descs(d.cfg.Desc, n)
	for i := range table {
		table[i] = desc{addr: table[i].addr, flags: descWrite | descNext, next: uint16(i + 1)}
	}
	table[n-1] = desc{addr: table[n-1].addr, len: 1, flags: descWrite}
	clear(words(d.cfg.Avail[4:], n))
	d.offer(n)
	var q Queue
	if err := q.Start(d.cfg); err != nil {
		t.Fatal(err)
	}
	tally := deliverOne(t, &q)
	if tally.Drops[vale.DropNoFit] != 1 || q.Err() != nil {
		t.Errorf("drops %v, %v", tally.Drops, q.Err())
	}
	if q.walked > maxWalk+maxPieces {
		t.Errorf("the frame cost %d descriptors", q.walked)
	}
}

// TestScatteredMemory has each buffer lie across all of many regions.
func TestScatteredMemory(t *testing.T) {
	const n, regions = 64, 100
	page := uint64(os.Getpagesize())
	fd, err := unix.MemfdCreate("guest", unix.MFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.Ftruncate(fd, int64(page)); err != nil {
		t.Fatal(err)
	}
	var specs []guestmem.RegionSpec
	for i := range uint64(regions) {
		specs = append(specs, guestmem.RegionSpec{Region: guestmem.Region{GuestAddr: i * page, UserAddr: i * page, Size: page}, FD: fd})
	}
	mem, err := guestmem.Map(specs)
	if err != nil {
		t.Fatal(err)
	}
	defer mem.Close()
	d := newDriver(t, n, true)
	d.cfg.Mem = mem
	table := descs(d.cfg.Desc, n)
	for i := range table {
		table[i] = desc{len: uint32(regions * page), flags: descWrite | descNext, next: uint16(i + 1)}
	}
	table[n-1].flags = descWrite
	binary.NativeEndian.PutUint16(d.cfg.Avail[4:], 0)
	d.offer(1)
	var q Queue
	if err := q.Start(d.cfg); err != nil {
		t.Fatal(err)
	}
	if tally := deliverOne(t, &q); tally.Delivered != 0 || q.Err() == nil {
		t.Errorf("delivered %d, %v", tally.Delivered, q.Err())
	}
	if len(q.iov) > maxParts {
		t.Errorf("the frame cost %d parts", len(q.iov))
	}
}

// TestLongFramesShareTheWorker offers more bytes than one turn takes.
func TestLongFramesShareTheWorker(t *testing.T) {
	const n, size = 128, 60000
	d := newDriver(t, n, false)
	for i := range n {
		// All lie over each other; nobody minds.
		descs(d.cfg.Desc, n)[i] = desc{addr: ringBytes, len: size}
	}
	d.offer(n)
	fabric := vale.New(vale.Config{})
	defer fabric.Close()
	var q Queue
	if err := q.Start(d.cfg); err != nil {
		t.Fatal(err)
	}
	p, b := attach(t, fabric, "a", &q), vale.NewBatch()
	for moved := 0; moved < n; {
		k := q.Forward(b, p)
		if k == 0 || (k-1)*size >= budgetBytes {
			t.Fatalf("one turn took %d frames after %d", k, moved)
		}
		moved += k
	}
	if got := d.usedIdx(); got != n {
		t.Errorf("%d of %d chains came back", got, n)
	}
}

// BenchmarkAbsurdReceiveBuffers is what a delivery of 256 frames costs the
// sender when each receive buffer is a byte behind 255 empty descriptors.
func BenchmarkAbsurdReceiveBuffers(b *testing.B) {
	const n = 1024
	d := newDriver(b, n, true)
	table := descs(d.cfg.Desc, n)
	for i := range table {
		table[i] = desc{addr: table[i].addr, flags: descWrite | descNext, next: uint16(i + 1)}
	}
	table[255] = desc{addr: table[255].addr, len: 1, flags: descWrite}
	clear(words(d.cfg.Avail[4:], n))
	d.offer(n)
	var q Queue
	if err := q.Start(d.cfg); err != nil {
		b.Fatal(err)
	}
	batch := vale.NewBatch()
	var list []uint16
	for i := range 256 {
		batch.Add(vnet0, make([]byte, 1500))
		list = append(list, uint16(i))
	}
	var tally vale.Tally
	for b.Loop() {
		q.Deliver(batch, list, &tally)
	}
}
