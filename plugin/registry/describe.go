package registry

import (
	"cmp"
	"slices"
	"time"

	"github.com/vale-vmnet/vale-vmnet/plugin/api"
	"github.com/vale-vmnet/vale-vmnet/vale"
)

// maxMACs is how many addresses a port's description lists. A port to the rest
// of the network has thousands; the FDB has them all.
const maxMACs = 8

// Counts tells how many switches, ports and VMs there are.
func (r *Registry) Counts() (switches, ports, vms int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.cfg.Fabric.Switches()), len(r.ports), len(r.vms)
}

// Switches describes every switch.
func (r *Registry) Switches() api.SwitchList {
	list := api.SwitchList{Switches: []api.Switch{}}
	for _, sw := range r.cfg.Fabric.Switches() {
		list.Switches = append(list.Switches, r.describeSwitch(sw))
	}
	return list
}

// Switch describes one switch.
func (r *Registry) Switch(s string) (api.Switch, error) {
	sw, err := r.coreSwitch(s)
	if err != nil {
		return api.Switch{}, err
	}
	return r.describeSwitch(sw), nil
}

func (r *Registry) describeSwitch(sw *vale.Switch) api.Switch {
	stats := sw.FDBStats()
	out := api.Switch{
		Name:  sw.Name(),
		Ports: []api.Port{},
		FDB:   api.FDBStats{Entries: stats.Live, Moves: stats.Moves, Refused: stats.Refused},
	}
	var ports []*port
	r.mu.Lock()
	for name, p := range r.ports {
		if name.Switch == sw.Name() {
			ports = append(ports, p)
		}
	}
	r.mu.Unlock()
	slices.SortFunc(ports, func(a, b *port) int { return cmp.Compare(a.core.Name().Port, b.core.Name().Port) })
	stations := r.stations(sw.Name())
	for _, p := range ports {
		out.Ports = append(out.Ports, r.describe(p, stations))
	}
	return out
}

// describe tells all about a port. stations are the learned addresses of its
// switch by port.
func (r *Registry) describe(p *port, stations map[string][]string) api.Port {
	st := p.core.Status()
	name := st.Name.String()
	out := api.Port{
		Name:     name,
		Switch:   st.Name.Switch,
		Origin:   p.origin,
		Up:       st.Up,
		MTU:      st.MTU,
		MACs:     []string{},
		Sockets:  api.Sockets{VhostUser: p.socket, Mode: p.mode, Stream: r.cfg.Dir.Stream(name)},
		Link:     describeLink(st, p.opened),
		Counters: describeCounters(st.Counters),
	}
	if p.mode == api.ModeServer {
		out.Sockets.VhostUser = r.cfg.Dir.VhostUser(name)
	}
	var known []string
	r.mu.Lock()
	out.Persistent = p.persistent
	out.Rates = p.history.rates()
	if p.vm != nil {
		out.VM = p.vm.info.Name
		if nic, ok := p.vm.nic(st.Name); ok && nic.MAC != "" {
			known = append(known, nic.MAC)
		}
	}
	for _, mac := range p.static {
		known = append(known, mac.String())
	}
	r.mu.Unlock()
	seen := make(map[string]bool)
	for _, mac := range append(known, stations[name]...) {
		if seen[mac] {
			continue
		}
		seen[mac] = true
		if out.MACCount++; len(out.MACs) < maxMACs {
			out.MACs = append(out.MACs, mac)
		}
	}
	return out
}

func describeLink(st vale.PortStatus, opened time.Time) api.Link {
	l := api.Link{State: api.StateDown, Since: st.Since.UTC()}
	if st.Since.IsZero() {
		l.Since = opened.UTC()
	}
	if i := st.Link; i != nil {
		l.Kind, l.Peer, l.PID, l.Queues, l.Features, l.Details = i.Kind, i.Peer, i.PID, i.Queues, i.Features, i.Details
	}
	switch {
	case !st.Up:
		l.State = api.StateDisabled
	case st.Ready:
		l.State = api.StateUp
	case st.Link != nil:
		l.State = api.StateWaiting
	}
	return l
}

func describeCounters(c vale.Counters) api.Counters {
	return api.Counters{
		In: api.InCounters{
			Frames: c.InFrames, Bytes: c.InBytes, Multicast: c.InMulticast, Copies: c.InCopies, Delivered: c.InDelivered,
			Dropped: vale.Sum(c.InDrops), Drops: byReason(c.InDrops),
		},
		Out: api.OutCounters{Frames: c.OutFrames, Bytes: c.OutBytes, Dropped: vale.Sum(c.OutDrops), Drops: byReason(c.OutDrops)},
	}
}

func byReason(drops [vale.NumReasons]uint64) map[string]uint64 {
	m := make(map[string]uint64)
	for i, n := range drops {
		if n != 0 {
			m[vale.Reason(i).String()] = n
		}
	}
	return m
}
