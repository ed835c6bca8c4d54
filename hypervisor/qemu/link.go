package qemu

import (
	"fmt"
	"strconv"

	"github.com/vale-vmnet/vale-vmnet/hypervisor"
)

// mtu is the MTU that a virtio device announces to its guest; 0 if none.
func (n *nic) mtu() int {
	mtu, err := strconv.Atoi(n.get("host_mtu"))
	if err != nil || mtu < 0 || mtu > 65535 {
		return 0
	}
	return mtu
}

// chooseLinks decides what each netmap back end becomes.
func (r *rewriter) chooseLinks() error {
	for _, b := range r.backends {
		if err := r.chooseLink(b); err != nil {
			return err
		}
	}
	return nil
}

func (r *rewriter) chooseLink(b *backend) error {
	if r.hasBackend("netmap") && r.env.NetmapServed {
		b.link = hypervisor.LinkNetmap
		return r.oneQueue(b, "netmap")
	}
	r.chooseModel(b)
	virtio := len(b.nics) == 1 && b.nics[0].isVirtio() && !b.onHub
	switch {
	case virtio && r.hasBackend("vhost-user"):
		b.link = hypervisor.LinkVhostUser
		return r.manyQueues(b)
	case r.hasBackend("stream"):
		b.link = hypervisor.LinkStream
		return r.oneQueue(b, "stream")
	case len(b.nics) == 0 && !b.onHub && r.hasBackend("vhost-user"):
		b.link = hypervisor.LinkVhostUser // for a virtio device plugged in later
		return nil
	}
	reason := fmt.Sprintf("QEMU %s has no stream back end for a NIC that is not virtio", r.env.Version)
	if virtio {
		reason = fmt.Sprintf("QEMU %s has none of the back ends netmap, vhost-user and stream", r.env.Version)
	}
	return refuse(ErrNoBackend, b.written(), reason, "use QEMU 7.2 or later, or a virtio NIC with vhost-user")
}

// chooseModel makes a NIC without a model a virtio one. A NIC on a hub stays
// as it is: vhost-user does not work across a hub.
func (r *rewriter) chooseModel(b *backend) {
	if b.onHub || len(b.nics) != 1 || b.nics[0].model != "" || r.env.KeepNIC {
		return
	}
	n := b.nics[0]
	// "virtio" stands for virtio-net-pci, and for virtio-net-ccw on s390x.
	n.model = "virtio"
	n.set("model", n.model)
	n.store()
	r.notice("port %s: the NIC has no model, so it becomes virtio-net; --keep-nic keeps QEMU's default model", b.end.Port)
}

// oneQueue is for links that have one queue pair only.
func (r *rewriter) oneQueue(b *backend, kind string) error {
	if b.queues > 1 {
		r.notice("port %s: queues=%d has no effect, %s has one queue", b.end.Port, b.queues, kind)
		b.queues = 1
	}
	return nil
}

func (r *rewriter) manyQueues(b *backend) error {
	if b.queues > 1 && b.nics[0].opt != "device" {
		return refuse(ErrUnsupported, b.written(), "QEMU's -net and -nic know no NIC with several queues",
			fmt.Sprintf("use -netdev netmap,id=net0,ifname=%s,queues=%d -device virtio-net-pci,netdev=net0,mq=on", b.ifname, b.queues))
	}
	return nil
}

// emit writes the chosen links to the command line.
func (r *rewriter) emit() error {
	for _, b := range r.backends {
		switch b.link {
		case hypervisor.LinkNetmap:
			r.emitNetmap(b)
		case hypervisor.LinkVhostUser:
			r.emitVhostUser(b)
		default:
			r.emitStream(b)
		}
	}
	return nil
}

// emitNetmap keeps the back end. Only a pair that QEMU's hub would mix with
// others is written out as -netdev.
func (r *rewriter) emitNetmap(b *backend) {
	before := b.String()
	if b.end.Netmap != "" && b.end.Netmap != b.ifname {
		b.set("ifname", b.end.Netmap)
		r.notice("port %s: netmap reads the name as %s", b.end.Port, b.end.Netmap)
	}
	b.del("queues")
	b.del("vlan")
	if b.opt != "net" || b.bare || b.onHub || len(b.nics) == 0 {
		if b.String() != before {
			b.store()
		}
		return
	}
	r.name(b)
	p := newProps("netmap").add("id", b.id).add("ifname", b.get("ifname"))
	if dev := b.get("devname"); dev != "" {
		p.add("devname", dev)
	}
	b.replace("-netdev", p.String())
	r.plug(b)
}

func (r *rewriter) emitVhostUser(b *backend) {
	r.name(b)
	chardev := r.g.newID(b.id + "-chr")
	chr := newProps("socket").add("id", chardev).add("path", b.end.VhostUser)
	if key, val := r.reconnect(); key != "" {
		chr.add(key, val)
	}
	dev := newProps("vhost-user").add("id", b.id).add("chardev", chardev)
	if b.queues > 1 {
		dev.add("queues", strconv.Itoa(b.queues))
	}
	r.avoidMSIX(b)
	r.netdev(b, "-chardev", chr.String(), "-netdev", dev.String())
	if b.queues > 1 && !b.nics[0].has("mq") {
		b.nics[0].setBool("mq", true)
		b.nics[0].store()
	}
}

// reconnect is the property that makes QEMU's sockets connect again after one
// second: in seconds first, in milliseconds since 9.2, which deprecates the
// older one.
func (r *rewriter) reconnect() (key, val string) {
	if r.env.Version.AtLeast(9, 2) {
		return "reconnect-ms", "1000"
	}
	return "reconnect", "1"
}

// avoidMSIX keeps a guest under TCG from using MSI-X: before QEMU 8.0 that
// ends QEMU with a segmentation fault if the back end is vhost-user.
func (r *rewriter) avoidMSIX(b *backend) {
	if r.accel != hypervisor.AccelTCG || r.env.Version.AtLeast(8, 0) || r.g.setsVectors() {
		return
	}
	for _, n := range b.nics {
		if !n.hasVectors() || n.has("vectors") {
			continue
		}
		n.setNumber("vectors", "0")
		n.store()
		r.notice("port %s: vectors=0 is set, since QEMU %s can crash when a guest under TCG uses MSI-X with vhost-user; not needed under KVM", b.end.Port, r.env.Version)
	}
}

func (r *rewriter) emitStream(b *backend) {
	r.name(b)
	dev := newProps("stream").add("id", b.id).add("server", "off").add("addr.type", "unix").add("addr.path", b.end.Stream)
	if r.env.Version.AtLeast(8, 0) {
		dev.add(r.reconnect())
	} else {
		r.notice("port %s: QEMU %s cannot re-connect a stream NIC, so the guest has to be restarted if the switch is; QEMU 8.0 can", b.end.Port, r.env.Version)
	}
	words := []string{"-netdev", dev.String()}
	if b.onHub && b.opt == "net" {
		port := newProps("hubport").add("id", r.g.newID(b.id+"-hub")).add("hubid", "0").add("netdev", b.id)
		words = append(words, "-netdev", port.String())
	}
	r.netdev(b, words...)
}

// name gives the back end a netdev id if the user gave it none.
func (r *rewriter) name(b *backend) {
	if b.id == "" {
		b.id = r.g.newID(fmt.Sprintf("vale%d", len(r.names)))
		r.names = append(r.names, b.id)
	}
}

// netdev replaces the back end by words and connects its NIC.
func (r *rewriter) netdev(b *backend, words ...string) {
	if b.opt == "nic" {
		words = append(words, "-net", r.splitNIC(b))
		if len(r.g.opts["nic"]) > 1 {
			r.notice("port %s: -nic is split into -netdev and -net nic, so the guest sees this NIC after those of other -nic options", b.end.Port)
		}
	}
	b.replace(words...)
	r.plug(b)
}

// splitNIC gives the NIC half of a -nic option.
func (r *rewriter) splitNIC(b *backend) string {
	n := b.nics[0]
	p := newProps("nic").add("netdev", b.id)
	if n.model != "" {
		p.add("model", n.model)
	}
	p.add("macaddr", n.get("mac"))
	if v, ok := n.lookup("vectors"); ok {
		p.add("vectors", v)
	}
	return p.String()
}

// plug makes a `-net nic` refer to its back end, off the hub.
func (r *rewriter) plug(b *backend) {
	for _, n := range b.nics {
		if n.opt != "net" {
			continue
		}
		n.del("vlan")
		if !b.onHub {
			n.set("netdev", b.id)
		}
		n.store()
	}
}
