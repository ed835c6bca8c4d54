package vhostproto

import (
	"bytes"
	"encoding/hex"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// capture makes TestCaptureQEMU write testdata anew:
//
//	go test ./vale/vhostuser/vhostproto -run TestCaptureQEMU -capture
var capture = flag.Bool("capture", false, "save the first messages of the installed QEMU in testdata")

const captureFile = "testdata/qemu.txt"

// TestCaptureQEMU is a back end that answers just enough for QEMU and the
// network boot ROM in it to set up memory and rings, and that saves the bytes.
func TestCaptureQEMU(t *testing.T) {
	if !*capture {
		return // a tool, not a test
	}
	path := filepath.Join(t.TempDir(), "sock")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	qemu := exec.Command("qemu-system-x86_64", "-nodefaults", "-display", "none", "-machine", "q35,accel=tcg",
		"-m", "256", "-object", "memory-backend-memfd,id=m,size=256M,share=on", "-machine", "memory-backend=m",
		"-chardev", "socket,id=c,path="+path, "-netdev", "vhost-user,id=n,chardev=c",
		"-device", "virtio-net-pci,netdev=n,vectors=0,disable-legacy=on", "-boot", "n")
	qemu.Stderr = os.Stderr
	if err := qemu.Start(); err != nil {
		t.Fatal(err)
	}
	defer qemu.Wait()
	defer qemu.Process.Kill()
	sock, err := l.AcceptUnix()
	if err != nil {
		t.Fatal(err)
	}
	c := NewConn(sock)
	defer c.Close()
	if err := sock.SetDeadline(time.Now().Add(90 * time.Second)); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	version, err := exec.Command("qemu-system-x86_64", "--version").Output()
	if err != nil {
		t.Fatal(err)
	}
	first, _, _ := strings.Cut(string(version), "\n")
	fmt.Fprintf(&out, "# %s: request, descriptors, bytes\n", first)
	for enabled := 0; enabled < 2; {
		m, err := c.ReadMessage()
		if err != nil {
			t.Fatal(err)
		}
		raw := append(m.Header.Append(nil), m.Payload...)
		fmt.Fprintf(&out, "%v %d %s\n", m.Request, len(m.FDs), hex.EncodeToString(raw))
		switch m.Request {
		case GetFeatures:
			err = c.Reply(m.Header, U64(FVersion1|FProtocolFeatures|FRingIndirectDesc|FRingEventIdx|NetFMrgRxbuf|NetFCsum|NetFMTU))
		case GetProtocolFeatures:
			err = c.Reply(m.Header, U64(ProtocolFMQ|ProtocolFRARP|ProtocolFReplyAck|ProtocolFMTU|ProtocolFBackendReq|ProtocolFConfigureMemSlots|ProtocolFStatus))
		case GetQueueNum:
			err = c.Reply(m.Header, U64(1))
		case GetMaxMemSlots:
			err = c.Reply(m.Header, U64(32))
		case GetStatus:
			err = c.Reply(m.Header, U64(0))
		case SetVringKick:
			// The last things QEMU tells about the two rings.
			enabled++
			err = c.Ack(m.Header, true)
		default:
			err = c.Ack(m.Header, true)
		}
		if err != nil {
			t.Fatal(err)
		}
		m.Close()
	}
	if err := os.WriteFile(captureFile, out.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}

// captured is one line of a capture.
type captured struct {
	name string
	fds  int
	raw  []byte
}

func readCapture(t testing.TB) []captured {
	t.Helper()
	text, err := os.ReadFile(captureFile)
	if err != nil {
		t.Fatal(err)
	}
	var list []captured
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		var c captured
		var digits string
		if _, err := fmt.Sscan(line, &c.name, &c.fds, &digits); err != nil {
			t.Fatalf("parse %q: %v", line, err)
		}
		if c.raw, err = hex.DecodeString(digits); err != nil {
			t.Fatal(err)
		}
		list = append(list, c)
	}
	return list
}

// TestQEMUCapture decodes what a real QEMU sent and encodes it again to the
// same bytes.
func TestQEMUCapture(t *testing.T) {
	list := readCapture(t)
	seen := map[Request]bool{}
	for _, c := range list {
		h, err := ParseHeader(c.raw)
		if err != nil {
			t.Fatal(err)
		}
		seen[h.Request] = true
		if h.Request.String() != c.name {
			t.Errorf("%s parsed as %v", c.name, h.Request)
		}
		if int(h.Size) != len(c.raw)-HeaderSize {
			t.Fatalf("%s: size %d of %d bytes", c.name, h.Size, len(c.raw))
		}
		body, err := Decode(h.Request, c.raw[HeaderSize:], c.fds)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if again := body.Append(h.Append(nil)); !bytes.Equal(again, c.raw) {
			t.Errorf("%s: %x became %x", c.name, c.raw, again)
		}
	}
	for _, want := range []Request{GetFeatures, SetFeatures, SetOwner, AddMemReg, SetVringNum, SetVringBase,
		SetVringAddr, SetVringKick, SetVringCall, SetVringEnable, SetProtocolFeatures} {
		if !seen[want] {
			t.Errorf("the capture has no %v", want)
		}
	}
}
