package qemu

import "errors"

// Reasons to refuse a command line. An [OptionError] wraps one of them.
var (
	// ErrSyntax is an option that QEMU itself could not read either.
	ErrSyntax = errors.New("malformed option")
	// ErrBadPort is an ifname that is no port of a switch.
	ErrBadPort = errors.New("bad port name")
	// ErrPortTwice is a port named by two back ends.
	ErrPortTwice = errors.New("port used twice")
	// ErrQueues is a number of queue pairs outside 1..MaxQueues.
	ErrQueues = errors.New("bad number of queues")
	// ErrNoBackend is a QEMU without any back end that fits the NIC.
	ErrNoBackend = errors.New("no usable network back end")
	// ErrNotShared is guest memory that cannot be shared with the switch.
	ErrNotShared = errors.New("guest memory is not shared")
	// ErrLoop is a hub that would connect a switch with itself.
	ErrLoop = errors.New("forwarding loop")
	// ErrUnsupported is a form that cannot be expressed with this QEMU.
	ErrUnsupported = errors.New("unsupported form")
	// ErrProbe is a program that does not answer like QEMU.
	ErrProbe = errors.New("not a usable QEMU")
)

// OptionError is a refused option of the command line.
type OptionError struct {
	Option string // as written, for example "-netdev netmap,id=n0"
	Reason string // what is wrong
	Remedy string // what to do about it
	Err    error  // one of the sentinels of this package
}

func (e *OptionError) Error() string {
	return e.Option + ": " + e.Reason + "; " + e.Remedy
}

func (e *OptionError) Unwrap() error { return e.Err }

func refuse(kind error, option, reason, remedy string) *OptionError {
	return &OptionError{Option: option, Reason: reason, Remedy: remedy, Err: kind}
}
