package qemu

import (
	"crypto/sha256"
	"fmt"
	"net"
	"path/filepath"
	"strings"

	"github.com/vale-vmnet/vale-vmnet/hypervisor"
)

// MaxQueues is the largest number of queue pairs of a vhost-user NIC.
const MaxQueues = 16

// Version is QEMU's version.
type Version struct{ Major, Minor, Micro int }

// AtLeast reports whether v is the release major.minor or a later one.
func (v Version) AtLeast(major, minor int) bool {
	return v.Major > major || v.Major == major && v.Minor >= minor
}

func (v Version) String() string {
	return fmt.Sprintf("%d.%d.%d", v.Major, v.Minor, v.Micro)
}

// Backends is the set of netdev types that a QEMU has.
type Backends map[string]bool

// Endpoint is where the switch serves one port.
type Endpoint struct {
	// Port is the canonical name, "vale-1:a". Two spellings of one port have
	// the same.
	Port string
	// Netmap is the spelling for QEMU's netmap back end; empty keeps the
	// user's. (netmap's own parser takes the dash of "vale-1:a" for the start
	// of a ring number, so "vale1:a" is what works there.)
	Netmap string
	// VhostUser and Stream are the paths of the sockets on which the switch
	// listens for this port; QEMU connects.
	VhostUser, Stream string
}

// switchName is the part of the port's name before the colon.
func (e Endpoint) switchName() string {
	name, _, _ := strings.Cut(e.Port, ":")
	return name
}

// Env is what rewriting depends on besides the command line.
type Env struct {
	Version  Version  // of the QEMU that will run
	Backends Backends // that QEMU's netdev types

	NetmapServed bool // /dev/netmap is there and answers
	// KVMUsable says that the user who starts QEMU can open /dev/kvm, and that
	// this QEMU is for the host's architecture.
	KVMUsable bool

	// KeepNIC leaves a NIC without a model at QEMU's default model.
	KeepNIC bool

	// Resolve checks an ifname and gives its port. Its error is shown to the
	// user behind the option's text.
	Resolve func(ifname string) (Endpoint, error)

	// MAC gives the address of the n-th NIC (from 0) of a port for NICs
	// without one. It has to be a function of its arguments. Nil is PortMAC.
	MAC func(port string, n int) net.HardwareAddr
}

// PortMAC derives a MAC address from a port's canonical name, below QEMU's
// prefix 52:54:00, which has the locally-administered bit set. QEMU itself
// would give the first NIC of every guest the same 52:54:00:12:34:56; two such
// guests cannot share a switch. A port keeps its address from start to start.
func PortMAC(port string, n int) net.HardwareAddr {
	for try := 0; ; try++ {
		sum := sha256.Sum256(fmt.Appendf(nil, "%s\x00%d\x00%d", port, n, try))
		// QEMU counts its own defaults up from 52:54:00:12:34:56.
		if sum[0] == 0x12 && sum[1] == 0x34 {
			continue
		}
		return net.HardwareAddr{0x52, 0x54, 0x00, sum[0], sum[1], sum[2]}
	}
}

// Action is what was done about one netmap back end.
type Action struct {
	Port   string              // canonical
	Option string              // the back end as the user wrote it
	Link   hypervisor.LinkKind // what it became
	ID     string              // its netdev id; empty if QEMU chooses one
}

// Result is a rewritten command line.
type Result struct {
	// Args is the command line to run, the program first.
	Args []string
	// VM describes the guest. Its NICs are those plugged into a port.
	VM hypervisor.VM
	// Notices are sentences for the user: what was chosen on their behalf.
	Notices []string
	// Actions tells what was done, one entry per netmap back end.
	Actions []Action
}

// programName is the base name of the QEMU binary.
func programName(args []string) string { return filepath.Base(args[0]) }
