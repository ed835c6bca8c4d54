package mactab_test

import (
	"fmt"
	"maps"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/vale-vmnet/vale-vmnet/vale/mactab"
)

func TestKeyRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := rapid.SliceOfN(rapid.Byte(), 6, 6).Draw(t, "mac")
		vlan := rapid.Uint16Max(4095).Draw(t, "vlan")
		m := mactab.FromBytes(b)
		if got := m.Bytes(); string(got[:]) != string(b) {
			t.Errorf("%x packs to %#x, which unpacks to %x", b, m, got)
		}
		if m.Multicast() != (b[0]&1 != 0) {
			t.Errorf("%x: Multicast is %v", b, m.Multicast())
		}
		tab := mactab.New(mactab.Config{})
		tab.Learn(mactab.Key(m, vlan), 5, 0)
		if e := tab.Entries(0); len(e) != 1 || e[0].MAC != m || e[0].VLAN != vlan || e[0].Port != 5 {
			t.Errorf("%x in VLAN %d is listed as %+v", b, vlan, e)
		}
	})
}

// model is the table as a map: what every operation must do.
type model struct {
	cfg mactab.Config
	m   map[uint64]entry
}

type entry struct {
	port   mactab.Port
	static bool
	heard  uint32
}

func (m *model) count(p mactab.Port) (n int) {
	for _, e := range m.m {
		if e.port == p && !e.static {
			n++
		}
	}
	return n
}

func (m *model) learn(k uint64, p mactab.Port, now uint32) bool {
	old, known := m.m[k]
	switch {
	case old.static:
		return old.port == p
	case known && old.port == p:
	case m.count(p) >= m.cfg.PerPort, !known && len(m.m) >= m.cfg.Size:
		return false
	}
	m.m[k] = entry{p, false, now}
	return true
}

func (m *model) static(k uint64, p mactab.Port) bool {
	if _, known := m.m[k]; !known && len(m.m) >= m.cfg.Size {
		return false
	}
	m.m[k] = entry{port: p, static: true}
	return true
}

func (m *model) aged(e entry, now uint32) bool { return !e.static && now-e.heard > m.cfg.Age }

func (m *model) removeIf(del func(entry) bool) int {
	before := len(m.m)
	maps.DeleteFunc(m.m, func(_ uint64, e entry) bool { return del(e) })
	return before - len(m.m)
}

// TestModel runs random operations on a table and on its model. Sizes are
// small, so that stations are many for table, ports and slots.
func TestModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		cfg := mactab.Config{
			Size:    rapid.IntRange(1, 200).Draw(t, "size"),
			PerPort: rapid.IntRange(1, 60).Draw(t, "per port"),
			Age:     rapid.Uint32Range(1, 20).Draw(t, "age"),
		}
		tab, m := mactab.New(cfg), &model{cfg, map[uint64]entry{}}
		now := rapid.SampledFrom([]uint32{0, 1<<31 - 5, 1<<32 - 30}).Draw(t, "start")
		station := rapid.Custom(func(t *rapid.T) uint64 {
			return mactab.Key(mactab.MAC(rapid.IntRange(1, 300).Draw(t, "mac")*2), uint16(rapid.IntRange(0, 1).Draw(t, "vlan")))
		})
		port := rapid.Custom(func(t *rapid.T) mactab.Port {
			return mactab.Port(rapid.IntRange(0, 5).Draw(t, "port") << 12)
		})
		same := func(what string, got, want any) {
			t.Helper()
			if got != want {
				t.Fatalf("%s: %v, want %v", what, got, want)
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"": func(t *rapid.T) { compare(t, tab, m, now) },
			"learn": func(t *rapid.T) {
				k, p := station.Draw(t, "station"), port.Draw(t, "port")
				same("learn", tab.Learn(k, p, now), m.learn(k, p, now))
			},
			"learn many": func(t *rapid.T) {
				p := port.Draw(t, "port")
				for i, from := 0, rapid.IntRange(1, 300).Draw(t, "from"); i < 100; i++ {
					k := mactab.Key(mactab.MAC((from+i)*2), 0)
					same("learn", tab.Learn(k, p, now), m.learn(k, p, now))
				}
			},
			"static": func(t *rapid.T) {
				k, p := station.Draw(t, "station"), port.Draw(t, "port")
				same("set static", tab.SetStatic(k, p), m.static(k, p))
			},
			"remove": func(t *rapid.T) {
				k := station.Draw(t, "station")
				_, known := m.m[k]
				delete(m.m, k)
				same("remove", tab.Remove(k), known)
			},
			"wait": func(t *rapid.T) { now += rapid.Uint32Range(1, 10).Draw(t, "seconds") },
			"expire": func(t *rapid.T) {
				same("expire", tab.Expire(now), m.removeIf(func(e entry) bool { return m.aged(e, now) }))
			},
			"flush": func(t *rapid.T) {
				same("flush", tab.Flush(), m.removeIf(func(e entry) bool { return !e.static }))
			},
			"flush port": func(t *rapid.T) {
				p, all := port.Draw(t, "port"), rapid.Bool().Draw(t, "all")
				same("flush port", tab.FlushPort(p, all), m.removeIf(func(e entry) bool { return e.port == p && (all || !e.static) }))
			},
		})
	})
}

func compare(t *rapid.T, tab *mactab.Table, m *model, now uint32) {
	t.Helper()
	if n := tab.Stats().Live; n != len(m.m) {
		t.Fatalf("table counts %d stations, want %d", n, len(m.m))
	}
	seen := 0
	for i := range 300 {
		for vlan := range uint16(2) {
			k := mactab.Key(mactab.MAC((i+1)*2), vlan)
			p, ok := tab.Lookup(k, now)
			e, known := m.m[k]
			if known = known && !m.aged(e, now); known {
				seen++
			}
			if ok != known || ok && p != e.port {
				t.Fatalf("look up %#x: port %d, %v; want %d, %v", k, p, ok, e.port, known)
			}
		}
	}
	list := tab.Entries(now)
	for _, l := range list {
		e := m.m[mactab.Key(l.MAC, l.VLAN)]
		if l.Port != e.port || l.Static != e.static || !l.Static && l.Age != now-e.heard {
			t.Fatalf("listed as %+v, want %+v at %d", l, e, now)
		}
	}
	// Stations beyond those looked up come from "learn many".
	if len(list) < seen {
		t.Fatalf("%d stations are listed, want %d at least", len(list), seen)
	}
}

// TestFull fills a table of the default size and finds everybody again, and
// nobody else, also through the tombstones of a thousand turnovers.
func TestFull(t *testing.T) {
	const size = 16384
	tab := mactab.New(mactab.Config{PerPort: size})
	key := func(i int) uint64 { return mactab.Key(mactab.MAC(i)<<1|0x020000000000, 0) }
	for i := range size {
		if !tab.Learn(key(i), mactab.Port(i), 0) {
			t.Fatalf("station %d of %d was not learned", i, size)
		}
	}
	if tab.Learn(key(size), 1, 0) || tab.SetStatic(key(size), 1) {
		t.Error("a station was added to a full table")
	}
	// Known stations still move and are refreshed.
	if !tab.Learn(key(0), 1, 9) || tab.Stats().Moves != 1 {
		t.Error("a known station did not move in a full table")
	}
	tab.Learn(key(0), 0, 9)
	for turn := range 1000 {
		if !tab.Remove(key(turn)) || !tab.Learn(key(size+turn), mactab.Port(size+turn), 0) {
			t.Fatalf("turnover %d failed", turn)
		}
	}
	for i := range 2 * size {
		p, ok := tab.Lookup(key(i), 0)
		if want := i >= 1000 && i < size+1000; ok != want || ok && p != mactab.Port(i) {
			t.Fatalf("station %d: port %d, %v; want it known: %v", i, p, ok, want)
		}
	}
	if s := tab.Stats(); s.Live != size || s.Refused != 1 {
		t.Errorf("stats %+v, want %d live and 1 refused", s, size)
	}
}

// TestConcurrent has readers look stations up while writers turn the table
// over: a station that stays is always found, none is ever found on a port
// where it was not.
func TestConcurrent(t *testing.T) {
	tab := mactab.New(mactab.Config{Size: 600})
	const stay, come, rounds = 50, 500, 40
	key := func(i int) uint64 { return mactab.Key(mactab.MAC(i*2+2), 0) }
	port := func(i, round int) mactab.Port { return mactab.Port(i*2 + round%2) }
	for i := range stay {
		tab.Learn(key(i), port(i, 0), 0)
	}
	var writers, readers sync.WaitGroup
	done := make(chan struct{})
	for range 2 {
		readers.Go(func() {
			for {
				for i := range stay + come {
					p, ok := tab.Lookup(key(i), 0)
					if !ok && i < stay || ok && int(p)/2 != i {
						t.Errorf("station %d: port %d, %v", i, p, ok)
						return
					}
				}
				select {
				case <-done:
					return
				default:
				}
			}
		})
	}
	for w := range 2 {
		writers.Go(func() {
			for r := range rounds {
				for i := w; i < stay; i += 2 {
					tab.Learn(key(i), port(i, r), 0)
				}
				for i := stay + w; i < stay+come; i += 2 {
					tab.Learn(key(i), port(i, r), 0)
				}
				for i := stay + w; i < stay+come; i += 2 {
					switch (i + r) % 3 {
					case 0:
						tab.Remove(key(i))
					case 1:
						tab.FlushPort(port(i, r), false)
					}
				}
				if r%8 == 0 {
					tab.Entries(0)
				}
			}
		})
	}
	writers.Wait()
	close(done)
	readers.Wait()
	if n := tab.Stats().Live; n < stay || n != len(tab.Entries(0)) {
		t.Errorf("%d stations are counted, %d listed", n, len(tab.Entries(0)))
	}
}

func TestLearnAllocatesNothing(t *testing.T) {
	tab := mactab.New(mactab.Config{})
	now := uint32(0)
	if n := testing.AllocsPerRun(100, func() {
		now++
		for i := range 10 {
			tab.Learn(mactab.Key(mactab.MAC(i*2), 0), mactab.Port(i), now)
			tab.Lookup(mactab.Key(mactab.MAC(i*2), 0), now)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func ExampleTable() {
	tab := mactab.New(mactab.Config{})
	station := mactab.Key(mactab.FromBytes([]byte{2, 0, 0, 0, 0, 1}), 0)
	tab.Learn(station, 7, 0)
	fmt.Println(tab.Lookup(station, 300))
	fmt.Println(tab.Lookup(station, 301))
	// Output:
	// 7 true
	// 0 false
}
