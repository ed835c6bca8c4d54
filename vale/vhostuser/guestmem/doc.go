// Package guestmem maps the memory a vhost-user front end shares with us and
// turns guest addresses into byte slices.
//
// A front end sends a memory table: each region names a range of guest
// physical addresses, where the front end itself has that range mapped (its
// user addresses), and a file that holds the bytes (vhost-user specification,
// "Memory region description"). Descriptors in a ring carry guest physical
// addresses; the addresses of the rings themselves are user addresses.
//
//	guest physical   0 ........ 3G      4G ........ 5G
//	                 | region 0 |       | region 1 |
//	file             0 ........ 3G ............... 4G   (one memfd, two offsets)
//
// A [Memory] is immutable. [Memory.Add] and [Memory.Remove] (used for
// CONFIGURE_MEM_SLOTS) return a new Memory that shares the mappings of the
// old one; a mapping goes when the last Memory that holds it is closed. A
// forwarding thread therefore keeps using the Memory it has, while the
// control thread prepares the next one; the owner closes the old one once no
// thread uses it or any slice that came from it.
//
// Nothing about the other side is trusted. Ranges are checked for overflow
// and overlap, files must be memory or a local disk file long enough for the
// region. Yet a front end may truncate its file later, and touching a page
// that is gone raises SIGBUS: callers run with
// [runtime/debug.SetPanicOnFault], and [Memory.Owns] tells whose memory a
// recovered fault address belongs to.
package guestmem
