package vale

import (
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"github.com/vale-vmnet/vale-vmnet/vale/frame"
	"github.com/vale-vmnet/vale-vmnet/vale/mactab"
)

var (
	// ErrBusy says that a port has a link already.
	ErrBusy = errors.New("port is in use")
	// ErrGone says that a port was deleted.
	ErrGone = errors.New("port was deleted")
)

// Port is a place on a switch. It has at most one link at a time.
type Port struct {
	name Name
	sw   *Switch
	id   mactab.Port // generation << 16 | index in the switch's table of ports

	counters portCounters

	// fwd is what forwarding needs of the port, replaced as a whole.
	fwd atomic.Pointer[portState]

	// The rest is guarded by sw.mu.
	link       Link
	state      LinkState
	since      time.Time // of the last change of link or readiness
	down       bool      // administratively
	mtu        int
	persistent bool
	gone       bool
}

// portState is an immutable picture of a port for the forwarding path.
type portState struct {
	link     Link
	offloads frame.Offloads
	maxLen   uint32 // longest plain frame, Ethernet header included
	index    uint16
	id       mactab.Port
	up       bool // the port may send
	ready    bool // up, and the link takes frames
}

// PortStatus describes a port to observers.
type PortStatus struct {
	Name       Name
	Up         bool      // administratively up
	MTU        int       // 0: no limit
	Persistent bool      // stays when its link goes
	Link       *LinkInfo // nil: nothing plugged in
	Ready      bool      // the link's peer takes frames
	Offloads   frame.Offloads
	Since      time.Time // of the last change of link or readiness
	Counters   Counters
}

// Name gives the port's canonical name.
func (p *Port) Name() Name { return p.name }

// Attach plugs a link into the port. The link starts not ready: it receives
// nothing until SetLinkState says so. It fails with ErrBusy when the port has
// a link, with ErrGone when the port was deleted.
func (p *Port) Attach(l Link) error {
	p.sw.mu.Lock()
	defer p.sw.mu.Unlock()
	switch {
	case p.gone:
		return fmt.Errorf("attach to %s: %w", p.name, ErrGone)
	case p.link != nil:
		info := p.link.Info()
		return fmt.Errorf("attach to %s: %w by a %s link (%s); unplug it first or choose another port", p.name, ErrBusy, info.Kind, info.Peer)
	}
	p.link = l
	p.state = LinkState{}
	p.since = time.Now()
	p.publish()
	return nil
}

// Detach unplugs the link l; it is not an error when another link, or none, is
// plugged in. Deliveries to l that other goroutines have begun may still be
// running when Detach returns. A port that is not persistent goes with it.
func (p *Port) Detach(l Link) {
	p.sw.mu.Lock()
	defer p.sw.mu.Unlock()
	if p.link != l {
		return
	}
	p.unplug()
	if !p.persistent && !p.gone {
		p.sw.remove(p)
	}
}

// unplug clears the link and forgets the stations behind it.
func (p *Port) unplug() {
	p.link = nil
	p.state = LinkState{}
	p.since = time.Now()
	p.publish()
	p.sw.macs.FlushPort(p.id, false)
}

// SetLinkState tells the port about the peer of its link l. Calls for a link
// that is not plugged in do nothing.
func (p *Port) SetLinkState(l Link, s LinkState) {
	p.sw.mu.Lock()
	defer p.sw.mu.Unlock()
	if p.link != l || p.state == s {
		return
	}
	lost := p.state.Ready && !s.Ready
	if p.state.Ready != s.Ready {
		p.since = time.Now()
	}
	p.state = s
	p.publish()
	if lost {
		p.sw.macs.FlushPort(p.id, false)
	}
}

// SetUp brings the port up or down. A port that is down neither sends nor
// receives; its link stays plugged in.
func (p *Port) SetUp(up bool) {
	p.sw.mu.Lock()
	defer p.sw.mu.Unlock()
	if p.down == !up {
		return
	}
	p.down = !up
	p.publish()
	if !up {
		p.sw.macs.FlushPort(p.id, false)
	}
}

// SetMTU limits the frames that the port sends and receives to an IP packet of
// mtu bytes; 0 lifts the limit. Segmentable frames count by their segments.
func (p *Port) SetMTU(mtu int) error {
	if mtu != 0 && (mtu < 68 || mtu > 65535) {
		return fmt.Errorf("set MTU of %s: %d is out of range; it may be 68 to 65535, or 0 for no limit", p.name, mtu)
	}
	p.sw.mu.Lock()
	defer p.sw.mu.Unlock()
	p.mtu = mtu
	p.publish()
	return nil
}

// MTU gives the port's limit, 0 for none.
func (p *Port) MTU() int {
	p.sw.mu.Lock()
	defer p.sw.mu.Unlock()
	return p.mtu
}

// SetPersistent says whether the port stays when its link goes.
func (p *Port) SetPersistent(persistent bool) {
	p.sw.mu.Lock()
	defer p.sw.mu.Unlock()
	p.persistent = persistent
}

// AddStatic pins a MAC address to the port, for good and whoever else claims it.
func (p *Port) AddStatic(mac net.HardwareAddr) error {
	if len(mac) != 6 {
		return fmt.Errorf("pin MAC to %s: %q is not a 48-bit address", p.name, mac)
	}
	if mac[0]&1 != 0 {
		return fmt.Errorf("pin MAC to %s: %s is a group address, which is always flooded; use a unicast one", p.name, mac)
	}
	p.sw.mu.Lock()
	defer p.sw.mu.Unlock()
	if p.gone {
		return fmt.Errorf("pin MAC %s to %s: %w", mac, p.name, ErrGone)
	}
	if !p.sw.macs.SetStatic(mactab.Key(mactab.FromBytes(mac), 0), p.id) {
		return fmt.Errorf("pin MAC %s to %s: the MAC table is full; raise its size in the configuration", mac, p.name)
	}
	return nil
}

// publish makes the forwarding picture of the port anew, and that of the
// switch when the set of receivers may have changed.
func (p *Port) publish() {
	st := &portState{
		link:     p.link,
		offloads: p.state.Offloads,
		maxLen:   frame.MaxLen,
		index:    uint16(p.id),
		id:       p.id,
		up:       !p.down && !p.gone,
	}
	st.ready = st.up && p.link != nil && p.state.Ready
	if p.mtu > 0 {
		st.maxLen = uint32(p.mtu + frame.HeaderLen)
	}
	old := p.fwd.Swap(st)
	if old == nil || old.ready != st.ready {
		p.sw.publish()
	}
}

// Counters reads the port's counters.
func (p *Port) Counters() Counters { return p.counters.read() }

// Status describes the port.
func (p *Port) Status() PortStatus {
	p.sw.mu.Lock()
	s := PortStatus{
		Name: p.name, Up: !p.down, MTU: p.mtu, Persistent: p.persistent,
		Ready: p.state.Ready, Offloads: p.state.Offloads, Since: p.since,
	}
	l := p.link
	p.sw.mu.Unlock()
	if l != nil {
		info := l.Info()
		s.Link = &info
	}
	s.Counters = p.counters.read()
	return s
}
