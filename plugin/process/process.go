// Package process watches processes that are not our children.
//
// A process id alone is no name: it is reused. A pidfd (pidfd_open(2)) stays
// with the process it was opened for and becomes readable when that ends; the
// start time (proc(5), field 22 of stat) ties it to the process that was meant.
package process

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// ErrGone says that a process has ended, or that another one has its id.
var ErrGone = errors.New("process has ended")

// Handle is one running process.
type Handle struct {
	pid   int
	start uint64
	pidfd *os.File

	done chan struct{}
	once sync.Once
}

// Open takes hold of a process. start is its start time, 0 for that of
// whichever process has the id now.
func Open(pid int, start uint64) (*Handle, error) {
	if pid <= 0 {
		return nil, fmt.Errorf("watch process %d: no such id", pid)
	}
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil, fmt.Errorf("watch process %d: %w", pid, ErrGone)
	}
	if err != nil {
		return nil, fmt.Errorf("watch process %d: pidfd_open: %w", pid, err)
	}
	// Non-blocking, so that the runtime waits in its poller and no thread does.
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("watch process %d: %w", pid, err)
	}
	h := &Handle{pid: pid, pidfd: os.NewFile(uintptr(fd), "pidfd"), done: make(chan struct{})}
	// Read after the pidfd is open: had the process ended since, it would not
	// be alive now.
	h.start, err = StartTime(pid)
	if err != nil || start != 0 && h.start != start || !h.Alive() {
		h.pidfd.Close()
		return nil, fmt.Errorf("watch process %d: %w", pid, ErrGone)
	}
	go h.wait()
	return h, nil
}

// PID gives the process id.
func (h *Handle) PID() int { return h.pid }

// StartTime gives the process's start time.
func (h *Handle) StartTime() uint64 { return h.start }

// Done is closed when the process has ended, or the handle was closed.
func (h *Handle) Done() <-chan struct{} { return h.done }

// Alive looks whether the process still runs. A zombie does not.
func (h *Handle) Alive() bool {
	raw, err := h.pidfd.SyscallConn()
	if err != nil {
		return false
	}
	ended := true
	if raw.Control(func(fd uintptr) { ended = readable(int(fd)) }) != nil {
		return false
	}
	return !ended
}

// Close lets go of the process.
func (h *Handle) Close() {
	h.once.Do(func() { h.pidfd.Close() })
}

func (h *Handle) wait() {
	defer close(h.done)
	raw, err := h.pidfd.SyscallConn()
	if err != nil {
		return
	}
	// Returns when the process has ended or the file is closed.
	_ = raw.Read(func(fd uintptr) bool { return readable(int(fd)) })
}

func readable(fd int) bool {
	fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	n, err := unix.Poll(fds, 0)
	return err == nil && n == 1
}

// StartTime reads when a process started, in clock ticks since boot.
func StartTime(pid int) (uint64, error) {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
			return 0, ErrGone
		}
		return 0, fmt.Errorf("read start time: %w", err)
	}
	return parseStat(string(text))
}

// parseStat finds field 22. The second field is the program's name in
// parentheses and may itself hold blanks and parentheses.
func parseStat(text string) (uint64, error) {
	i := strings.LastIndexByte(text, ')')
	fields := strings.Fields(text[i+1:])
	const after = 22 - 3 // the first field behind the name is number 3
	if i < 0 || len(fields) <= after {
		return 0, fmt.Errorf("read start time: /proc stat has %d fields", len(fields))
	}
	return strconv.ParseUint(fields[after], 10, 64)
}
