package configs

import (
	_ "embed"
	"io/fs"
	"log/slog"
	"net"
	"runtime"
	"time"

	"github.com/vale-vmnet/vale-vmnet/vale"
)

// DefaultFile is read when no other configuration file is named. It need not
// exist.
const DefaultFile = "/etc/vale-vmnet/vale-vmnet.yaml"

// DefaultRunDir is where the agent keeps its sockets unless told otherwise.
const DefaultRunDir = "/run/vale-vmnet"

// Commented is the default configuration file: every key with its default and
// an explanation.
//
//go:embed vale-vmnet.yaml
var Commented []byte

// Config is the agent's configuration, checked.
type Config struct {
	// File is where the configuration was read; empty when there was none.
	File string

	RunDir string
	Log    Log

	// Workers is the number of forwarding threads; 0 leaves it to WorkerCount.
	Workers int
	// CPUs are the CPUs that workers are pinned to, in turn; empty for none.
	CPUs []int
	// BusyPoll is how long a worker looks for more frames before it sleeps.
	BusyPoll time.Duration

	MaxSwitches int
	MaxPorts    int // a switch
	MACs        int // entries of a switch's MAC table
	MACsPerPort int // learned
	MACAge      time.Duration
	MTU         int // of ports that name none; 0 for no limit

	Sockets Access // of the guests' sockets
	API     Access // of the control socket

	Ports []Port
	FDB   []StaticEntry
}

// Log shapes what the agent says.
type Log struct {
	Level  slog.Level
	Format string // "text" or "json"
}

// Access says who may open a socket.
type Access struct {
	Mode  fs.FileMode
	Group string // empty for the agent's own
}

// Mode says which end of a port's vhost-user socket listens.
type Mode string

// Modes of a port.
const (
	ModeServer Mode = "server" // we listen, QEMU connects
	ModeClient Mode = "client" // QEMU listens, we connect
)

// Port is a port that exists from the agent's start.
type Port struct {
	Name   vale.Name
	MAC    net.HardwareAddr // known to live here; nil for none
	MTU    int              // 0 for no limit
	Mode   Mode
	Socket string // of the front end, for ModeClient
	// Persistent ports stay when their link goes.
	Persistent bool
}

// StaticEntry pins a MAC address to a port.
type StaticEntry struct {
	MAC  net.HardwareAddr
	Port vale.Name
}

// Default gives the built-in configuration.
func Default() Config {
	return Config{
		RunDir:      DefaultRunDir,
		Log:         Log{Level: slog.LevelInfo, Format: "text"},
		BusyPoll:    50 * time.Microsecond,
		MaxSwitches: 256,
		MaxPorts:    1024,
		MACs:        16384,
		MACsPerPort: 1024,
		MACAge:      300 * time.Second,
		Sockets:     Access{Mode: 0o660},
		API:         Access{Mode: 0o660},
	}
}

// WorkerCount gives the number of forwarding threads: what was configured, or
// one for every two CPUs, and at least one.
func (c Config) WorkerCount() int {
	if c.Workers > 0 {
		return c.Workers
	}
	return max(1, runtime.NumCPU()/2)
}
