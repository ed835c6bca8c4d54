package qemu

import (
	"fmt"
	"net"
	"strconv"
	"strings"

	"github.com/vale-vmnet/vale-vmnet/hypervisor"
)

// nic is a guest NIC on the command line: `-net nic`, `-device` with netdev=,
// or the NIC half of `-nic`.
type nic struct {
	option
	model string // as written; empty for the machine's default
}

// macKey is the name of the property that holds the NIC's address.
func (n *nic) macKey() string {
	if n.opt == "net" {
		return "macaddr"
	}
	return "mac"
}

// isVirtio reports whether a vhost-user back end can serve the NIC.
func (n *nic) isVirtio() bool {
	return n.model == "virtio" || strings.HasPrefix(n.model, "virtio-net")
}

// hasVectors reports whether the NIC has a `vectors` property, which is a
// matter of PCI: virtio-mmio and virtio-ccw devices have none.
func (n *nic) hasVectors() bool {
	return n.model == "virtio" || n.model == "virtio-net" || strings.HasPrefix(n.model, "virtio-net-pci")
}

// backend is a netmap back end on the command line that names a port.
type backend struct {
	option
	ifname string
	end    Endpoint
	queues int

	id    string // its netdev id, once it has one
	nics  []*nic // the NICs it serves: none, one, or all of its hub
	onHub bool   // it shares a hub with others
	bare  bool   // one `-net nic` and one `-net netmap` and nothing else
	link  hypervisor.LinkKind
}

func (b *backend) isNetdev() bool { return b.opt == "netdev" }

// collectBackends finds the netmap back ends that name a port.
func (r *rewriter) collectBackends() error {
	seen := map[string]*backend{}
	for _, a := range r.g.args {
		if a.opt != "net" && a.opt != "netdev" && a.opt != "nic" {
			continue
		}
		o := r.g.find(a)
		if o.get("type") != "netmap" {
			continue
		}
		b, err := r.readBackend(o)
		if err != nil {
			return err
		}
		if b == nil {
			continue
		}
		if other := seen[b.end.Port]; other != nil {
			return refuse(ErrPortTwice, b.written(), fmt.Sprintf("port %s is already used by %s", b.end.Port, other.written()),
				"give each NIC its own port")
		}
		seen[b.end.Port] = b
		r.backends = append(r.backends, b)
	}
	return nil
}

// backendKeys are the properties of a netmap back end. queues= is our own, for
// what it becomes; vlan= is that of old command lines. nicKeys are those of
// the NIC half of -nic.
var (
	backendKeys = wordSet("type id ifname devname queues vlan")
	nicKeys     = wordSet("model mac")
)

// readBackend reads one netmap back end. It gives nil for one that names no
// port but something else netmap knows, such as a host NIC.
func (r *rewriter) readBackend(o option) (*backend, error) {
	b := &backend{option: o, ifname: o.get("ifname"), id: o.get("id"), queues: 1}
	if b.ifname == "" {
		return nil, refuse(ErrSyntax, o.written(), "ifname is missing", "add ifname=vale-1:a (switch vale-1, port a)")
	}
	if b.isNetdev() && b.id == "" {
		return nil, refuse(ErrSyntax, o.written(), "id is missing", "add id=net0 and netdev=net0 to the -device")
	}
	if !strings.HasPrefix(b.ifname, "vale") && r.hasBackend("netmap") {
		return nil, nil
	}
	end, err := r.env.Resolve(b.ifname)
	if err != nil {
		return nil, &OptionError{
			Option: o.written(),
			Reason: err.Error(),
			Remedy: "name a port like vale-1:a (switch vale-1, port a)",
			Err:    fmt.Errorf("%w: %w", ErrBadPort, err),
		}
	}
	b.end = end
	for _, it := range o.items {
		if !backendKeys[it.key] && !(o.opt == "nic" && nicKeys[it.key]) {
			return nil, refuse(ErrSyntax, o.written(), fmt.Sprintf("a netmap back end has no property %q", it.key), "remove it")
		}
	}
	if text, ok := o.lookup("queues"); ok {
		b.queues, err = strconv.Atoi(text)
		if err != nil || b.queues < 1 || b.queues > MaxQueues {
			return nil, refuse(ErrQueues, o.written(), fmt.Sprintf("queues=%s is not in 1..%d", text, MaxQueues), "choose a number of queue pairs in that range")
		}
	}
	return b, nil
}

// find gives the parsed form of an option.
func (g *guest) find(a *arg) option {
	for _, o := range g.opts[a.opt] {
		if o.arg == a {
			return o
		}
	}
	return option{arg: a, props: &props{}}
}

// attach finds the NICs of each back end.
func (r *rewriter) attach() error {
	for _, b := range r.backends {
		switch b.opt {
		case "nic":
			b.nics = []*nic{{option: b.option, model: b.get("model")}}
		case "netdev":
			r.attachNetdev(b)
		}
	}
	return r.attachHubs()
}

// attachNetdev finds what refers to a -netdev by id.
func (r *rewriter) attachNetdev(b *backend) {
	b.nics = r.nicsOf(b.id)
	for _, o := range r.g.opts["netdev"] {
		if o.get("type") == "hubport" && o.get("netdev") == b.id {
			b.onHub = true
			b.nics = r.nicsOfHub(o.get("hubid"))
		}
	}
	if len(b.nics) == 0 {
		r.notice("port %s has no NIC: no -device has netdev=%s", b.end.Port, b.id)
	}
}

// nicsOf gives the NICs that refer to a netdev id.
func (r *rewriter) nicsOf(id string) (nics []*nic) {
	for _, o := range r.g.opts["device"] {
		if o.get("netdev") == id {
			nics = append(nics, &nic{o, o.get("driver")})
		}
	}
	for _, o := range r.g.opts["net"] {
		if o.get("type") == "nic" && o.get("netdev") == id {
			nics = append(nics, &nic{o, o.get("model")})
		}
	}
	return nics
}

// nicsOfHub gives the NICs on a hub that the user built from -netdev hubport.
func (r *rewriter) nicsOfHub(hubid string) (nics []*nic) {
	for _, o := range r.g.opts["netdev"] {
		if o.get("type") == "hubport" && o.get("hubid") == hubid && !o.has("netdev") {
			nics = append(nics, r.nicsOf(o.get("id"))...)
		}
	}
	return nics
}

// mac gives the address written on the NIC; nil if there is none or if it is
// one that QEMU will refuse.
func (n *nic) mac() net.HardwareAddr {
	mac, err := net.ParseMAC(n.get(n.macKey()))
	if err != nil || len(mac) != 6 {
		return nil
	}
	return mac
}
