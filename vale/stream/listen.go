package stream

import (
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"

	"github.com/vale-vmnet/vale-vmnet/vale"
)

// ErrPathInUse says that somebody else listens on the socket path, or that
// something that is no socket lies there.
var ErrPathInUse = errors.New("path is in use")

// maxPath is the longest path that fits sockaddr_un with its final NUL.
const maxPath = len(syscall.RawSockaddrUnix{}.Path) - 1

func checkPath(path string) error {
	switch {
	case path == "":
		return errors.New("use stream socket: the path is empty")
	case len(path) > maxPath:
		return fmt.Errorf("use stream socket %s: the path has %d bytes; at most %d are allowed", path, len(path), maxPath)
	}
	return nil
}

// Listen makes a socket at path and serves the port on it. A socket that a
// dead process left there is replaced; one that somebody serves is not, the
// error is then ErrPathInUse.
func Listen(path string, port *vale.Port, o Options) (*Endpoint, error) {
	l, err := listen(path)
	if err != nil {
		return nil, fmt.Errorf("listen on stream socket %s: %w", path, err)
	}
	if o.Mode == 0 {
		o.Mode = 0o660
	}
	if err := os.Chmod(path, o.Mode); err != nil {
		l.Close()
		return nil, fmt.Errorf("set mode of stream socket: %w", err)
	}
	return Serve(l, port, o), nil
}

func listen(path string) (net.Listener, error) {
	if err := checkPath(path); err != nil {
		return nil, err
	}
	l, err := net.Listen("unix", path)
	if !errors.Is(err, syscall.EADDRINUSE) {
		return l, err
	}
	if st, err := os.Lstat(path); err == nil && st.Mode()&os.ModeSocket == 0 {
		return nil, fmt.Errorf("%w: there is a file that is not a socket; remove it or choose another path", ErrPathInUse)
	}
	conn, err := net.Dial("unix", path)
	if err == nil {
		conn.Close()
		return nil, fmt.Errorf("%w: another process serves it; stop that or choose another path", ErrPathInUse)
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return nil, fmt.Errorf("%w: ask its server: %w", ErrPathInUse, err)
	}
	if err := os.Remove(path); err != nil {
		return nil, err
	}
	return net.Listen("unix", path)
}
