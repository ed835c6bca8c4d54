// Package control is the language between the host and the daemon inside a
// test guest: one JSON object a line, over the guest's second serial port.
//
// JSON escapes line breaks, so a line is always a whole message, whatever a
// command prints. Several commands may run at once; the reply names the
// request it answers.
package control

// Request asks the guest to run Command with the shell, or to power off.
type Request struct {
	ID       uint64 `json:"id"`
	Command  string `json:"command,omitempty"`
	PowerOff bool   `json:"powerOff,omitempty"`
}

// Reply is the end of a request. The guest sends one Reply with Ready set and
// ID 0 by itself when its network cards are there and it takes requests.
type Reply struct {
	ID     uint64 `json:"id"`
	Ready  bool   `json:"ready,omitempty"`
	Output string `json:"output"` // standard output and error, interleaved as written
	Exit   int    `json:"exit"`   // exit status, 128+n when signal n ended it
	Error  string `json:"error,omitempty"`
}

// Paths inside the guest on which the image builder and the daemon agree.
const (
	ModuleDir  = "/lib/modules/load"  // kernel modules, loaded in the order of ModuleList
	ModuleList = "/lib/modules/order" // one file name a line
	Console    = "/dev/ttyS0"         // kernel messages and an interactive shell
	Port       = "/dev/ttyS1"         // requests and replies
)

// EtherType marks the frames that "guestd send" makes. It is the first of the
// two values IEEE 802 (clause 9.2.4) keeps for local experiments.
const EtherType = 0x88b5
