package vale

import (
	"cmp"
	"fmt"
	"net"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/vale-vmnet/vale-vmnet/vale/mactab"
)

// Switch is one learning Ethernet bridge.
type Switch struct {
	name   string
	fabric *Fabric
	macs   *mactab.Table

	// view is what forwarding needs of the switch, replaced as a whole.
	view atomic.Pointer[view]

	mu    sync.Mutex // guards what follows and the mutable part of the ports
	ports map[string]*Port
	slots []*Port  // by index; nil: free
	gens  []uint16 // by index: generation of the present or last port
	next  int      // where the search for a free index starts
	gone  bool     // the last port is gone and the fabric has dropped the switch
}

// view is an immutable picture of a switch for the forwarding path.
type view struct {
	ports []*Port // by index; nil: free
	flood []*Port // the ports that take frames
	takes []bool  // by index: the port is in flood
}

// Name gives the canonical name, "vale-1".
func (s *Switch) Name() string { return s.name }

// Ports lists the switch's ports by name.
func (s *Switch) Ports() []*Port {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]*Port, 0, len(s.ports))
	for _, p := range s.ports {
		all = append(all, p)
	}
	slices.SortFunc(all, func(a, b *Port) int { return cmp.Compare(a.name.Port, b.name.Port) })
	return all
}

// publish makes the forwarding picture anew. The caller holds s.mu.
func (s *Switch) publish() {
	v := &view{ports: slices.Clone(s.slots), takes: make([]bool, len(s.slots))}
	for i, p := range s.slots {
		if p != nil && p.fwd.Load().ready {
			v.flood = append(v.flood, p)
			v.takes[i] = true
		}
	}
	s.view.Store(v)
}

// maxIndex keeps port indices apart from the marks of forwarding.
const maxIndex = 65000

// add makes a port. The caller holds s.mu.
func (s *Switch) add(name Name) (*Port, error) {
	limit := min(s.fabric.cfg.MaxPorts, maxIndex)
	if len(s.ports) >= limit {
		return nil, fmt.Errorf("create port %s: switch %s has %d ports already; raise max_ports in the configuration", name, s.name, limit)
	}
	// Indices are handed out round robin, so that a late learner of a
	// deleted port meets an unused index rather than a new tenant.
	i := -1
	for k := range len(s.slots) {
		if j := (s.next + k) % len(s.slots); s.slots[j] == nil {
			i = j
			break
		}
	}
	if i < 0 {
		i = len(s.slots)
		s.slots = append(s.slots, nil)
		s.gens = append(s.gens, 0)
	}
	s.next = i + 1
	s.gens[i] = (s.gens[i] + 1) & 0x7fff
	p := &Port{name: name, sw: s, id: mactab.Port(s.gens[i])<<16 | mactab.Port(i)}
	s.slots[i] = p
	s.ports[name.Port] = p
	p.publish()
	return p, nil
}

// remove deletes a port. The caller holds s.mu.
func (s *Switch) remove(p *Port) {
	p.gone = true
	delete(s.ports, p.name.Port)
	s.slots[uint16(p.id)] = nil
	p.publish()
	s.publish()
	s.macs.FlushPort(p.id, true)
	if len(s.ports) == 0 {
		s.gone = true
		// The fabric's lock comes before the switch's.
		go s.fabric.sweep()
	}
}

// FDBEntry is one entry of a switch's forwarding database.
type FDBEntry struct {
	MAC    net.HardwareAddr
	Port   string // canonical port name
	Static bool
	Age    uint32 // seconds since last heard; 0 for static entries
}

// FDB lists the stations that the switch knows, by port and address.
func (s *Switch) FDB() []FDBEntry {
	v := s.view.Load()
	var out []FDBEntry
	for _, e := range s.macs.Entries(s.fabric.now.Load()) {
		p := v.port(e.Port)
		if p == nil {
			continue
		}
		mac := e.MAC.Bytes()
		out = append(out, FDBEntry{MAC: mac[:], Port: p.name.String(), Static: e.Static, Age: e.Age})
	}
	slices.SortFunc(out, func(a, b FDBEntry) int {
		return cmp.Or(cmp.Compare(a.Port, b.Port), slices.Compare(a.MAC, b.MAC))
	})
	return out
}

// FlushFDB forgets the learned stations and returns how many there were.
func (s *Switch) FlushFDB() int { return s.macs.Flush() }

// FDBStats counts learning on this switch.
func (s *Switch) FDBStats() mactab.Stats { return s.macs.Stats() }

// port gives the port with this id, nil when it is gone.
func (v *view) port(id mactab.Port) *Port {
	if i := int(uint16(id)); i < len(v.ports) {
		if p := v.ports[i]; p != nil && p.id == id {
			return p
		}
	}
	return nil
}
