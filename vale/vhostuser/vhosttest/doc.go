// Package vhosttest is a vhost-user front end with a small guest behind it. It
// drives a back end the way QEMU does, for tests, fuzzing and benchmarks, and
// can misbehave in every way that a hostile guest or front end could.
//
//	Guest   the connection, the memory (memfds) and the queue pairs
//	Ring    a split virtqueue as a driver sees it (virtio 1.2, 2.7)
//	Tx, Rx  the two rings of a pair with their buffers: frames in and out
//
// It shares the message codec with the back end and nothing else, so that the
// rings of one side check those of the other: a completion that names a
// buffer which is not in flight, or a length beyond it, is an [ErrPeer].
//
// A Guest is used like this:
//
//	g, err := vhosttest.Dial(path, vhosttest.Config{Pairs: 1})
//	if err := g.Start(); err != nil { ... }
//	n, err := g.Tx[0].Send(vhosttest.Frame{Data: packet})
//	got, err := g.Rx[0].Recv(time.Second)
//
// Methods of Guest are for one goroutine; each Tx and Rx may have a goroutine
// of its own.
package vhosttest
