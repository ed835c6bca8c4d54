package vhostproto

import (
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vale-vmnet/vale-vmnet/vale/vhostuser/guestmem"
)

// pair returns both ends of a connection.
func pair(t testing.TB) (front, back *Conn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	var ends [2]*Conn
	for i, fd := range fds {
		file := os.NewFile(uintptr(fd), "pair")
		sock, err := net.FileConn(file)
		file.Close()
		if err != nil {
			t.Fatal(err)
		}
		ends[i] = NewConn(sock.(*net.UnixConn))
		t.Cleanup(func() { ends[i].Close() })
		// Nothing here waits unless something is broken.
		if err := ends[i].sock.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
			t.Fatal(err)
		}
	}
	return ends[0], ends[1]
}

func eventFD(t testing.TB) int {
	t.Helper()
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return fd
}

func openFDs(t testing.TB) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

func TestRequestAndReply(t *testing.T) {
	front, back := pair(t)
	if err := front.Send(GetFeatures, 0, Empty{}); err != nil {
		t.Fatal(err)
	}
	m, body, err := back.Receive()
	if err != nil || m.Request != GetFeatures || body != (Empty{}) {
		t.Fatalf("Receive = %+v, %+v, %v", m, body, err)
	}
	if err := back.Reply(m.Header, U64(FVersion1)); err != nil {
		t.Fatal(err)
	}
	reply, err := front.ReadMessage()
	if err != nil || !reply.IsReply() || reply.Request != GetFeatures || reply.Flags != flagVersion|FlagReply {
		t.Fatalf("ReadMessage = %+v, %v", reply, err)
	}
	if v, err := ParseU64(reply.Payload); err != nil || Features(v) != FVersion1 {
		t.Fatalf("answer is %#x, %v", v, err)
	}
}

func TestDescriptorsTravel(t *testing.T) {
	front, back := pair(t)
	kick := eventFD(t)
	before := openFDs(t)
	if err := front.Send(SetVringKick, 0, VringFile{Index: 3}, kick); err != nil {
		t.Fatal(err)
	}
	m, body, err := back.Receive()
	if err != nil || body != (VringFile{Index: 3}) {
		t.Fatalf("Receive = %+v, %v", body, err)
	}
	fd := m.TakeFD()
	if m.TakeFD() != -1 {
		t.Error("a second descriptor appeared")
	}
	m.Close()
	if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
		t.Errorf("descriptor flags %#x, %v: want close-on-exec", flags, err)
	}
	if _, err := unix.Write(fd, []byte{7, 0, 0, 0, 0, 0, 0, 0}); err != nil {
		t.Fatal(err)
	}
	var b [8]byte
	if _, err := unix.Read(kick, b[:]); err != nil || b[0] != 7 {
		t.Fatalf("eventfd has %v, %v", b, err)
	}
	unix.Close(fd)
	if after := openFDs(t); after != before {
		t.Errorf("%d descriptors open, %d before", after, before)
	}
}

// TestRejectedMessagesCloseDescriptors sends messages that Receive refuses and
// counts descriptors; the connection stays in step.
func TestRejectedMessagesCloseDescriptors(t *testing.T) {
	kick := eventFD(t)
	file, err := os.CreateTemp(t.TempDir(), "file")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	tests := []struct {
		name string
		req  Request
		body Body
		fds  []int
	}{
		{"unknown request", 77, U64(1), []int{kick, kick}},
		{"unwanted descriptor", SetOwner, Empty{}, []int{kick}},
		{"two kicks", SetVringKick, VringFile{}, []int{kick, kick}},
		{"kick is a file", SetVringKick, VringFile{}, []int{int(file.Fd())}},
		{"overlapping memory", SetMemTable, MemTable{[]guestmem.Region{{Size: 1}, {Size: 1}}}, []int{kick, kick}},
		{"short payload", SetVringAddr, U64(0), []int{kick}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			front, back := pair(t)
			before := openFDs(t)
			if err := front.Send(tt.req, FlagNeedReply, tt.body, tt.fds...); err != nil {
				t.Fatal(err)
			}
			_, _, err := back.Receive()
			var refused *MessageError
			if !errors.As(err, &refused) || refused.Header.Request != tt.req {
				t.Fatalf("Receive = %v, want a MessageError", err)
			}
			if after := openFDs(t); after != before {
				t.Errorf("%d descriptors open, %d before", after, before)
			}
			if err := back.Refuse(refused.Header); err != nil {
				t.Fatal(err)
			}
			reply, err := front.ReadMessage()
			if err != nil {
				t.Fatal(err)
			}
			if v, err := ParseU64(reply.Payload); err != nil || v == 0 {
				t.Errorf("answer is %d, %v: want a refusal", v, err)
			}
			if err := front.Send(GetFeatures, 0, Empty{}); err != nil {
				t.Fatal(err)
			}
			if m, _, err := back.Receive(); err != nil || m.Request != GetFeatures {
				t.Errorf("after the refusal Receive = %+v, %v", m, err)
			}
		})
	}
}

func TestTooManyDescriptors(t *testing.T) {
	front, back := pair(t)
	kick := eventFD(t)
	before := openFDs(t)
	fds := make([]int, MaxFDs+1)
	for i := range fds {
		fds[i] = kick
	}
	if err := front.Send(SetOwner, 0, Empty{}, fds...); err != nil {
		t.Fatal(err)
	}
	if _, _, err := back.Receive(); !errors.Is(err, ErrTooManyFDs) {
		t.Errorf("Receive = %v, want %v", err, ErrTooManyFDs)
	}
	if after := openFDs(t); after != before {
		t.Errorf("%d descriptors open, %d before", after, before)
	}
}

// TestPieces sends a message byte by byte, with a descriptor beside each byte
// of the payload, which belongs to no message.
func TestPieces(t *testing.T) {
	front, back := pair(t)
	kick := eventFD(t)
	before := openFDs(t)
	raw := U64(FVersion1).Append(Header{SetFeatures, flagVersion, 8}.Append(nil))
	for i := range raw {
		var rights []byte
		if i >= HeaderSize {
			rights = unix.UnixRights(kick)
		}
		if _, _, err := front.sock.WriteMsgUnix(raw[i:i+1], rights, nil); err != nil {
			t.Fatal(err)
		}
	}
	_, body, err := back.Receive()
	if err != nil || body != U64(FVersion1) {
		t.Fatalf("Receive = %+v, %v", body, err)
	}
	if after := openFDs(t); after != before {
		t.Errorf("%d descriptors open, %d before", after, before)
	}
}

func TestEndOfStream(t *testing.T) {
	raw := U64(1).Append(Header{SetFeatures, flagVersion, 8}.Append(nil))
	for n := range raw {
		front, back := pair(t)
		if _, err := front.sock.Write(raw[:n]); err != nil {
			t.Fatal(err)
		}
		front.Close()
		want := io.ErrUnexpectedEOF
		if n == 0 {
			want = io.EOF
		}
		if _, _, err := back.Receive(); !errors.Is(err, want) {
			t.Errorf("after %d bytes Receive = %v, want %v", n, err, want)
		}
		back.Close()
	}
}

func TestBrokenHeaders(t *testing.T) {
	tests := []struct {
		name   string
		header Header
		want   error
	}{
		{"version 0", Header{GetFeatures, 0, 0}, ErrVersion},
		{"version 2", Header{GetFeatures, 2, 0}, ErrVersion},
		{"too long", Header{GetFeatures, flagVersion, MaxPayload + 1}, ErrTooLong},
		{"much too long", Header{GetFeatures, flagVersion, ^uint32(0)}, ErrTooLong},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			front, back := pair(t)
			if _, err := front.sock.Write(tt.header.Append(nil)); err != nil {
				t.Fatal(err)
			}
			if _, _, err := back.Receive(); !errors.Is(err, tt.want) {
				t.Errorf("Receive = %v, want %v", err, tt.want)
			}
		})
	}
}

func TestAckOnlyWhenAsked(t *testing.T) {
	front, back := pair(t)
	if err := back.Ack(Header{SetOwner, flagVersion, 0}, false); err != nil {
		t.Fatal(err)
	}
	if err := back.Ack(Header{SetFeatures, flagVersion | FlagNeedReply, 0}, true); err != nil {
		t.Fatal(err)
	}
	reply, err := front.ReadMessage()
	if err != nil || reply.Request != SetFeatures {
		t.Fatalf("first answer is %+v, %v", reply, err)
	}
	if err := back.Refuse(Header{GetVringBase, flagVersion, 8}); !errors.Is(err, ErrNoRefusal) {
		t.Errorf("Refuse = %v, want %v", err, ErrNoRefusal)
	}
}
