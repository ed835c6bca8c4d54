// Package virtq is the device side of split virtqueues (virtio 1.2, section
// 2.7) that carry Ethernet frames (section 5.1.6), over memory that belongs to
// a hostile guest.
//
//	descriptor table   address, length, flags, next: written by the driver
//	available ring     heads of descriptor chains offered to the device
//	used ring          heads given back, with the bytes written
//
// A Queue is used in one of two roles:
//
//	transmitq   Gather takes frames, in place, into a vale.Batch; the switch
//	            copies them; Complete gives the descriptors back
//	receiveq    Deliver copies frames of a batch into offered buffers
//
// Trust: the driver may change any byte of the rings and buffers at any time.
// Every index, address, length and flag is loaded once into a local variable,
// checked, and only the copy is used. Loops that follow the driver's data are
// bounded by the queue size. A violation breaks the queue with an Error that
// names it; a broken queue moves nothing until its session starts it anew.
// Memory that vanishes raises a panic (debug.SetPanicOnFault); Deliver turns it
// into a broken queue when the memory is its own guest's, and passes it on when
// it is the sender's.
//
// Indices are 16 bits and wrap; differences of them count entries.
//
// The byte order is the host's, which virtio 1.x fixes as little-endian, so the
// package builds for little-endian hosts.
package virtq
