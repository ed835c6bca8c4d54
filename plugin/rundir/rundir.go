// Package rundir knows what lies in the agent's runtime directory:
//
//	api.sock             the control socket
//	agent.lock           held by the agent that serves the directory
//	state.json           ports and VMs to come back to after a restart
//	vale-1:a.sock        the vhost-user socket of port vale-1:a
//	vale-1:a.stream      its stream socket
//
// The names are part of the interface: libvirt domains name such a socket.
package rundir

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Dir is the path of a runtime directory.
type Dir string

// API is the control socket.
func (d Dir) API() string { return filepath.Join(string(d), "api.sock") }

// Lock is the file that the serving agent holds locked.
func (d Dir) Lock() string { return filepath.Join(string(d), "agent.lock") }

// State is the file for the next agent.
func (d Dir) State() string { return filepath.Join(string(d), "state.json") }

// VhostUser is the socket of a port, given by its canonical name, for virtio
// guests.
func (d Dir) VhostUser(port string) string { return filepath.Join(string(d), port+".sock") }

// Stream is the socket of a port for other guests.
func (d Dir) Stream(port string) string { return filepath.Join(string(d), port+".stream") }

// maxPath is the longest path of a unix socket: sun_path less its final NUL.
const maxPath = 107

// CheckPath refuses paths that are too long for a unix socket.
func CheckPath(path string) error {
	if len(path) > maxPath {
		return fmt.Errorf("socket path %s %w: it has %d bytes, the kernel allows %d; choose a shorter run_dir", path, ErrTooLong, len(path), maxPath)
	}
	return nil
}

var (
	// ErrInUse is wrapped by the errors about a path that somebody else uses.
	ErrInUse = errors.New("is in use")
	// ErrTooLong is wrapped by the errors about a path that no unix socket
	// can have.
	ErrTooLong = errors.New("is too long")
)

// Make makes the directory when it is missing.
func (d Dir) Make() error {
	if err := CheckPath(d.API()); err != nil {
		return err
	}
	err := os.MkdirAll(filepath.Dir(string(d)), 0o755)
	if err == nil {
		err = os.Mkdir(string(d), 0o755)
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("make runtime directory: %w; choose another with --run-dir", err)
	}
	st, err := os.Stat(string(d))
	switch {
	case err != nil:
		return fmt.Errorf("make runtime directory: %w", err)
	case !st.IsDir():
		return fmt.Errorf("make runtime directory: %s is there and is no directory; remove it or choose another with --run-dir", d)
	case errors.Is(unix.Access(string(d), unix.W_OK|unix.X_OK), fs.ErrPermission):
		return fmt.Errorf("use runtime directory: no permission to write in %s; run as root or choose another with --run-dir", d)
	case st.Mode().Perm()&0o002 != 0:
		return fmt.Errorf("use runtime directory: everybody may write in %s and take over a guest's socket; run \"chmod o-w %s\" or choose another with --run-dir", d, d)
	}
	return nil
}

// Acquire takes the directory for this process. The returned file holds the
// lock until it is closed or the process ends.
func (d Dir) Acquire() (*os.File, error) {
	f, err := os.OpenFile(d.Lock(), os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o644)
	if err != nil {
		return nil, fmt.Errorf("lock runtime directory: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		defer f.Close()
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("lock %s: %w", d.Lock(), err)
		}
		var pid [16]byte
		n, _ := f.Read(pid[:])
		return nil, fmt.Errorf("runtime directory %s %w by another agent (process %s); stop it, or give this one another --run-dir",
			d, ErrInUse, strings.TrimSpace(string(pid[:n])))
	}
	if err := f.Truncate(0); err == nil {
		fmt.Fprintf(f, "%d\n", os.Getpid())
	}
	return f, nil
}

// ClearSocket makes way for a listening socket at path: the leftover of a dead
// agent is removed, a living socket or anything else is left alone.
func ClearSocket(path string) error {
	if err := CheckPath(path); err != nil {
		return err
	}
	st, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look for an old socket: %w", err)
	}
	if st.Mode().Type() != fs.ModeSocket {
		return fmt.Errorf("socket path %s %w: there is something that is no socket; move it away", path, ErrInUse)
	}
	conn, err := (&net.Dialer{Timeout: time.Second}).Dial("unix", path)
	switch {
	case err == nil:
		pid := peerPID(conn)
		conn.Close()
		return fmt.Errorf("socket path %s %w by process %d; stop that process, or use another port or --run-dir", path, ErrInUse, pid)
	case errors.Is(err, syscall.ECONNREFUSED):
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove old socket: %w", err)
		}
		return nil
	case errors.Is(err, syscall.EAGAIN), errors.Is(err, os.ErrDeadlineExceeded):
		// Somebody listens and does not keep up.
		return fmt.Errorf("socket path %s %w; stop its process, or use another port or --run-dir", path, ErrInUse)
	default:
		return fmt.Errorf("socket path %s cannot be taken over: %w; remove it or use another port or --run-dir", path, err)
	}
}

// Listen makes a listening socket at path that only those in a may open.
// Closing the listener removes the socket.
func Listen(path string, a Access) (*net.UnixListener, error) {
	if err := ClearSocket(path); err != nil {
		return nil, err
	}
	// Linux gives the file the mode of the socket (unix_bind in af_unix.c), so
	// that at no time anybody else may open it.
	private := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var chmod error
		if err := c.Control(func(fd uintptr) { chmod = unix.Fchmod(int(fd), 0o600) }); err != nil {
			return err
		}
		return chmod
	}}
	l, err := private.Listen(context.Background(), "unix", path)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("socket path %s %w since a moment ago; try again", path, ErrInUse)
	}
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	if err := a.Apply(path); err != nil {
		l.Close()
		return nil, err
	}
	return l.(*net.UnixListener), nil
}

// peerPID asks the kernel for the process that listens at the other end.
func peerPID(conn net.Conn) int {
	raw, err := conn.(*net.UnixConn).SyscallConn()
	if err != nil {
		return 0
	}
	pid := 0
	_ = raw.Control(func(fd uintptr) {
		if cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
			pid = int(cred.Pid)
		}
	})
	return pid
}
