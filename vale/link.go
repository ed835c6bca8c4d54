package vale

import (
	"github.com/vale-vmnet/vale-vmnet/vale/frame"
)

// Link is what is plugged into a port: a vhost-user guest, a stream socket,
// an in-process client. The frames that the link's peer sends enter the switch
// by Port.Forward; the frames for it leave by Deliver.
type Link interface {
	// Deliver copies the frames b.Frames[i], for i in list and in that
	// order, to the link's peer and counts each in t. All of them fit the
	// offloads and the MTU that the port was given. It is called by the
	// goroutines of other ports, several at a time; it never blocks (what
	// does not fit is dropped), never keeps b, and wakes the peer at most
	// once.
	Deliver(b *Batch, list []uint16, t *Tally)

	// Info describes the link to observers.
	Info() LinkInfo

	// Close unplugs the link and lets go of its peer. The owner of a port
	// calls it after Fabric.Delete.
	Close() error
}

// LinkInfo describes a link to observers.
type LinkInfo struct {
	Kind     string            // "vhost-user", "stream", "in-process"
	Peer     string            // who is at the other end, as far as known
	PID      int               // process at the other end, 0 when unknown
	Features []string          // negotiated features, in the spec's words
	Queues   int               // queue pairs in use
	Details  map[string]string // anything else worth showing
}

// LinkState is what a link tells its port about its peer.
type LinkState struct {
	Ready    bool           // the peer takes frames
	Offloads frame.Offloads // what the peer accepts besides plain frames
}
