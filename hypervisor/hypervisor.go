// Package hypervisor is the plain model of what runs on the host: virtual
// machines and their NICs, as far as a switch is concerned.
//
// It holds data only. Packages below it read that data from one kind of source
// each (a QEMU command line, a libvirt domain); the host agent turns it into
// switches and ports. Nothing here knows how a switch works: a port is a name,
// written as the source wrote it ("vale-1:a" and "vale1:a" are the same port,
// but it is not for this package to say so).
package hypervisor

import (
	"net"
	"slices"
)

// Source names where the description of a VM was read.
type Source string

// Sources of VM descriptions.
const (
	SourceLauncher Source = "launcher" // a QEMU command line given to our launcher
	SourceProc     Source = "proc"     // the command line of a running QEMU
	SourceLibvirt  Source = "libvirt"  // a libvirt domain
	SourceAPI      Source = "api"      // registered through the control API
)

// Accel is what executes the guest's instructions.
type Accel string

// Accelerators the switch cares about. Others keep the name QEMU has for them.
const (
	AccelUnknown Accel = ""
	AccelTCG     Accel = "tcg" // software emulation
	AccelKVM     Accel = "kvm"
)

// LinkKind is the way a NIC reaches its port.
type LinkKind string

// Link kinds.
const (
	LinkUnknown   LinkKind = ""
	LinkNetmap    LinkKind = "netmap"     // QEMU's netmap backend over /dev/netmap
	LinkVhostUser LinkKind = "vhost-user" // virtqueues in shared guest memory
	LinkStream    LinkKind = "stream"     // length-prefixed frames over a unix socket
)

// VM is one virtual machine.
type VM struct {
	// Name is the name its owner gave it; empty when none was given.
	Name string
	// UUID is in the canonical textual form; empty when none was given.
	UUID string
	// PID is the process that runs the VM; 0 while it does not run.
	PID int
	// Source tells who described the VM.
	Source Source
	// Accel is what executes the guest, where the source tells.
	Accel Accel
	// MemoryBytes is the size of guest RAM at start; 0 when unknown.
	MemoryBytes uint64
	// NICs are the interfaces that name a port of a switch, in the order of
	// the source. Interfaces that lead elsewhere are not listed.
	NICs []NIC
}

// NIC is one network interface of a VM, plugged into a port of a switch.
type NIC struct {
	// Port is the port's name as the source wrote it, for example "vale-1:a".
	Port string
	// MAC is the guest's hardware address; nil when the source leaves it to
	// the hypervisor.
	MAC net.HardwareAddr
	// Model is the device model as the source wrote it ("virtio",
	// "virtio-net-pci", "e1000"); empty for the machine's default.
	Model string
	// Link is the way the NIC reaches its port.
	Link LinkKind
	// ID is the name of the NIC's back end in its VM: QEMU's netdev id.
	ID string
	// Alias is the name of the device in its VM: QEMU's device id, which is
	// libvirt's <alias name>. Events about the device carry it.
	Alias string
	// Queues is the number of queue pairs, at least 1.
	Queues int
	// MTU is the largest payload the guest is told to use; 0 when not given.
	MTU int
}

// Clone returns a copy of the VM that shares no memory with it.
func (vm VM) Clone() VM {
	vm.NICs = slices.Clone(vm.NICs)
	for i := range vm.NICs {
		vm.NICs[i].MAC = slices.Clone(vm.NICs[i].MAC)
	}
	return vm
}
