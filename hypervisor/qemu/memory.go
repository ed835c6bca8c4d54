package qemu

import (
	"fmt"
	"slices"
	"strings"

	"github.com/vale-vmnet/vale-vmnet/hypervisor"
)

// memoryRemedy is what a user can always do about memory that is not shared.
const memoryRemedy = "use -object memory-backend-memfd,id=mem,size=<as -m>,share=on with -machine memory-backend=mem"

// shareMemory makes the guest's memory shared if a NIC is on vhost-user: the
// switch reads and writes the rings and frames in guest memory, and QEMU
// passes it file descriptors of shared mappings only (vhost-user
// specification, "Memory region description").
//
// A guest has its memory from exactly one of: NUMA nodes with memdev=, the
// machine's memory-backend=, -mem-path, or QEMU's own anonymous memory.
func (r *rewriter) shareMemory() error {
	if !slices.ContainsFunc(r.backends, func(b *backend) bool { return b.link == hypervisor.LinkVhostUser }) {
		return nil
	}
	r.adviseAccel()
	if r.g.readConfig {
		r.notice("-readconfig is not looked into: memory back ends in it have to have share=on")
	}
	nodes, err := r.numaMemory()
	if err != nil {
		return err
	}
	mem := r.g.last("machine", "memory-backend")
	switch {
	case len(nodes) > 0:
		for _, id := range nodes {
			if err := r.shareBackend(id); err != nil {
				return err
			}
		}
	case mem != "":
		if err := r.shareBackend(mem); err != nil {
			return err
		}
	default:
		if err := r.addMemory(); err != nil {
			return err
		}
	}
	return r.sharePluggedMemory()
}

// adviseAccel tells a user who named no accelerator about KVM.
func (r *rewriter) adviseAccel() {
	if r.accel == hypervisor.AccelTCG && r.env.KVMUsable && !r.g.choosesAccel() {
		r.notice("the guest runs under software emulation although you may open /dev/kvm: add -accel kvm -accel tcg where KVM works")
	}
}

// numaMemory gives the ids of the NUMA nodes' memory back ends.
func (r *rewriter) numaMemory() (ids []string, err error) {
	for _, o := range r.g.opts["numa"] {
		if o.get("type") != "node" {
			continue
		}
		if o.has("mem") {
			return nil, refuse(ErrNotShared, o.written(), "mem= gives the node memory that the switch cannot share",
				"use memdev=m0 with -object memory-backend-memfd,id=m0,size="+o.get("mem")+",share=on")
		}
		if id := o.get("memdev"); id != "" {
			ids = append(ids, id)
		}
	}
	return ids, nil
}

// sharePluggedMemory shares the memory of memory devices. The memory of an
// NVDIMM is a disk: its file is left as the user has it.
func (r *rewriter) sharePluggedMemory() error {
	for _, o := range r.g.opts["device"] {
		driver := o.get("driver")
		if driver != "pc-dimm" && !strings.HasPrefix(driver, "virtio-mem") {
			continue
		}
		if id := o.get("memdev"); id != "" {
			if err := r.shareBackend(id); err != nil {
				return err
			}
		}
	}
	return nil
}

// shareBackend makes the user's memory back end a shared one. An id that is
// not on the command line is left for QEMU to complain about.
func (r *rewriter) shareBackend(id string) error {
	i := slices.IndexFunc(r.g.opts["object"], func(o option) bool {
		return o.get("id") == id && strings.HasPrefix(o.get("qom-type"), "memory-backend-")
	})
	if i < 0 {
		return nil
	}
	o := r.g.opts["object"][i]
	share, given := o.lookup("share")
	on := isOn(share)
	switch kind := o.get("qom-type"); kind {
	case "memory-backend-memfd", "memory-backend-shm":
		if given && !on { // shared unless told otherwise
			r.setShared(o)
		}
	case "memory-backend-file":
		switch {
		case given && !on:
			return refuse(ErrNotShared, o.written(), fmt.Sprintf("share=%s keeps guest memory from the switch, and the file from the guest's writes", share),
				"set share=on if the guest may write to "+o.get("mem-path")+", or "+memoryRemedy)
		case !given:
			r.setShared(o)
			r.notice("guest memory is now kept in %s: what the guest writes to its memory goes there", o.get("mem-path"))
		}
	case "memory-backend-ram":
		o.set("qom-type", "memory-backend-memfd")
		o.setBool("share", true)
		o.store()
		r.notice("memory back end %s is now a memory-backend-memfd: memory-backend-ram has no file to share with the switch", id)
	default:
		return refuse(ErrNotShared, o.written(), kind+" cannot be shared with the switch", memoryRemedy)
	}
	return nil
}

func (r *rewriter) setShared(o option) {
	o.setBool("share", true)
	o.store()
	r.notice("memory back end %s gets share=on, so that the switch can reach the guest's rings", o.get("id"))
}

func isOn(s string) bool { return slices.Contains([]string{"on", "yes", "true", "y"}, s) }

// addMemory gives the machine a shared memory back end of the guest's size.
// QEMU merges repeated -machine options, so the user's stays as it is.
func (r *rewriter) addMemory() error {
	size, explicit, err := r.g.ramSize()
	if err != nil {
		return err
	}
	id := r.g.newID("vale-mem")
	obj := newProps("memory-backend-memfd").add("id", id).add("size", formatSize(size))
	where := "anonymous memory"
	if n := len(r.g.memPath); n > 0 {
		// QEMU refuses -mem-path beside a memory back end.
		where = r.g.memPath[n-1].val
		obj = newProps("memory-backend-file").add("id", id).add("size", formatSize(size)).add("mem-path", where)
		for _, a := range r.g.memPath {
			a.replace()
		}
	}
	obj.add("share", "on")
	r.extra = append(r.extra, "-object", obj.String())
	if r.env.Version.AtLeast(5, 0) {
		r.extra = append(r.extra, "-machine", "memory-backend="+id)
	} else { // a single NUMA node was the only way before
		r.extra = append(r.extra, "-numa", newProps("node").add("memdev", id).String())
	}
	how := ""
	if !explicit {
		how = ", QEMU's default without -m"
	}
	r.notice("the guest's memory (%s%s, in %s) is shared with the switch", formatSize(size), how, where)
	return nil
}
