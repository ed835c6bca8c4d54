// Package vhostproto is the wire format of vhost-user: how a front end (QEMU,
// DPDK's virtio-user, ...) tells a back end (us) about its memory and its
// rings over a unix socket.
//
// Each message is a header of 12 bytes, a payload of at most 4 KiB, and
// perhaps file descriptors that travel beside the first byte (unix(7),
// SCM_RIGHTS):
//
//	 0        4       8      12             12+size
//	+--------+-------+------+---------------+
//	| request| flags | size |    payload    |   + 0..8 file descriptors
//	+--------+-------+------+---------------+
//
// [Conn] reads and writes messages and owns the descriptors until they are
// taken. [Decode] turns a payload into a typed [Body] that has passed its
// Validate. A message that arrived whole but is wrong gives a [MessageError]:
// the stream is still in step, so the receiver may answer it and go on. Every
// other error ends the connection.
//
// The specification (QEMU, docs/interop/vhost-user.rst) has integers in the
// byte order of the host; this package supports the little-endian ones.
package vhostproto
