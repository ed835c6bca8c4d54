package registry

import (
	"net"
	"path/filepath"

	"github.com/vale-vmnet/vale-vmnet/plugin/api"
	"github.com/vale-vmnet/vale-vmnet/vale"
)

// ParseName reads a port name of a request.
func ParseName(s string) (vale.Name, error) {
	name, err := vale.ParseName(s)
	if err != nil {
		return name, refuse(api.CodeBadRequest, err)
	}
	return name, nil
}

// Port describes one port.
func (r *Registry) Port(s string) (api.Port, error) {
	name, err := ParseName(s)
	if err != nil {
		return api.Port{}, err
	}
	p, err := r.find(name)
	if err != nil {
		return api.Port{}, err
	}
	return r.describe(p, r.stations(name.Switch)), nil
}

func (r *Registry) find(name vale.Name) (*port, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if p := r.ports[name]; p != nil {
		return p, nil
	}
	return nil, refusef(api.CodeNotFound, "port %s does not exist; \"vale-vmnet port add %s\" makes it", name, name)
}

// PutPort makes a port, or changes the one that is there, and says which.
func (r *Registry) PutPort(s string, spec api.PortSpec) (p api.Port, created bool, err error) {
	name, err := ParseName(s)
	if err != nil {
		return api.Port{}, false, err
	}
	d := Declaration{Name: name, Up: true, MTU: r.cfg.MTU, Mode: api.ModeServer, Origin: api.OriginAPI}
	set(&d.Persistent, spec.Persistent)
	set(&d.Up, spec.Up)
	set(&d.MTU, spec.MTU)
	set(&d.Mode, spec.Mode)
	set(&d.Socket, spec.Socket)
	if err := checkMode(d, spec); err != nil {
		return api.Port{}, false, err
	}
	if spec.MAC != nil {
		mac, err := parseMAC(*spec.MAC)
		if err != nil {
			return api.Port{}, false, err
		}
		d.Static = []net.HardwareAddr{mac}
	}

	r.change.Lock()
	defer r.change.Unlock()
	if r.isClosed() {
		return api.Port{}, false, errClosing
	}
	have, err := r.find(name)
	if err != nil {
		created = true
		if err := r.checkStatic(d); err != nil {
			return api.Port{}, false, err
		}
		have, err = r.open(d)
	} else {
		err = r.alter(have, spec)
	}
	if err != nil {
		return api.Port{}, false, err
	}
	r.save()
	return r.describe(have, r.stations(name.Switch)), created, nil
}

var errClosing = refusef(api.CodeConflict, "the agent is shutting down")

func (r *Registry) isClosed() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.closed
}

func checkMode(d Declaration, spec api.PortSpec) error {
	switch {
	case d.Mode != api.ModeServer && d.Mode != api.ModeClient:
		return refusef(api.CodeBadRequest, "mode %q of port %s is unknown; write server or client", d.Mode, d.Name)
	case d.Mode == api.ModeClient && !filepath.IsAbs(d.Socket):
		return refusef(api.CodeBadRequest, "port %s with mode client needs socket, the absolute path of QEMU's socket", d.Name)
	case d.Mode == api.ModeServer && spec.Socket != nil && *spec.Socket != "":
		return refusef(api.CodeBadRequest, "socket of port %s is only for mode client; with mode server the agent chooses it", d.Name)
	}
	return nil
}

// checkStatic refuses an address that another port of the switch has pinned.
func (r *Registry) checkStatic(d Declaration) error {
	for _, mac := range d.Static {
		if owner := r.pinned(d.Name.Switch, mac); owner != nil {
			return refusef(api.CodeConflict, "MAC %s is pinned to %s; delete that entry first (vale-vmnet fdb del %s %s)", mac, owner.core.Name(), d.Name.Switch, mac)
		}
	}
	return nil
}

// pinned finds the port of a switch that has a static entry for mac.
func (r *Registry) pinned(sw string, mac net.HardwareAddr) *port {
	r.mu.Lock()
	defer r.mu.Unlock()
	for name, p := range r.ports {
		if name.Switch == sw && containsMAC(p.static, mac) {
			return p
		}
	}
	return nil
}

// PatchPort changes a port that is there.
func (r *Registry) PatchPort(s string, spec api.PortSpec) (api.Port, error) {
	name, err := ParseName(s)
	if err != nil {
		return api.Port{}, err
	}
	if spec.MAC != nil || spec.Mode != nil || spec.Socket != nil {
		return api.Port{}, refusef(api.CodeBadRequest, "mac, mode and socket of port %s are fixed; delete the port and make it anew, or pin the MAC with \"vale-vmnet fdb add\"", name)
	}
	r.change.Lock()
	defer r.change.Unlock()
	p, err := r.find(name)
	if err != nil {
		return api.Port{}, err
	}
	if err := r.alter(p, spec); err != nil {
		return api.Port{}, err
	}
	r.save()
	return r.describe(p, r.stations(name.Switch)), nil
}

// alter applies the given fields to a port. The caller holds r.change.
func (r *Registry) alter(p *port, spec api.PortSpec) error {
	name := p.core.Name()
	if spec.Mode != nil && *spec.Mode != p.mode || spec.Socket != nil && *spec.Socket != p.socket {
		return refusef(api.CodeConflict, "port %s exists with mode %s; delete it to make it anew", name, p.mode)
	}
	if spec.MAC != nil {
		mac, err := parseMAC(*spec.MAC)
		if err != nil {
			return err
		}
		if owner := r.pinned(name.Switch, mac); owner != p {
			return refusef(api.CodeConflict, "port %s exists and does not have MAC %s pinned; \"vale-vmnet fdb add\" pins it", name, mac)
		}
	}
	if spec.MTU != nil {
		if err := p.core.SetMTU(*spec.MTU); err != nil {
			return refuse(api.CodeBadRequest, err)
		}
	}
	if spec.Up != nil {
		p.core.SetUp(*spec.Up)
	}
	if spec.Persistent != nil {
		r.mu.Lock()
		p.persistent = *spec.Persistent
		r.mu.Unlock()
	}
	return nil
}

// DeletePort removes a port. One that a guest uses takes force.
func (r *Registry) DeletePort(s string, force bool) error {
	name, err := ParseName(s)
	if err != nil {
		return err
	}
	r.change.Lock()
	defer r.change.Unlock()
	p, err := r.find(name)
	if err != nil {
		return err
	}
	if p.origin == api.OriginConfig {
		return refusef(api.CodeConflict, "port %s is declared in the agent's configuration; remove it there and restart the agent, or bring it down (vale-vmnet port set %s --down)", name, name)
	}
	if user := r.user(p); user != "" && !force {
		return refusef(api.CodeConflict, "port %s is in use by %s; stop that first, or force it", name, user)
	}
	r.mu.Lock()
	p.vm = nil
	r.mu.Unlock()
	err = r.remove(p, "deleted")
	r.save()
	if err != nil {
		return refuse(api.CodeInternal, err)
	}
	return nil
}

// user names who is on a port, empty for nobody.
func (r *Registry) user(p *port) string {
	r.mu.Lock()
	v := p.vm
	r.mu.Unlock()
	if v != nil {
		return "VM " + v.info.Name
	}
	if st := p.core.Status(); st.Link != nil {
		return "a " + st.Link.Kind + " link (" + st.Link.Peer + ")"
	}
	return ""
}

func parseMAC(s string) (net.HardwareAddr, error) {
	mac, err := net.ParseMAC(s)
	if err != nil || len(mac) != 6 {
		return nil, refusef(api.CodeBadRequest, "MAC address %q is malformed; write it like 52:54:00:00:00:01", s)
	}
	if mac[0]&1 != 0 {
		return nil, refusef(api.CodeBadRequest, "MAC address %s is a group address; no single port has it", mac)
	}
	return mac, nil
}

func set[T any](dst *T, v *T) {
	if v != nil {
		*dst = *v
	}
}
