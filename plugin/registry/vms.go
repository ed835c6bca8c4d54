package registry

import (
	"cmp"
	"errors"
	"slices"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/vale-vmnet/vale-vmnet/plugin/api"
	"github.com/vale-vmnet/vale-vmnet/plugin/process"
	"github.com/vale-vmnet/vale-vmnet/vale"
)

// vm is a registered VM. It does not change: a VM that registers again gets a
// new one.
type vm struct {
	info    api.VM
	ports   []*port // of the NICs, in order
	process *process.Handle
}

// VMs lists the registered VMs by name.
func (r *Registry) VMs() api.VMList {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := api.VMList{VMs: []api.VM{}}
	for _, v := range r.vms {
		list.VMs = append(list.VMs, v.info)
	}
	slices.SortFunc(list.VMs, func(a, b api.VM) int { return cmp.Compare(a.Name, b.Name) })
	return list
}

// VM describes one VM.
func (r *Registry) VM(name string) (api.VM, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if v := r.vms[name]; v != nil {
		return v.info, nil
	}
	return api.VM{}, refusef(api.CodeNotFound, "VM %q is not registered", name)
}

// maxNICs bounds what one request can ask for.
const maxNICs = 64

// PutVM registers a running VM. Ports that do not exist are made; none of them
// may belong to another VM that lives.
func (r *Registry) PutVM(name string, info api.VM) (out api.VM, created bool, err error) {
	if err := checkVM(name, &info); err != nil {
		return api.VM{}, false, err
	}
	r.change.Lock()
	defer r.change.Unlock()
	if r.isClosed() {
		return api.VM{}, false, errClosing
	}
	old, err := r.displaced(name, info.PID)
	if err != nil {
		return api.VM{}, false, err
	}
	ports, err := r.claim(name, &info)
	if err != nil {
		return api.VM{}, false, err
	}
	h, err := process.Open(info.PID, info.StartTime)
	if err != nil {
		code := api.CodeInternal
		if errors.Is(err, process.ErrGone) {
			code = api.CodeConflict
		}
		return api.VM{}, false, refuse(code, err)
	}
	v := r.register(name, info, ports, h, old)
	r.save()
	return v.info, old == nil, nil
}

// register puts a checked VM in place of the old one, if any. The caller holds
// r.change.
func (r *Registry) register(name string, info api.VM, ports []*port, h *process.Handle, old *vm) *vm {
	info.Name, info.StartTime = name, h.StartTime()
	info.Source = cmp.Or(info.Source, "api")
	if info.Since.IsZero() {
		info.Since = time.Now().UTC().Round(time.Millisecond)
	}
	v := &vm{info: info, ports: ports, process: h}
	r.mu.Lock()
	r.vms[name] = v
	for _, p := range ports {
		p.vm = v
	}
	r.mu.Unlock()
	if old != nil {
		old.process.Close()
		r.release(old, "its VM registered again without it")
	}
	r.wg.Go(func() { r.watch(v) })
	r.cfg.Log.Info("VM is registered", "vm", name, "pid", info.PID, "nics", len(info.NICs))
	return v
}

func checkVM(name string, info *api.VM) error {
	if name == "" || len(name) > 255 || !utf8.ValidString(name) {
		return refusef(api.CodeBadRequest, "VM name %q is malformed; it has 1 to 255 bytes of text", name)
	}
	for _, c := range name {
		if unicode.IsControl(c) {
			return refusef(api.CodeBadRequest, "VM name %q has a control character", name)
		}
	}
	switch {
	case info.Name != "" && info.Name != name:
		return refusef(api.CodeBadRequest, "VM is called %q in the path and %q in the body", name, info.Name)
	case info.PID <= 0:
		return refusef(api.CodeBadRequest, "VM %s needs pid, the process whose end is its end", name)
	case len(info.NICs) > maxNICs:
		return refusef(api.CodeBadRequest, "VM %s has %d NICs; at most %d are allowed", name, len(info.NICs), maxNICs)
	case len(info.UUID) > 64 || len(info.Source) > 64:
		return refusef(api.CodeBadRequest, "VM %s: uuid and source have at most 64 bytes", name)
	}
	return nil
}

// displaced finds the VM whose name is taken over: one that has ended, or the
// same process.
func (r *Registry) displaced(name string, pid int) (*vm, error) {
	r.mu.Lock()
	old := r.vms[name]
	r.mu.Unlock()
	if old != nil && old.info.PID != pid && old.process.Alive() {
		return nil, refusef(api.CodeConflict, "VM %s is registered and runs as process %d; choose another name (vale-vmnet qemu --name NAME)", name, old.info.PID)
	}
	return old, nil
}

// claim checks the NICs of a VM and finds their ports.
func (r *Registry) claim(name string, info *api.VM) ([]*port, error) {
	info.NICs = slices.Clone(info.NICs)
	if info.NICs == nil {
		info.NICs = []api.NIC{}
	}
	var ports []*port
	for i := range info.NICs {
		nic := &info.NICs[i]
		pn, err := ParseName(nic.Port)
		if err != nil {
			return nil, err
		}
		nic.Port = pn.String()
		if nic.MAC != "" {
			mac, err := parseMAC(nic.MAC)
			if err != nil {
				return nil, err
			}
			nic.MAC = mac.String()
		}
		if len(nic.Model) > 64 || len(nic.Link) > 64 {
			return nil, refusef(api.CodeBadRequest, "NIC on %s: model and link have at most 64 bytes", pn)
		}
		p, err := r.findOrOpen(pn)
		if err != nil {
			return nil, err
		}
		if slices.Contains(ports, p) {
			return nil, refusef(api.CodeBadRequest, "VM %s has two NICs on port %s; a port takes one", name, pn)
		}
		if err := r.free(p, name, info.PID); err != nil {
			return nil, err
		}
		ports = append(ports, p)
	}
	return ports, nil
}

// findOrOpen makes a port that is missing: the launcher asked for it, but it
// may have gone since with the VM that had it before.
func (r *Registry) findOrOpen(name vale.Name) (*port, error) {
	if p, err := r.find(name); err == nil {
		return p, nil
	}
	return r.open(Declaration{Name: name, Up: true, MTU: r.cfg.MTU, Mode: api.ModeServer, Origin: api.OriginAPI})
}

// free refuses a port on which somebody else lives.
func (r *Registry) free(p *port, name string, pid int) error {
	r.mu.Lock()
	owner := p.vm
	r.mu.Unlock()
	if owner != nil && owner.info.Name != name && owner.process.Alive() {
		return refusef(api.CodeConflict, "port %s belongs to VM %s (process %d); stop that or use another port", p.core.Name(), owner.info.Name, owner.info.PID)
	}
	st := p.core.Status()
	if st.Link == nil || st.Link.PID == 0 || st.Link.PID == pid {
		return nil
	}
	// The link of a VM that was just killed may still be there.
	h, err := process.Open(st.Link.PID, 0)
	if err != nil {
		return nil
	}
	h.Close()
	return refusef(api.CodeConflict, "port %s is in use by process %d (%s link); stop that or use another port", p.core.Name(), st.Link.PID, st.Link.Kind)
}

// DeleteVM forgets a VM. The VM itself is not touched.
func (r *Registry) DeleteVM(name string) error {
	r.change.Lock()
	defer r.change.Unlock()
	r.mu.Lock()
	v := r.vms[name]
	r.mu.Unlock()
	if v == nil {
		return refusef(api.CodeNotFound, "VM %q is not registered", name)
	}
	r.forget(v, "its VM was deleted")
	return nil
}

// watch forgets the VM when its process ends.
func (r *Registry) watch(v *vm) {
	select {
	case <-v.process.Done():
	case <-r.done:
		return
	}
	r.change.Lock()
	defer r.change.Unlock()
	r.mu.Lock()
	current := r.vms[v.info.Name] == v
	r.mu.Unlock()
	if !current {
		return
	}
	if h := r.successor(v); h != nil {
		info := v.info
		info.PID = h.PID()
		r.register(info.Name, info, v.ports, h, nil)
		v.process.Close()
		r.save()
		return
	}
	r.forget(v, "its VM ended")
}

// successor finds the process that carries on a VM whose process has ended:
// QEMU with -daemonize is a child of the process that was started, and it has
// connected to the VM's ports by the time that one ends.
func (r *Registry) successor(v *vm) *process.Handle {
	for _, p := range v.ports {
		r.mu.Lock()
		ours := p.vm == v
		r.mu.Unlock()
		st := p.core.Status()
		if !ours || st.Link == nil || st.Link.PID == 0 || st.Link.PID == v.info.PID {
			continue
		}
		if h, err := process.Open(st.Link.PID, 0); err == nil {
			return h
		}
	}
	return nil
}

// forget drops a VM and its ephemeral ports. The caller holds r.change.
func (r *Registry) forget(v *vm, why string) {
	r.mu.Lock()
	delete(r.vms, v.info.Name)
	r.mu.Unlock()
	v.process.Close()
	r.release(v, why)
	r.save()
	r.cfg.Log.Info("VM is gone", "vm", v.info.Name, "pid", v.info.PID)
}

// release frees the ports of a VM that is registered no more. The caller holds
// r.change.
func (r *Registry) release(v *vm, why string) {
	for _, p := range v.ports {
		r.mu.Lock()
		ours := p.vm == v
		if ours {
			p.vm = nil
		}
		present := r.ports[p.core.Name()] == p
		ephemeral := !p.persistent
		r.mu.Unlock()
		if ours && present && ephemeral {
			_ = r.remove(p, why) // logged there
		}
	}
}

// nic finds the NIC that a VM has on a port.
func (v *vm) nic(name vale.Name) (api.NIC, bool) {
	for i, p := range v.ports {
		if p.core.Name() == name {
			return v.info.NICs[i], true
		}
	}
	return api.NIC{}, false
}
