package registry

import (
	"time"

	"github.com/vale-vmnet/vale-vmnet/plugin/api"
	"github.com/vale-vmnet/vale-vmnet/vale"
)

// window is how far back rates look.
const window = 10

// history is a port's counters of the last seconds, one reading a second, so
// that rates cost a request nothing and do not depend on who else asks.
type history struct {
	readings [window + 1]reading
	n        int // readings taken so far
}

type reading struct {
	at                                            time.Time
	inFrames, inBytes, outFrames, outBytes, drops uint64
}

func (h *history) add(at time.Time, c vale.Counters) {
	h.readings[h.n%len(h.readings)] = reading{
		at: at, inFrames: c.InFrames, inBytes: c.InBytes, outFrames: c.OutFrames, outBytes: c.OutBytes,
		drops: vale.Sum(c.InDrops) + vale.Sum(c.OutDrops),
	}
	h.n++
}

func (h *history) rates() api.Rates {
	return api.Rates{Last1s: h.over(1), Last10s: h.over(window)}
}

// over averages over the last readings, or as many as there are.
func (h *history) over(intervals int) api.Rate {
	intervals = min(intervals, h.n-1, window)
	if intervals < 1 {
		return api.Rate{}
	}
	now := h.readings[(h.n-1)%len(h.readings)]
	then := h.readings[(h.n-1-intervals)%len(h.readings)]
	seconds := now.at.Sub(then.at).Seconds()
	if seconds <= 0 {
		return api.Rate{}
	}
	per := func(a, b uint64, unit float64) float64 { return float64(b-a) * unit / seconds }
	return api.Rate{
		InFrames:  per(then.inFrames, now.inFrames, 1),
		InBits:    per(then.inBytes, now.inBytes, 8),
		OutFrames: per(then.outFrames, now.outFrames, 1),
		OutBits:   per(then.outBytes, now.outBytes, 8),
		Drops:     per(then.drops, now.drops, 1),
	}
}

// sample reads every port's counters once a second and removes orphans.
func (r *Registry) sample() {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-r.done:
			return
		case now := <-tick.C:
			r.sampleAt(now)
		}
	}
}

func (r *Registry) sampleAt(now time.Time) {
	r.mu.Lock()
	all := make([]*port, 0, len(r.ports))
	for _, p := range r.ports {
		all = append(all, p)
	}
	r.mu.Unlock()
	orphans := false
	for _, p := range all {
		st := p.core.Status()
		r.mu.Lock()
		p.history.add(now, st.Counters)
		switch {
		case p.vm != nil || st.Link != nil:
			p.idle = time.Time{}
		case p.idle.IsZero():
			p.idle = now
		}
		orphans = orphans || r.orphan(p, now)
		r.mu.Unlock()
	}
	if orphans {
		r.wg.Go(func() { r.reap(now) })
	}
}

// orphan says whether nobody is left to use or remove the port. The caller
// holds r.mu.
func (r *Registry) orphan(p *port, now time.Time) bool {
	return !p.persistent && p.origin != api.OriginConfig && !p.idle.IsZero() && now.Sub(p.idle) >= r.cfg.OrphanAfter
}

func (r *Registry) reap(now time.Time) {
	r.change.Lock()
	defer r.change.Unlock()
	r.mu.Lock()
	var orphans []*port
	for _, p := range r.ports {
		if p.vm == nil && r.orphan(p, now) {
			orphans = append(orphans, p)
		}
	}
	r.mu.Unlock()
	for _, p := range orphans {
		if p.core.Status().Link == nil {
			_ = r.remove(p, "nobody used it") // logged there
		}
	}
	if len(orphans) > 0 {
		r.save()
	}
}
