package vale

// Reason says why a frame, or a copy of a flooded frame, was dropped.
type Reason uint8

// The drop reasons. Each copy of a frame that enters a switch is either
// delivered or counted under exactly one of them.
const (
	DropRunt       Reason = iota // shorter than an Ethernet header
	DropTooLong                  // longer than the MTU of the sending or the receiving port
	DropBadOffload               // virtio-net header does not fit the frame
	DropPortDown                 // the sending port is administratively down
	DropNoReceiver               // flooded, and no other port of the switch is up
	DropHairpin                  // the destination is on the sending port itself
	DropLinkDown                 // the receiving port is down or nothing is plugged in
	DropRingFull                 // the receiver offers too few buffers
	DropNoFit                    // the receiver's buffers cannot hold a frame of this size
	DropFault                    // the memory of the sender or the receiver went away
	NumReasons
)

var reasonNames = [NumReasons]string{
	"runt", "too-long", "bad-offload", "port-down", "no-receiver",
	"hairpin", "link-down", "ring-full", "no-fit", "memory-fault",
}

// String gives the reason's stable name, as the API shows it.
func (r Reason) String() string {
	if r < NumReasons {
		return reasonNames[r]
	}
	return "unknown"
}

// Reasons lists every reason in order.
func Reasons() []Reason {
	all := make([]Reason, NumReasons)
	for i := range all {
		all[i] = Reason(i)
	}
	return all
}
