// Package api is the wire format of the agent's control API: JSON over HTTP on
// a unix socket, every path below /v1. It holds types only; package apiclient
// speaks it, package server answers it.
//
//	GET    /v1/status
//	GET    /v1/switches                     all switches with their ports
//	GET    /v1/switches/{switch}
//	GET    /v1/switches/{switch}/fdb        stations that the switch knows
//	DELETE /v1/switches/{switch}/fdb        forgets the learned ones
//	PUT    /v1/switches/{switch}/fdb/{mac}  pins an address to a port
//	DELETE /v1/switches/{switch}/fdb/{mac}
//	GET    /v1/ports/{port}
//	PUT    /v1/ports/{port}                 makes it if need be; idempotent
//	PATCH  /v1/ports/{port}                 changes what is there
//	DELETE /v1/ports/{port}[?force=true]
//	GET    /v1/vms
//	GET    /v1/vms/{vm}
//	PUT    /v1/vms/{vm}                     registers a running VM
//	DELETE /v1/vms/{vm}
//
// A failed request is answered with an HTTP status and an ErrorBody. Fields are
// only ever added within /v1; clients ignore those they do not know. The server
// refuses request fields that it does not know, because a misspelt one must not
// be silently without effect.
//
// Directions are seen from the switch: "in" is what the port's guest sent into
// the switch, "out" what the switch delivered to it.
package api

import "time"

// Prefix begins every path.
const Prefix = "/v1"

// Status describes the agent.
type Status struct {
	Version    string    `json:"version"`
	PID        int       `json:"pid"`
	StartedAt  time.Time `json:"started_at"`
	Uptime     float64   `json:"uptime_seconds"`
	RunDir     string    `json:"run_dir"`
	ConfigFile string    `json:"config_file"` // empty: built-in defaults
	Workers    int       `json:"workers"`
	CPUs       []int     `json:"cpus"` // that workers are pinned to; empty: none
	Switches   int       `json:"switches"`
	Ports      int       `json:"ports"`
	VMs        int       `json:"vms"`
}

// SwitchList answers GET /v1/switches.
type SwitchList struct {
	Switches []Switch `json:"switches"`
}

// Switch is one learning bridge.
type Switch struct {
	Name  string   `json:"name"` // canonical: "vale-1"
	Ports []Port   `json:"ports"`
	FDB   FDBStats `json:"fdb"`
}

// FDBStats counts learning on a switch since it came up.
type FDBStats struct {
	Entries int    `json:"entries"`
	Moves   uint64 `json:"moves"`   // stations heard on another port than before
	Refused uint64 `json:"refused"` // stations not learned: table full, or too many behind one port
}

// FDB answers GET /v1/switches/{switch}/fdb.
type FDB struct {
	Entries []FDBEntry `json:"entries"`
}

// FDBEntry is one station.
type FDBEntry struct {
	MAC    string `json:"mac"`
	Port   string `json:"port"`
	Static bool   `json:"static"`
	Age    int    `json:"age_seconds"` // since last heard; 0 for static ones
}

// FDBTarget is the body of PUT /v1/switches/{switch}/fdb/{mac}.
type FDBTarget struct {
	Port string `json:"port"` // on that switch
}

// Flushed answers DELETE /v1/switches/{switch}/fdb.
type Flushed struct {
	Entries int `json:"entries"` // that were forgotten
}

// Why a port is there.
const (
	OriginConfig = "config" // declared in the agent's configuration
	OriginAPI    = "api"    // asked for by the launcher or another client
)

// Port is a place on a switch.
type Port struct {
	Name       string `json:"name"` // canonical: "vale-1:a"
	Switch     string `json:"switch"`
	Origin     string `json:"origin"`
	Persistent bool   `json:"persistent"` // stays when its guest goes
	Up         bool   `json:"up"`         // administratively
	MTU        int    `json:"mtu"`        // 0: no limit

	VM string `json:"vm"` // that registered a NIC here; empty: none
	// MACs are the addresses known here: those of registered NICs and pinned
	// ones first, then learned ones, a handful at most.
	MACs     []string `json:"macs"`
	MACCount int      `json:"mac_count"` // all of them

	Sockets  Sockets  `json:"sockets"`
	Link     Link     `json:"link"`
	Counters Counters `json:"counters"`
	Rates    Rates    `json:"rates"`
}

// Sockets are the ways to plug into a port.
type Sockets struct {
	// VhostUser is the socket of virtio guests. Mode tells which end listens:
	// with "server" the agent does, with "client" QEMU.
	VhostUser string `json:"vhost_user"`
	Mode      string `json:"mode"`
	Stream    string `json:"stream"` // of other guests; the agent listens
}

// Modes of a vhost-user socket: who listens.
const (
	ModeServer = "server" // the agent
	ModeClient = "client" // QEMU; the agent connects
)

// States of a link.
const (
	StateUp       = "up"       // the peer takes frames
	StateWaiting  = "waiting"  // plugged in, but the guest's driver is not ready
	StateDown     = "down"     // nothing is plugged in
	StateDisabled = "disabled" // the port was brought down
)

// Link is what is plugged into a port.
type Link struct {
	Kind     string            `json:"kind"` // "vhost-user", "stream", "in-process"; empty: nothing
	State    string            `json:"state"`
	Since    time.Time         `json:"since"` // of the last change
	Peer     string            `json:"peer,omitempty"`
	PID      int               `json:"pid,omitempty"`
	Queues   int               `json:"queues,omitempty"`
	Features []string          `json:"features,omitempty"`
	Details  map[string]string `json:"details,omitempty"`
}

// Counters of a port since it came up. Of the copies that its guest's frames
// made, In.Copies = In.Delivered + In.Dropped.
type Counters struct {
	In  InCounters  `json:"in"`
	Out OutCounters `json:"out"`
}

// InCounters count what came from the port's guest.
type InCounters struct {
	Frames    uint64            `json:"frames"`
	Bytes     uint64            `json:"bytes"`
	Multicast uint64            `json:"multicast"` // and broadcast
	Copies    uint64            `json:"copies"`    // one per receiver of each frame
	Delivered uint64            `json:"delivered"` // copies
	Dropped   uint64            `json:"dropped"`   // copies
	Drops     map[string]uint64 `json:"drops"`     // by reason; those that happened
}

// OutCounters count what was meant for the port's guest.
type OutCounters struct {
	Frames  uint64            `json:"frames"` // delivered
	Bytes   uint64            `json:"bytes"`
	Dropped uint64            `json:"dropped"`
	Drops   map[string]uint64 `json:"drops"`
}

// Rates are averages over the last second and the last ten seconds, or over the
// port's life when that is shorter.
type Rates struct {
	Last1s  Rate `json:"1s"`
	Last10s Rate `json:"10s"`
}

// Rate is per second.
type Rate struct {
	InFrames  float64 `json:"in_frames"`
	InBits    float64 `json:"in_bits"`
	OutFrames float64 `json:"out_frames"`
	OutBits   float64 `json:"out_bits"`
	Drops     float64 `json:"drops"` // of the guest's copies, and of copies meant for it
}

// PortSpec is the body of PUT and PATCH /v1/ports/{port}. Fields that are
// missing keep what is there, or take the default when PUT makes the port.
type PortSpec struct {
	Persistent *bool `json:"persistent,omitempty"` // false
	Up         *bool `json:"up,omitempty"`         // true
	MTU        *int  `json:"mtu,omitempty"`        // the configuration's
	// MAC pins an address to the port. The rest is for PUT only, and for a
	// port that is there must be what it is.
	MAC    *string `json:"mac,omitempty"`
	Mode   *string `json:"mode,omitempty"` // "server"
	Socket *string `json:"socket,omitempty"`
}

// VMList answers GET /v1/vms.
type VMList struct {
	VMs []VM `json:"vms"`
}

// VM is a virtual machine. It is the body of PUT /v1/vms/{vm}, where Name may
// be left out and Since is ignored.
type VM struct {
	Name string `json:"name"`
	UUID string `json:"uuid,omitempty"`
	// PID is the process whose end is the VM's end. StartTime is field 22 of
	// its /proc/PID/stat: together they name a process that cannot be mistaken
	// for a later one. 0 has the agent look it up.
	PID       int       `json:"pid"`
	StartTime uint64    `json:"start_time,omitempty"`
	Source    string    `json:"source,omitempty"` // "launcher", "api"
	NICs      []NIC     `json:"nics"`
	Since     time.Time `json:"since,omitzero"`
}

// NIC is a guest's interface on a port.
type NIC struct {
	Port  string `json:"port"`
	MAC   string `json:"mac,omitempty"`
	Model string `json:"model,omitempty"`
	Link  string `json:"link,omitempty"` // the kind of link it will use
}
