package dpdk

import (
	"fmt"
	"net"
	"strconv"
)

// EAL is the part of a DPDK program's command line that stands before "--".
type EAL struct {
	Cores    string   // --lcores, for example "0@1,1@1"
	Main     int      // the main lcore's number
	MemoryMB int      // reserved at the start
	NoHuge   bool     // 4 KiB pages: slow, but needs no privilege and no reserved pages
	Prefix   string   // keeps programs that run at the same time apart
	Vdevs    []string // in port order
}

// Args gives the options. With huge pages, memory is one file per page size
// (--single-file-segments), because a vhost-user memory table has room for few
// regions, and lives in no file system (--in-memory).
func (e EAL) Args() []string {
	args := []string{
		"--lcores", e.Cores, "--main-lcore", strconv.Itoa(e.Main), "-m", strconv.Itoa(e.MemoryMB),
		"--no-pci", "--no-telemetry", "--file-prefix", e.Prefix,
	}
	if e.NoHuge {
		args = append(args, "--no-huge", "--no-shconf")
	} else {
		args = append(args, "--in-memory", "--single-file-segments")
	}
	for _, v := range e.Vdevs {
		args = append(args, "--vdev", v)
	}
	return args
}

// VirtioUser describes a vhost-user front end.
type VirtioUser struct {
	Socket    string
	Listen    bool // wait for the back end instead of connecting to it
	QueueSize int
	MAC       net.HardwareAddr
}

// Vdev gives the device's --vdev value; i is its number.
func (v VirtioUser) Vdev(i int) string {
	s := fmt.Sprintf("net_virtio_user%d,path=%s,queues=1,queue_size=%d,mac=%s", i, v.Socket, v.QueueSize, v.MAC)
	if v.Listen {
		s += ",server=1"
	}
	return s
}

// Vhost gives the --vdev value of a vhost-user back end that listens on socket.
func Vhost(i int, socket string) string {
	return fmt.Sprintf("net_vhost%d,iface=%s,queues=1", i, socket)
}
