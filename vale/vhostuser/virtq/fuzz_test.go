package virtq

import (
	"encoding/binary"
	"testing"

	"github.com/vale-vmnet/vale-vmnet/vale"
)

// chainOf writes descriptors as a driver does; the seeds of the fuzzer and the
// tests of bad chains are built from them.
func chainOf(ds ...desc) []byte {
	var b []byte
	for _, d := range ds {
		b = binary.LittleEndian.AppendUint64(b, d.addr)
		b = binary.LittleEndian.AppendUint32(b, d.len)
		b = binary.LittleEndian.AppendUint16(b, d.flags)
		b = binary.LittleEndian.AppendUint16(b, d.next)
	}
	return b
}

// FuzzQueue has a driver that writes what it likes into both its rings: the
// descriptor tables, the available rings with their indices, and the memory
// that indirect tables lie in. Whatever it writes, every frame is accounted
// for, no byte outside its memory is touched (the race of the mapping's end
// would fault), and the walk ends.
func FuzzQueue(f *testing.F) {
	const n = 16
	data := uint64(ringBytes)
	f.Add(chainOf(desc{addr: data, len: 100}), []byte{1, 0, 0, 0}, []byte{}, uint8(0xff))
	f.Add(chainOf(desc{addr: data, len: 12, flags: descNext, next: 1}, desc{addr: data + 2048, len: 60}), []byte{1, 0, 0, 0}, []byte{}, uint8(0xff))
	f.Add(chainOf(desc{addr: data, len: 12, flags: descNext, next: 0}), []byte{1, 0, 0, 0}, []byte{}, uint8(0xff))
	f.Add(chainOf(desc{addr: data, len: 32, flags: descIndirect}), []byte{1, 0, 0, 0},
		chainOf(desc{addr: data + 4096, len: 12, flags: descNext, next: 1}, desc{addr: data + 6000, len: 1500}), uint8(0xff))
	f.Add(chainOf(desc{addr: data, len: 16, flags: descIndirect}), []byte{1, 0, 0, 0},
		chainOf(desc{addr: data, len: 16, flags: descIndirect}), uint8(0xff))
	f.Add(chainOf(desc{addr: ^uint64(0), len: ^uint32(0)}), []byte{16, 0, 255, 255}, []byte{}, uint8(0xff))
	f.Add(chainOf(desc{addr: data, len: 4, flags: descWrite}), []byte{9, 0, 0, 0}, []byte{}, uint8(0))
	f.Fuzz(func(t *testing.T, table, avail, memory []byte, features uint8) {
		fabric := vale.New(vale.Config{})
		defer fabric.Close()
		tx, rx := newDriver(t, n, false), newDriver(t, n, true)
		var qt, qr Queue
		for _, d := range []*driver{tx, rx} {
			d.cfg.EventIdx = features&1 != 0
			d.cfg.Indirect = features&2 != 0
			d.cfg.Mergeable = features&4 != 0
			if features&8 == 0 && !d.cfg.Mergeable {
				d.cfg.HdrLen = 10
			}
			copy(d.cfg.Desc, table)
			copy(d.cfg.Avail[2:], avail)
			copy(d.whole[ringBytes:], memory)
		}
		if err := qt.Start(tx.cfg); err != nil {
			t.Fatal(err)
		}
		if err := qr.Start(rx.cfg); err != nil {
			t.Fatal(err)
		}
		pa, pb := attach(t, fabric, "a", &qt), attach(t, fabric, "b", &qr)
		batch := vale.NewBatch()
		for qt.Forward(batch, pa) > 0 {
		}
		checkBooks(t, pa, pb)
		// An honest sender to the hostile receiver, frames of all sizes.
		honest, _, err := fabric.Open(vale.Name{Switch: "vale-1", Port: "c"})
		if err != nil {
			t.Fatal(err)
		}
		c, err := honest.Connect(vale.ClientConfig{})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		batch.Reset()
		for _, size := range []int{14, 60, 1500, 9000, 65549} {
			frame := make([]byte, size)
			copy(frame, []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 9, 8, 0})
			batch.Add(vnet0, frame)
		}
		if err := c.Send(batch); err != nil {
			t.Fatal(err)
		}
		checkBooks(t, pa, pb, honest)
		if qt.Arm(); qt.Err() != nil && qt.Forward(batch, pa) != 0 {
			t.Error("a broken queue moved frames")
		}
	})
}

func checkBooks(t *testing.T, ports ...*vale.Port) {
	t.Helper()
	for _, p := range ports {
		c := p.Counters()
		if c.InCopies != c.InDelivered+vale.Sum(c.InDrops) {
			t.Fatalf("%s: %d copies, %d delivered, %d dropped", p.Name(), c.InCopies, c.InDelivered, vale.Sum(c.InDrops))
		}
	}
}
