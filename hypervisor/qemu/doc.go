// Package qemu reads QEMU command lines and rewrites those that name a port of
// a VALE switch, so that the classic form
//
//	qemu-system-x86_64 -net nic -net netmap,ifname=vale-1:a ...
//
// works with any QEMU, also one that was built without the netmap back end.
//
// [Rewrite] is a pure function from (command line, [Env]) to a new command
// line, the VM it describes and sentences for the user. What it knows about
// the QEMU at hand comes from [Probe]. Running QEMU, listening on sockets and
// telling the agent about the VM is the caller's work.
//
// # What a NIC becomes
//
// Each `netmap` back end whose ifname names a port becomes one of:
//
//   - netmap, as written, when that QEMU has the back end and /dev/netmap is
//     served;
//   - vhost-user, for virtio NICs: rings in guest memory, which therefore has
//     to be shared memory. A memory-backend-memfd of the guest's size is added,
//     or the user's own memory back ends are adapted;
//   - stream, for other NIC models: frames over a unix socket.
//
// A `-net nic` or `-nic` without a model becomes virtio-net, unless
// Env.KeepNIC asks for QEMU's default model.
//
// # The legacy hub
//
// QEMU joins everything given with `-net` on one hub ("hub 0"). One NIC and
// one netmap on the hub are simply connected, and become a direct pair. NICs
// and netmaps that alternate (nic, netmap, nic, netmap) are taken for one pair
// each, which is what a user with several NICs means; QEMU's hub would have
// joined the switches instead. The old `vlan=N` option, which QEMU dropped in
// 3.0, still groups here. Any other mixture keeps QEMU's hub: its netmap back
// ends become stream back ends on hub ports.
//
// # Passing through
//
// Options this package does not understand are passed through byte for byte
// and in order, and so are those it understands but has no reason to change.
package qemu
