package frame_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"testing"

	"github.com/vale-vmnet/vale-vmnet/vale/frame"
	"golang.org/x/sys/unix"
)

// TestSplitAsLinux gives the same frames to Split and to the kernel: two taps on
// a bridge in a network namespace of their own, the first with a virtio-net
// header, the second without any offload. What the kernel segments must be what
// we segment, byte for byte. (Not compared: UFO behind IPv6 extension headers.
// Linux 6.18 counts those into the fragment offset, against RFC 8200 4.5.)
func TestSplitAsLinux(t *testing.T) {
	in, out := openTaps(t)
	body := make([]byte, 9001)
	for i := range body {
		body[i] = byte(i*7 + i>>8)
	}
	tcpOpts := []byte{1, 1, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8}
	hop := []byte{0, 1, 4, 0, 0, 0, 0}
	for _, c := range []struct {
		name string
		k    packet
		typ  uint8
		size int
	}{
		{"tcp4 checksum", packet{id: 9, flags: 0x18}, frame.GSONone, 0},
		{"udp6 checksum", packet{udp: true, v6: true}, frame.GSONone, 0},
		{"tso4", packet{id: 0xfffe, seq: 0xfffff000, flags: 0x19, tcpOpts: tcpOpts}, frame.GSOTCPv4, 1448},
		{"tso4 tagged", packet{id: 5, tags: 1, flags: 0x10}, frame.GSOTCPv4, 1000},
		{"tso4 ecn", packet{id: 5, flags: 0x98}, frame.GSOTCPv4 | frame.GSOECN, 1460},
		{"tso6", packet{v6: true, flags: 0x19, tcpOpts: tcpOpts}, frame.GSOTCPv6, 1428},
		{"tso6 hop-by-hop", packet{v6: true, flags: 0x18, hop: hop}, frame.GSOTCPv6, 1420},
		{"ufo4", packet{udp: true, id: 77}, frame.GSOUDP, 1480},
		{"ufo6", packet{udp: true, v6: true}, frame.GSOUDP, 1448},
		{"uso4", packet{udp: true, id: 3}, frame.GSOUDPL4, 1472},
		{"uso6", packet{udp: true, v6: true, tags: 1}, frame.GSOUDPL4, 1452},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.k.payload = body
			if c.typ == frame.GSONone {
				c.k.payload = body[:1301]
			}
			h, pkt := c.k.vnet(c.typ, c.size), c.k.unfinished(c.k.partial())
			wire := make([]byte, frame.VnetHdrLen, frame.VnetHdrLen+len(pkt))
			h.Write(wire)
			_, err := unix.Write(in, append(wire, pkt...))
			if err == unix.EINVAL && c.typ == frame.GSOUDPL4 {
				if os.Getenv("CI") == "true" {
					t.Fatal("the kernel's tap does not know USO (Linux 6.2 does)")
				}
				t.Skip("the kernel's tap does not know USO")
			}
			if err != nil {
				t.Fatalf("write to tap: %v", err)
			}
			for i, seg := range mustSplit(t, h, pkt, 0) {
				want, got := readTap(t, out, pkt[6:12]), receive(seg)
				if c.typ == frame.GSOUDP && c.k.v6 { // both choose their own identification
					at := c.k.l4() + 4
					copy(got[at:at+4], want[at:])
				}
				if !bytes.Equal(got, want) {
					n := min(len(got), len(want), c.k.hdrLen()+8)
					t.Fatalf("segment %d: %d bytes, kernel %d\n%x\n%x", i, len(got), len(want), got[:n], want[:n])
				}
			}
		})
	}
}

// openTaps joins two taps by a bridge in a new network namespace.
func openTaps(t *testing.T) (in, out int) {
	t.Helper()
	missing := func(what string, err error) {
		if os.Getenv("CI") == "true" {
			t.Fatalf("missing %s: %v", what, err)
		}
		t.Skipf("missing %s: %v", what, err)
	}
	if _, err := exec.LookPath("ip"); err != nil {
		missing("command ip (package iproute2)", err)
	}
	// The thread keeps the namespace, so it must die with the test: no unlock.
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		missing("privilege for a network namespace", err)
	}
	var fds [2]int
	for i, flags := range []uint16{unix.IFF_VNET_HDR, 0} {
		fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
		if err != nil {
			missing("/dev/net/tun", err)
		}
		t.Cleanup(func() { unix.Close(fd) })
		req, err := unix.NewIfreq(fmt.Sprintf("tap%d", i))
		if err != nil {
			t.Fatal(err)
		}
		req.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI | flags)
		if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, req); err != nil {
			missing("privilege for a tap", err)
		}
		fds[i] = fd
	}
	for _, args := range [][]string{
		{"link", "add", "br0", "type", "bridge", "forward_delay", "0", "mcast_snooping", "0"},
		{"link", "set", "tap0", "mtu", "65521", "master", "br0", "up"},
		{"link", "set", "tap1", "mtu", "65521", "master", "br0", "up"},
		{"link", "set", "br0", "up"},
	} {
		if text, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
			missing(fmt.Sprintf("kernel bridge (ip %v: %s)", args, text), err)
		}
	}
	return fds[0], fds[1]
}

// readTap gives the next frame with the source address src; the namespace's own
// IPv6 talk goes by.
func readTap(t *testing.T, fd int, src []byte) []byte {
	t.Helper()
	buf := make([]byte, frame.MaxLen)
	for {
		n, err := unix.Read(fd, buf)
		switch {
		case err == nil && n > frame.HeaderLen && bytes.Equal(buf[6:12], src):
			return buf[:n]
		case err == unix.EAGAIN:
			ready, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 10_000)
			if ready == 0 && err == nil {
				t.Fatal("the kernel gave no more frames")
			}
		case err != nil && err != unix.EINTR:
			t.Fatalf("read from tap: %v", err)
		}
	}
}
