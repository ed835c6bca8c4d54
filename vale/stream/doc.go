// Package stream plugs a port into QEMU's stream netdev: a unix socket that
// carries Ethernet frames one after the other, each behind its length. It is
// the way in for guests whose NIC is not virtio (e1000, rtl8139, ...) or whose
// memory cannot be shared.
//
//	-netdev stream,id=n0,server=off,addr.type=unix,addr.path=PATH   Listen
//	-netdev stream,id=n0,server=on,addr.type=unix,addr.path=PATH    Connect
//
// The format is that of QEMU's net/stream.c and of the older -netdev socket:
//
//	| length, 4 bytes big endian | frame, without FCS | length | frame | ...
//
// An Endpoint owns the socket and serves one peer at a time; each peer is a
// session of two goroutines around a vale.Client:
//
//	peer ──read──> parse ──> Batch ──> Client.Send ──> switch
//	switch ──> the client's ring ──> Client.Recv ──> one write for many frames ──> peer
//
// A peer that does not read blocks only its own writing goroutine. Its ring
// fills up and the switch drops what is for it as ring-full; senders never
// wait. There is no time limit on purpose: a paused guest does not read either,
// and goes on when it is resumed.
//
// A length of zero or beyond MaxFrame cannot be skipped over, since nothing
// after it can be trusted to be a length. It ends the session with ErrEmpty or
// ErrTooLong; the endpoint then waits for the next peer.
package stream
