package registry

import (
	"testing"
	"time"

	"github.com/vale-vmnet/vale-vmnet/plugin/api"
	"github.com/vale-vmnet/vale-vmnet/vale"
)

func TestRates(t *testing.T) {
	begin := time.Unix(1000, 0)
	at := func(s float64) time.Time { return begin.Add(time.Duration(s * float64(time.Second))) }
	var h history
	if got := h.rates(); got != (api.Rates{}) {
		t.Errorf("without a reading: %+v", got)
	}
	h.add(at(0), vale.Counters{})
	if got := h.rates(); got != (api.Rates{}) {
		t.Errorf("with one reading: %+v", got)
	}
	// 100 frames of 64 bytes in half a second, one of them dropped.
	c := vale.Counters{InFrames: 100, InBytes: 6400, OutFrames: 50, OutBytes: 3200}
	c.InDrops[vale.DropRingFull] = 1
	h.add(at(0.5), c)
	want := api.Rate{InFrames: 200, InBits: 102400, OutFrames: 100, OutBits: 51200, Drops: 2}
	if got := h.rates(); got.Last1s != want || got.Last10s != want {
		t.Errorf("with two readings: %+v, want %+v", got, want)
	}
	// 20 seconds of 10 frames a second, then one of 30.
	for i := range 20 {
		c.InFrames += 10
		h.add(at(1.5+float64(i)), c)
	}
	c.InFrames += 30
	h.add(at(21.5), c)
	got := h.rates()
	if got.Last1s.InFrames != 30 || got.Last10s.InFrames != 12 || got.Last10s.Drops != 0 {
		t.Errorf("at last: %+v, want 30 now and (9*10+30)/10 over ten seconds", got)
	}
	// A clock that stands still gives no rate, rather than an infinite one.
	h.add(at(21.5), c)
	if got := h.rates().Last1s; got != (api.Rate{}) {
		t.Errorf("over no time: %+v", got)
	}
}
