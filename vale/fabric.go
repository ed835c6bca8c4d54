package vale

import (
	"cmp"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vale-vmnet/vale-vmnet/vale/mactab"
)

// Config sizes a Fabric. Zero fields take the defaults.
type Config struct {
	MaxSwitches int           // 256
	MaxPorts    int           // ports a switch, 1024
	MACs        int           // MAC table entries a switch, 16384
	MACsPerPort int           // learned MACs a port, 1024
	MACAge      time.Duration // 300 s
}

func (c Config) withDefaults() Config {
	c.MaxSwitches = cmp.Or(c.MaxSwitches, 256)
	c.MaxPorts = cmp.Or(c.MaxPorts, 1024)
	c.MACs = cmp.Or(c.MACs, 16384)
	c.MACsPerPort = cmp.Or(c.MACsPerPort, 1024)
	c.MACAge = cmp.Or(c.MACAge, 300*time.Second)
	return c
}

// Fabric is the set of switches of one host. Switches appear with their first
// port and go with their last.
type Fabric struct {
	cfg  Config
	now  atomic.Uint32 // seconds since start, for the MAC tables
	done chan struct{}

	mu       sync.Mutex // taken before any Switch.mu
	switches map[string]*Switch
}

// New makes a fabric without switches. Close it to stop its clock.
func New(cfg Config) *Fabric {
	f := &Fabric{cfg: cfg.withDefaults(), done: make(chan struct{}), switches: make(map[string]*Switch)}
	go f.tick()
	return f
}

// tick keeps the coarse clock of the MAC tables and sweeps aged entries.
func (f *Fabric) tick() {
	t := time.NewTicker(time.Second)
	defer t.Stop()
	start := time.Now()
	for {
		select {
		case <-f.done:
			return
		case now := <-t.C:
			s := uint32(now.Sub(start) / time.Second)
			f.now.Store(s)
			if s%16 == 0 {
				for _, sw := range f.Switches() {
					sw.macs.Expire(s)
				}
			}
		}
	}
}

// Close stops the fabric's clock. Ports and links are their owners' business.
func (f *Fabric) Close() { close(f.done) }

// Open gives the port with this name and says whether it is new: port and
// switch are made when they do not exist.
func (f *Fabric) Open(name Name) (p *Port, created bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	sw := f.switches[name.Switch]
	if sw == nil || sw.dead() {
		f.sweepLocked()
		if len(f.switches) >= f.cfg.MaxSwitches {
			return nil, false, fmt.Errorf("create switch %s: there are %d already; raise max_switches in the configuration", name.Switch, f.cfg.MaxSwitches)
		}
		sw = &Switch{
			name:   name.Switch,
			fabric: f,
			macs:   mactab.New(mactab.Config{Size: f.cfg.MACs, PerPort: f.cfg.MACsPerPort, Age: uint32(f.cfg.MACAge / time.Second)}),
			ports:  make(map[string]*Port),
		}
		sw.view.Store(&view{})
		f.switches[name.Switch] = sw
	}
	sw.mu.Lock()
	defer sw.mu.Unlock()
	if p := sw.ports[name.Port]; p != nil {
		return p, false, nil
	}
	p, err = sw.add(name)
	if err == nil {
		sw.gone = false
	}
	return p, err == nil, err
}

// Port gives the port with this name, nil when there is none.
func (f *Fabric) Port(name Name) *Port {
	sw := f.Switch(name.Switch)
	if sw == nil {
		return nil
	}
	sw.mu.Lock()
	defer sw.mu.Unlock()
	return sw.ports[name.Port]
}

// Delete removes a port. Its link, if any, is unplugged and returned, for the
// caller to close.
func (f *Fabric) Delete(p *Port) Link {
	p.sw.mu.Lock()
	defer p.sw.mu.Unlock()
	l := p.link
	if l != nil {
		p.unplug()
	}
	if !p.gone {
		p.sw.remove(p)
	}
	return l
}

// Switch gives the switch with this canonical name, nil when there is none.
func (f *Fabric) Switch(name string) *Switch {
	f.mu.Lock()
	defer f.mu.Unlock()
	if sw := f.switches[name]; sw != nil && !sw.dead() {
		return sw
	}
	return nil
}

// Switches lists the switches by name.
func (f *Fabric) Switches() []*Switch {
	f.mu.Lock()
	defer f.mu.Unlock()
	all := make([]*Switch, 0, len(f.switches))
	for _, sw := range f.switches {
		if !sw.dead() {
			all = append(all, sw)
		}
	}
	slices.SortFunc(all, func(a, b *Switch) int { return cmp.Compare(a.name, b.name) })
	return all
}

// sweep drops the switches whose last port is gone.
func (f *Fabric) sweep() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sweepLocked()
}

func (f *Fabric) sweepLocked() {
	for name, sw := range f.switches {
		if sw.dead() {
			delete(f.switches, name)
		}
	}
}

func (s *Switch) dead() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.gone
}
