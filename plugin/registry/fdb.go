package registry

import (
	"bytes"
	"net"
	"slices"

	"github.com/vale-vmnet/vale-vmnet/plugin/api"
	"github.com/vale-vmnet/vale-vmnet/vale"
)

// coreSwitch finds a switch by either spelling of its name.
func (r *Registry) coreSwitch(s string) (*vale.Switch, error) {
	name, err := vale.ParseSwitchName(s)
	if err != nil {
		return nil, refuse(api.CodeBadRequest, err)
	}
	if sw := r.cfg.Fabric.Switch(name); sw != nil {
		return sw, nil
	}
	return nil, refusef(api.CodeNotFound, "switch %s does not exist; it comes with its first port", name)
}

// FDB lists the stations that a switch knows.
func (r *Registry) FDB(s string) (api.FDB, error) {
	sw, err := r.coreSwitch(s)
	if err != nil {
		return api.FDB{}, err
	}
	out := api.FDB{Entries: []api.FDBEntry{}}
	for _, e := range sw.FDB() {
		out.Entries = append(out.Entries, api.FDBEntry{MAC: e.MAC.String(), Port: e.Port, Static: e.Static, Age: int(e.Age)})
	}
	return out, nil
}

// FlushFDB forgets the learned stations of a switch.
func (r *Registry) FlushFDB(s string) (api.Flushed, error) {
	sw, err := r.coreSwitch(s)
	if err != nil {
		return api.Flushed{}, err
	}
	return api.Flushed{Entries: sw.FlushFDB()}, nil
}

// AddStatic pins an address to a port of a switch.
func (r *Registry) AddStatic(s, address, portName string) error {
	sw, err := vale.ParseSwitchName(s)
	if err != nil {
		return refuse(api.CodeBadRequest, err)
	}
	mac, err := parseMAC(address)
	if err != nil {
		return err
	}
	name, err := ParseName(portName)
	if err != nil {
		return err
	}
	if name.Switch != sw {
		return refusef(api.CodeBadRequest, "port %s is not on switch %s", name, sw)
	}
	r.change.Lock()
	defer r.change.Unlock()
	p, err := r.find(name)
	if err != nil {
		return err
	}
	owner := r.pinned(sw, mac)
	if owner == p {
		return nil
	}
	if err := p.core.AddStatic(mac); err != nil {
		return refuse(api.CodeConflict, err)
	}
	r.mu.Lock()
	if owner != nil {
		owner.unpin(mac)
	}
	p.static = append(p.static, mac)
	r.mu.Unlock()
	r.save()
	return nil
}

// RemoveFDB forgets one station, pinned or learned.
func (r *Registry) RemoveFDB(s, address string) error {
	mac, err := parseMAC(address)
	if err != nil {
		return err
	}
	r.change.Lock()
	defer r.change.Unlock()
	sw, err := r.coreSwitch(s)
	if err != nil {
		return err
	}
	if !sw.RemoveFDB(mac) {
		return refusef(api.CodeNotFound, "switch %s does not know %s", sw.Name(), mac)
	}
	if owner := r.pinned(sw.Name(), mac); owner != nil {
		r.mu.Lock()
		owner.unpin(mac)
		r.mu.Unlock()
		r.save()
	}
	return nil
}

// unpin forgets a static entry. The caller holds Registry.mu. Readers may hold
// the old list.
func (p *port) unpin(mac net.HardwareAddr) {
	p.static = slices.DeleteFunc(slices.Clone(p.static), func(m net.HardwareAddr) bool { return bytes.Equal(m, mac) })
}

// stations gives the learned addresses of a switch by port name.
func (r *Registry) stations(sw string) map[string][]string {
	s := r.cfg.Fabric.Switch(sw)
	if s == nil {
		return nil
	}
	byPort := make(map[string][]string)
	for _, e := range s.FDB() {
		byPort[e.Port] = append(byPort[e.Port], e.MAC.String())
	}
	return byPort
}
