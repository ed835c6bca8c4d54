// Package vale is the switch: learning Ethernet bridges with ports by name,
// and the forwarding between them. It knows no devices, no hypervisor and no
// log; children of this package (vhostuser, stream, ...) are the links that
// are plugged into its ports.
//
//	Fabric   the switches of one host, by name
//	Switch   one learning bridge, "vale-1": ports and a MAC table
//	Port     a place on a switch, "vale-1:a": counters and at most one Link
//	Link     what is plugged into a port; receives by Deliver
//	Batch    frames on their way from a link into the switch
//	Client   a link for Go programs: send and receive batches in process
//
// A frame's life: a link gathers what its peer sent into a Batch, in place, and
// calls Port.Forward. The switch looks at each frame once, sorts the batch by
// receiver, and calls each receiver's Link.Deliver with a list of frames; the
// receiver copies them into its peer's memory. That is the only copy. Nothing
// blocks: what a receiver has no room for is dropped, counted under a Reason,
// and the sender goes on. That is VALE's rule, and it is what keeps one guest
// from stopping another.
//
// Forward runs on the goroutine of the sender; senders run in parallel. The
// forwarding path takes no lock of its own: it reads immutable pictures of
// switch and ports through atomic pointers and a MAC table that readers need
// no lock for. A receiver's ring takes a short lock, once per batch.
package vale
