// Package mactab is the MAC table of a learning switch.
//
// The table maps a station (48-bit MAC and 12-bit VLAN) to the port it was
// last heard on. It is open addressing over pairs of 64-bit words, a key and a
// value, so that forwarding looks stations up without a lock and without
// following pointers:
//
//	key    MAC << 16 | VLAN << 4 | 1        0 never used, 2 removed
//	value  seconds << 32 | tag << 31 | port  tag: static entry
//
// Readers load the key, the value, and the key again; a writer that reuses a
// slot clears its key first, so a reader never pairs a key with the value of
// another station. Writers hold a mutex, except for the refresh of an entry
// that is right already but for its age, which is one compare-and-swap.
//
// Ageing: an entry not heard for the ageing time is ignored by Lookup at once
// and removed by the next Expire. Static entries do not age and do not move.
//
// Hostile stations: the hash is multiplied by a random odd number, probing is
// bounded by maxProbe slots, the table holds at most the configured number of
// entries, and one port at most its cap of them. A station that finds no room
// is not learned, its traffic floods, and the refusal is counted; nobody
// else's entry is evicted for it.
package mactab

import (
	"math/bits"
	"math/rand/v2"
	"sync"
	"sync/atomic"
)

// MAC is a station address in the low 48 bits, first byte on the wire lowest,
// as a little-endian load of the frame gives it.
type MAC uint64

// Multicast says that the group bit is set; broadcast included.
func (m MAC) Multicast() bool { return m&1 != 0 }

// FromBytes packs a 6-byte address.
func FromBytes(b []byte) MAC {
	_ = b[5]
	return MAC(b[0]) | MAC(b[1])<<8 | MAC(b[2])<<16 | MAC(b[3])<<24 | MAC(b[4])<<32 | MAC(b[5])<<40
}

// Bytes unpacks the address.
func (m MAC) Bytes() [6]byte {
	return [6]byte{byte(m), byte(m >> 8), byte(m >> 16), byte(m >> 24), byte(m >> 32), byte(m >> 40)}
}

// Port is what the table maps to. Bit 31 is not available to callers.
type Port uint32

const (
	keyFree = 0
	keyGone = 2 // an even key is never that of a station

	staticBit = 1 << 31
	portMask  = staticBit - 1

	maxProbe = 64
)

type slot struct{ key, val atomic.Uint64 }

type slots struct {
	s     []slot
	shift uint
}

// Config sizes a table. Zero fields take the defaults.
type Config struct {
	Size    int    // entries, 16384
	PerPort int    // learned entries one port may have, 1024
	Age     uint32 // seconds, 300
}

// Table is safe for concurrent use.
type Table struct {
	cfg  Config
	mult uint64
	tab  atomic.Pointer[slots]

	refused atomic.Uint64
	moves   atomic.Uint64
	refusal atomic.Uint64 // the last refusal: seconds << 32 | port + 1

	mu      sync.Mutex // guards writes to the slots and what follows
	live    int
	gone    int
	perPort map[Port]int
}

// New makes an empty table.
func New(cfg Config) *Table {
	if cfg.Size <= 0 {
		cfg.Size = 16384
	}
	if cfg.PerPort <= 0 {
		cfg.PerPort = 1024
	}
	if cfg.Age == 0 {
		cfg.Age = 300
	}
	t := &Table{cfg: cfg, mult: rand.Uint64() | 1, perPort: make(map[Port]int)}
	t.tab.Store(newSlots(256))
	return t
}

func newSlots(n int) *slots {
	return &slots{make([]slot, n), uint(64 - bits.TrailingZeros(uint(n)))}
}

// Key packs a station.
func Key(m MAC, vlan uint16) uint64 { return uint64(m)<<16 | uint64(vlan&0xfff)<<4 | 1 }

// Lookup gives the port of the station with key k (see Key). now is the
// present time in the seconds that Learn was given.
func (t *Table) Lookup(k uint64, now uint32) (Port, bool) {
	tab := t.tab.Load()
	s := tab.s
	i := int(k * t.mult >> (tab.shift & 63))
	for range maxProbe {
		if uint(i) >= uint(len(s)) {
			i = 0
		}
		e := &s[i]
		switch e.key.Load() {
		case k:
			v := e.val.Load()
			if e.key.Load() != k || t.aged(v, now) {
				return 0, false
			}
			return Port(v & portMask), true
		case keyFree:
			return 0, false
		}
		i++
	}
	return 0, false
}

func (t *Table) aged(v uint64, now uint32) bool {
	return v&staticBit == 0 && int32(now-uint32(v>>32)) > int32(t.cfg.Age)
}

// Learn notes that the station with key k was heard on port p at second now.
// It says whether the table agrees that the station is on p: false when a
// static entry puts it elsewhere or there is no room.
func (t *Table) Learn(k uint64, p Port, now uint32) bool {
	want := uint64(now)<<32 | uint64(p&portMask)
	tab := t.tab.Load()
	if e := t.find(tab, k); e != nil {
		v := e.val.Load()
		switch {
		case v == want:
			return true
		case v&staticBit != 0:
			return Port(v&portMask) == p
		case uint32(v)&portMask == uint32(p):
			// Losing the race against a writer costs one refresh.
			e.val.CompareAndSwap(v, want)
			return true
		}
	} else if t.refusal.Load() == want+1 {
		// The port was refused in this second, and nothing has gone since:
		// whoever sends from thousands of addresses is not to keep the
		// mutex busy.
		t.refused.Add(1)
		return false
	}
	return t.learnSlow(k, p, want)
}

// find gives the slot of k, or nil.
func (t *Table) find(tab *slots, k uint64) *slot {
	s := tab.s
	i := int(k * t.mult >> (tab.shift & 63))
	for range maxProbe {
		if uint(i) >= uint(len(s)) {
			i = 0
		}
		switch e := &s[i]; e.key.Load() {
		case k:
			return e
		case keyFree:
			return nil
		}
		i++
	}
	return nil
}

func (t *Table) learnSlow(k uint64, p Port, want uint64) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e := t.find(t.tab.Load(), k); e != nil {
		v := e.val.Load()
		old := Port(v & portMask)
		if v&staticBit != 0 {
			return old == p
		}
		if old != p {
			if t.perPort[p] >= t.cfg.PerPort {
				return t.refuse(want)
			}
			t.addPort(old, -1)
			t.addPort(p, 1)
			t.moves.Add(1)
		}
		e.val.Store(want)
		return true
	}
	if t.live >= t.cfg.Size || t.perPort[p] >= t.cfg.PerPort || !t.insert(k, want) {
		return t.refuse(want)
	}
	t.addPort(p, 1)
	return true
}

func (t *Table) refuse(want uint64) bool {
	t.refused.Add(1)
	t.refusal.Store(want + 1)
	return false
}

func (t *Table) addPort(p Port, n int) {
	if n < 0 {
		t.refusal.Store(0)
	}
	if t.perPort[p] += n; t.perPort[p] == 0 {
		delete(t.perPort, p)
	}
}

// insert puts a station that the table does not hold into a slot.
func (t *Table) insert(k, v uint64) bool {
	if tab := t.tab.Load(); 2*(t.live+t.gone+1) > len(tab.s) {
		t.rebuild()
	}
	if !t.place(t.tab.Load(), k, v) {
		return false
	}
	t.live++
	return true
}

// place fills the first slot on k's way that holds no station.
func (t *Table) place(tab *slots, k, v uint64) bool {
	i := int(k * t.mult >> (tab.shift & 63))
	for range maxProbe {
		if i >= len(tab.s) {
			i = 0
		}
		e := &tab.s[i]
		switch e.key.Load() {
		case keyGone:
			t.gone--
			fallthrough
		case keyFree:
			e.val.Store(v)
			e.key.Store(k)
			return true
		}
		i++
	}
	return false
}

// rebuild copies the live entries into fresh slots, twice as many when
// they would be more than a quarter full.
func (t *Table) rebuild() {
	old := t.tab.Load()
	n := len(old.s)
	for 4*(t.live+1) > n {
		n *= 2
	}
	fresh := newSlots(n)
	t.gone = 0
	for i := range old.s {
		if k := old.s[i].key.Load(); k&1 != 0 && !t.place(fresh, k, old.s[i].val.Load()) {
			t.live--
			v := old.s[i].val.Load()
			if v&staticBit == 0 {
				t.addPort(Port(v&portMask), -1)
			}
		}
	}
	t.tab.Store(fresh)
}

// SetStatic pins a station to a port. It returns false when the table is full.
func (t *Table) SetStatic(k uint64, p Port) bool {
	v := uint64(staticBit) | uint64(p&portMask)
	t.mu.Lock()
	defer t.mu.Unlock()
	if e := t.find(t.tab.Load(), k); e != nil {
		if old := e.val.Load(); old&staticBit == 0 {
			t.addPort(Port(old&portMask), -1)
		}
		e.val.Store(v)
		return true
	}
	return t.live < t.cfg.Size && t.insert(k, v)
}

// Remove forgets one station, static or learned.
func (t *Table) Remove(k uint64) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.find(t.tab.Load(), k)
	if e == nil {
		return false
	}
	t.remove(e)
	return true
}

func (t *Table) remove(e *slot) {
	v := e.val.Load()
	if v&staticBit == 0 {
		t.addPort(Port(v&portMask), -1)
	}
	e.key.Store(keyGone)
	t.live--
	t.gone++
	t.refusal.Store(0)
}

// Entry is one station as observers see it.
type Entry struct {
	MAC    MAC
	VLAN   uint16
	Port   Port
	Static bool
	Age    uint32 // seconds since last heard; 0 for static entries
}

// removeIf removes the entries that del picks and returns how many.
func (t *Table) removeIf(del func(v uint64) bool) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	tab, n := t.tab.Load(), 0
	for i := range tab.s {
		e := &tab.s[i]
		if e.key.Load()&1 != 0 && del(e.val.Load()) {
			t.remove(e)
			n++
		}
	}
	return n
}

// Expire removes the aged entries and returns how many.
func (t *Table) Expire(now uint32) int {
	return t.removeIf(func(v uint64) bool { return t.aged(v, now) })
}

// Flush removes the learned entries and returns how many.
func (t *Table) Flush() int {
	return t.removeIf(func(v uint64) bool { return v&staticBit == 0 })
}

// FlushPort removes the entries of port p, the static ones too when all is
// set, and returns how many.
func (t *Table) FlushPort(p Port, all bool) int {
	return t.removeIf(func(v uint64) bool {
		return Port(v&portMask) == p && (all || v&staticBit == 0)
	})
}

// Entries lists the table in no particular order.
func (t *Table) Entries(now uint32) []Entry {
	t.mu.Lock()
	defer t.mu.Unlock()
	tab := t.tab.Load()
	out := make([]Entry, 0, t.live)
	for i := range tab.s {
		k := tab.s[i].key.Load()
		if k&1 == 0 {
			continue
		}
		v := tab.s[i].val.Load()
		if t.aged(v, now) {
			continue
		}
		e := Entry{MAC: MAC(k >> 16), VLAN: uint16(k >> 4 & 0xfff), Port: Port(v & portMask), Static: v&staticBit != 0}
		if !e.Static {
			// A station may have been heard since the caller read now.
			e.Age = uint32(max(0, int32(now-uint32(v>>32))))
		}
		out = append(out, e)
	}
	return out
}

// Stats counts since the table was made, and its present size.
type Stats struct {
	Live    int    // entries now
	Refused uint64 // stations not learned for want of room
	Moves   uint64 // stations heard on another port than before
}

// Stats reads the counters.
func (t *Table) Stats() Stats {
	t.mu.Lock()
	defer t.mu.Unlock()
	return Stats{t.live, t.refused.Load(), t.moves.Load()}
}
