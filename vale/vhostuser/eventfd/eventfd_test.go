package eventfd

import (
	"errors"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func open(t testing.TB) int {
	t.Helper()
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return fd
}

func TestSignal(t *testing.T) {
	fd := open(t)
	var s Signaler
	s.Signal(fd)
	s.Signal(fd)
	var b [8]byte
	if _, err := unix.Read(fd, b[:]); err != nil || b[0] != 2 {
		t.Errorf("eventfd has %v, %v", b, err)
	}
}

// TestStuckSignalIsFreed signals a full, blocking eventfd.
func TestStuckSignalIsFreed(t *testing.T) {
	w := NewWatch()
	defer w.Close()
	for range 2 {
		fd := open(t)
		if _, err := unix.Write(fd, []byte{0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}); err != nil {
			t.Fatal(err)
		}
		var s Signaler
		told := make(chan struct{}, 1)
		w.Add(&s, func() { told <- struct{}{} })
		ended := make(chan struct{})
		go func() {
			s.Signal(fd)
			close(ended)
		}()
		for _, what := range []chan struct{}{told, ended} {
			select {
			case <-what:
			case <-time.After(20 * time.Second):
				t.Fatal("the write was not freed")
			}
		}
		w.Remove(&s)
	}
}

// TestSlowSignalIsLeftAlone looks at a write that has not ended, but could.
func TestSlowSignalIsLeftAlone(t *testing.T) {
	fd := open(t)
	var s Signaler
	s.fd.Store(int64(fd))
	s.writes.Store(7)
	if s.free(7) {
		t.Error("a write to an empty eventfd counts as stuck")
	}
}

// TestDrainNeverBlocks empties an eventfd that is empty and blocking.
func TestDrainNeverBlocks(t *testing.T) {
	fd := open(t)
	drain(fd)
	var b [8]byte
	if _, err := unix.Preadv2(fd, [][]byte{b[:]}, -1, unix.RWF_NOWAIT); !errors.Is(err, unix.EAGAIN) {
		t.Errorf("read of an empty eventfd: %v, want %v", err, unix.EAGAIN)
	}
}

func BenchmarkSignal(b *testing.B) {
	fd := open(b)
	var s Signaler
	for range b.N {
		s.Signal(fd)
	}
}
