package registry

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"slices"

	"github.com/vale-vmnet/vale-vmnet/plugin/api"
	"github.com/vale-vmnet/vale-vmnet/plugin/process"
	"github.com/vale-vmnet/vale-vmnet/vale"
)

// state is what the next agent has to know: a QEMU that runs on tries to
// connect to its socket again, so the socket must be there again. Ports of the
// configuration are not in it; the configuration speaks for them.
type state struct {
	Version int         `json:"version"` // stateVersion
	Ports   []statePort `json:"ports"`
	VMs     []api.VM    `json:"vms"`
}

const stateVersion = 1

type statePort struct {
	Name       string   `json:"name"`
	Persistent bool     `json:"persistent"`
	Up         bool     `json:"up"`
	MTU        int      `json:"mtu"`
	Mode       string   `json:"mode"`
	Socket     string   `json:"socket,omitempty"`
	Static     []string `json:"static,omitempty"`
}

// save writes the state file; the caller holds r.change. A failure is logged:
// the agent's work goes on, only a restart would forget.
func (r *Registry) save() {
	if r.isClosed() {
		return // the file has what the next agent needs
	}
	s := state{Version: stateVersion, Ports: []statePort{}, VMs: r.VMs().VMs}
	r.mu.Lock()
	for name, p := range r.ports {
		if p.origin == api.OriginConfig {
			continue
		}
		sp := statePort{Name: name.String(), Persistent: p.persistent, Mode: p.mode, Socket: p.socket}
		for _, mac := range p.static {
			sp.Static = append(sp.Static, mac.String())
		}
		st := p.core.Status()
		sp.Up, sp.MTU = st.Up, st.MTU
		s.Ports = append(s.Ports, sp)
	}
	r.mu.Unlock()
	if err := writeFile(r.cfg.Dir.State(), s); err != nil {
		r.cfg.Log.Warn("writing the state file failed; a restarted agent will not know ports that were asked for", "error", err)
	}
}

// writeFile replaces a file as a whole.
func writeFile(path string, v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if err := os.WriteFile(path+".new", text, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// Restore comes back to the ports and VMs of the agent before this one. Call
// it once, after the configuration's ports. What cannot be restored is logged.
func (r *Registry) Restore() {
	s, err := readState(r.cfg.Dir.State())
	if err != nil {
		r.cfg.Log.Warn("reading the state file failed; ports that were asked for are forgotten", "error", err)
		return
	}
	r.change.Lock()
	defer r.change.Unlock()
	living := make(map[string]*process.Handle)
	ended := make(map[string]bool) // ports of VMs that ended meanwhile
	for _, v := range s.VMs {
		h, err := process.Open(v.PID, v.StartTime)
		if err != nil {
			r.cfg.Log.Info("VM ended while no agent ran", "vm", v.Name, "pid", v.PID)
			for _, nic := range v.NICs {
				ended[nic.Port] = true
			}
			continue
		}
		living[v.Name] = h
	}
	for _, sp := range s.Ports {
		if ended[sp.Name] && !sp.Persistent {
			continue
		}
		if err := r.restorePort(sp); err != nil {
			r.cfg.Log.Warn("restoring a port failed", "port", sp.Name, "error", err)
		}
	}
	for _, v := range s.VMs {
		if h := living[v.Name]; h != nil {
			r.restoreVM(v, h)
		}
	}
	r.save()
}

func readState(path string) (state, error) {
	var s state
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err != nil {
		return s, err
	}
	if err := json.Unmarshal(text, &s); err != nil {
		return s, fmt.Errorf("%s: %w", path, err)
	}
	if s.Version != stateVersion {
		return state{}, fmt.Errorf("%s has version %d, this agent knows %d", path, s.Version, stateVersion)
	}
	return s, nil
}

func (r *Registry) restorePort(sp statePort) error {
	name, err := vale.ParseName(sp.Name)
	if err != nil {
		return err
	}
	if _, err := r.find(name); err == nil {
		return nil // declared in the configuration by now
	}
	d := Declaration{Name: name, Persistent: sp.Persistent, Up: sp.Up, MTU: sp.MTU, Mode: sp.Mode, Socket: sp.Socket, Origin: api.OriginAPI}
	for _, text := range sp.Static {
		mac, err := net.ParseMAC(text)
		if err != nil {
			return err
		}
		d.Static = append(d.Static, mac)
	}
	if err := r.checkStatic(d); err != nil {
		return err
	}
	_, err = r.open(d)
	return err
}

// restoreVM registers a VM that runs on, with those of its ports that are
// there.
func (r *Registry) restoreVM(info api.VM, h *process.Handle) {
	var (
		nics  []api.NIC
		ports []*port
	)
	for _, nic := range info.NICs {
		name, err := vale.ParseName(nic.Port)
		if err != nil {
			continue
		}
		if p, err := r.find(name); err == nil && !slices.Contains(ports, p) {
			nics, ports = append(nics, nic), append(ports, p)
		}
	}
	info.NICs = append([]api.NIC{}, nics...)
	r.register(info.Name, info, ports, h, nil)
}
