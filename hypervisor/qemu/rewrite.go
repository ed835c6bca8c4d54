package qemu

import (
	"errors"
	"fmt"
	"net"

	"github.com/vale-vmnet/vale-vmnet/hypervisor"
)

// rewriter carries one command line through the steps of Rewrite.
type rewriter struct {
	env      Env
	g        *guest
	accel    hypervisor.Accel
	backends []*backend
	macs     map[string]bool // addresses in use in this guest
	notices  []string
	names    []string // netdev ids made up here
	extra    []string // options to add at the end
}

// Rewrite plugs the NICs of a QEMU command line into the ports it names. args
// is the whole command line with the program first; it is not changed.
//
// A command line that names no port comes back as it is. One that cannot be
// made to work is refused with an [OptionError].
func Rewrite(args []string, env Env) (Result, error) {
	if len(args) == 0 || args[0] == "" {
		return Result{}, refuse(ErrSyntax, "command line", "names no program", "give QEMU's command line, for example qemu-system-x86_64 -net nic -net netmap,ifname=vale-1:a")
	}
	if env.Resolve == nil {
		return Result{}, errors.New("rewrite QEMU command line: Env.Resolve is missing")
	}
	if env.MAC == nil {
		env.MAC = PortMAC
	}
	g, err := readGuest(args)
	if err != nil {
		return Result{}, err
	}
	r := &rewriter{env: env, g: g, accel: g.accel(env.KVMUsable), macs: map[string]bool{}}
	for _, step := range []func() error{
		r.collectBackends, r.attach, r.chooseLinks, r.giveMACs, r.emit, r.shareMemory,
	} {
		if err := step(); err != nil {
			return Result{}, err
		}
	}
	return r.result(args[0]), nil
}

// notice records a sentence for the user.
func (r *rewriter) notice(format string, a ...any) {
	r.notices = append(r.notices, fmt.Sprintf(format, a...))
}

func (r *rewriter) hasBackend(kind string) bool { return r.env.Backends[kind] }

// giveMACs gives an address to each plugged-in NIC that has none.
func (r *rewriter) giveMACs() error {
	for _, b := range r.backends {
		for _, n := range b.nics {
			if mac := n.mac(); mac != nil {
				r.macs[mac.String()] = true
			}
		}
	}
	for _, b := range r.backends {
		for i, n := range b.nics {
			if n.has(n.macKey()) {
				continue
			}
			mac, err := r.newMAC(b, i)
			if err != nil {
				return err
			}
			n.set(n.macKey(), mac.String())
			n.store()
			r.notice("port %s: the NIC gets the MAC address %s, derived from the port's name (QEMU would give every guest the same one)", b.end.Port, mac)
		}
	}
	return nil
}

// newMAC asks for an address that no other NIC of this guest has.
func (r *rewriter) newMAC(b *backend, n int) (net.HardwareAddr, error) {
	const tries = 1000
	for i := range tries {
		mac := r.env.MAC(b.end.Port, n+i)
		if len(mac) == 6 && !r.macs[mac.String()] {
			r.macs[mac.String()] = true
			return mac, nil
		}
	}
	return nil, refuse(ErrUnsupported, b.written(), "no free MAC address was found for the NIC", "give it one with macaddr= or mac=")
}

func (r *rewriter) result(program string) Result {
	ram, _, err := r.g.ramSize()
	if err != nil {
		ram = 0 // a size that only QEMU has to understand
	}
	res := Result{
		Args:    append(append([]string{program}, joinArgs(r.g.args)...), r.extra...),
		Notices: r.notices,
		VM: hypervisor.VM{
			Name:        r.g.name,
			UUID:        r.g.uuid,
			Source:      hypervisor.SourceLauncher,
			Accel:       r.accel,
			MemoryBytes: ram,
		},
	}
	for _, b := range r.backends {
		res.Actions = append(res.Actions, Action{Port: b.end.Port, Option: b.written(), Link: b.link, ID: b.id})
		res.VM.NICs = append(res.VM.NICs, b.model())
	}
	return res
}

// model describes the back end's NIC. On a hub it is the first one.
func (b *backend) model() hypervisor.NIC {
	out := hypervisor.NIC{Port: b.ifname, Link: b.link, ID: b.id, Queues: b.queues}
	if len(b.nics) == 0 {
		return out
	}
	n := b.nics[0]
	out.MAC, out.Model = n.mac(), n.model
	if n.opt == "device" {
		out.Alias = n.get("id")
		out.MTU = n.mtu()
	}
	return out
}
