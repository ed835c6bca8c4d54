package stream_test

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/vale-vmnet/vale-vmnet/vale"
)

// peer speaks QEMU's framing, written down a second time: it shares no code
// with the package.
type peer struct {
	conn net.Conn
	in   *bufio.Reader
}

func newPeer(conn net.Conn) *peer { return &peer{conn, bufio.NewReaderSize(conn, 1<<20)} }

func (p *peer) Send(frames ...[]byte) error {
	var out []byte
	for _, f := range frames {
		out = append(out, byte(len(f)>>24), byte(len(f)>>16), byte(len(f)>>8), byte(len(f)))
		out = append(out, f...)
	}
	_, err := p.conn.Write(out)
	return err
}

// Recv peeks until a frame is there as a whole, so that a context that ends
// in the middle of one loses nothing.
func (p *peer) Recv(ctx context.Context) ([]byte, error) {
	if err := p.conn.SetReadDeadline(time.Time{}); err != nil {
		return nil, err
	}
	defer context.AfterFunc(ctx, func() { p.conn.SetReadDeadline(time.Unix(1, 0)) })()
	head, err := p.in.Peek(4)
	if err == nil {
		n := 4 + int(binary.BigEndian.Uint32(head))
		if head, err = p.in.Peek(n); err == nil {
			f := append([]byte(nil), head[4:]...)
			_, err = p.in.Discard(n)
			return f, err
		}
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return nil, ctx.Err()
	}
	return nil, err
}

func (p *peer) Close() error { return p.conn.Close() }

// closedBy waits until the other side closes the connection.
func (p *peer) closedBy(t *testing.T) {
	t.Helper()
	p.conn.SetReadDeadline(time.Now().Add(patience))
	if _, err := io.Copy(io.Discard, p.in); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("the connection is still open after %v", patience)
	}
}

const patience = 20 * time.Second

func until(t testing.TB, what string, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !cond(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited %v in vain until %s", patience, what)
		}
	}
}

func newPort(t testing.TB, name string) *vale.Port {
	t.Helper()
	f := vale.New(vale.Config{})
	t.Cleanup(f.Close)
	return openPort(t, f, name)
}

func openPort(t testing.TB, f *vale.Fabric, name string) *vale.Port {
	t.Helper()
	n, err := vale.ParseName(name)
	if err != nil {
		t.Fatal(err)
	}
	p, _, err := f.Open(n)
	if err != nil {
		t.Fatal(err)
	}
	p.SetPersistent(true)
	return p
}

// socketDir is a directory with a short name: a socket's path has 107 bytes.
func socketDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "stream")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func socketPath(t testing.TB) string { return filepath.Join(socketDir(t), "s") }

func dial(t testing.TB, path string) *peer {
	t.Helper()
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return newPeer(conn)
}
