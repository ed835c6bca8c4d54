// Package vhostuser plugs QEMU guests and other vhost-user front ends (DPDK's
// virtio-user) into switch ports. It is a vhost-user back end for virtio-net
// over split virtqueues.
//
//	Endpoint  a socket of one port: listens, or connects; one session at a
//	          time, and a new one whenever the front end comes back
//	session   one connection: negotiates, maps memory, starts and stops rings
//	link      what the switch sees: Deliver into the guest's receive queues
//	vring     one ring: its descriptors and eventfds, and a virtq.Queue
//
// Children: vhostproto is the wire format, guestmem the memory table, virtq the
// rings, vhosttest a front end for tests.
//
// The front end and the guest behind it are not trusted. A message that breaks
// the protocol ends the session; a ring that breaks its rules, or memory that
// goes away, ends it too. The reason is logged and kept for observers, the
// port's link goes down, and nothing else happens; the front end may connect
// again.
//
// Offloads are negotiated with each guest on its own and pass through the
// switch as virtio-net headers: a 64 KiB TSO frame goes from guest to guest in
// one piece, its checksum never computed, when both sides can. The switch
// segments and sums only for receivers that cannot.
package vhostuser
