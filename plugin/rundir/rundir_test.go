package rundir_test

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vale-vmnet/vale-vmnet/plugin/rundir"
)

// short makes a directory whose sockets have short enough paths.
func short(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "vrd")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func TestClearSocket(t *testing.T) {
	dir := short(t)
	path := func(name string) string { return filepath.Join(dir, name) }
	listen := func(name string) *net.UnixListener {
		l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path(name), Net: "unix"})
		if err != nil {
			t.Fatal(err)
		}
		l.SetUnlinkOnClose(false)
		t.Cleanup(func() { l.Close() })
		return l
	}
	listen("living")
	listen("dead").Close()
	if err := os.WriteFile(path("file"), []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(path("dir"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(path("living"), path("link")); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name  string
		want  error
		says  string
		stays bool
	}{
		{"nothing", nil, "", false},
		{"dead", nil, "", false},
		{"living", rundir.ErrInUse, "by process ", true},
		{"file", rundir.ErrInUse, "no socket", true},
		{"dir", rundir.ErrInUse, "no socket", true},
		{"link", rundir.ErrInUse, "no socket", true},
		{strings.Repeat("x", 107), rundir.ErrTooLong, "choose a shorter run_dir", false},
	}
	for _, tt := range tests {
		err := rundir.ClearSocket(path(tt.name))
		if !errors.Is(err, tt.want) || err != nil && (!strings.Contains(err.Error(), tt.says) || !strings.Contains(err.Error(), tt.name)) {
			t.Errorf("%s: error is %v, want %v and %q", tt.name, err, tt.want, tt.says)
		}
		if _, err := os.Lstat(path(tt.name)); (err == nil) != tt.stays {
			t.Errorf("%s: afterwards Lstat says %v, want it to stay: %v", tt.name, err, tt.stays)
		}
	}
}

func TestListenSetsAccess(t *testing.T) {
	dir := short(t)
	self, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	a, err := rundir.NewAccess(0o640, self.Gid)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "s")
	l, err := rundir.Listen(path, a)
	if err != nil {
		t.Fatal(err)
	}
	st, err := os.Stat(path)
	if err != nil || st.Mode() != fs.ModeSocket|0o640 {
		t.Errorf("socket is %v, %v; want mode 0640", st.Mode(), err)
	}
	if _, err := rundir.Listen(path, a); !errors.Is(err, rundir.ErrInUse) {
		t.Errorf("second listener gets %v", err)
	}
	l.Close()
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("closed listener leaves its socket: %v", err)
	}
	if _, err := rundir.NewAccess(0o660, "no-such-group-here"); err == nil || !strings.Contains(err.Error(), "no-such-group-here") {
		t.Errorf("unknown group gives %v", err)
	}
}

func TestAcquireIsExclusive(t *testing.T) {
	dir := rundir.Dir(short(t))
	first, err := dir.Acquire()
	if err != nil {
		t.Fatal(err)
	}
	_, err = dir.Acquire()
	if !errors.Is(err, rundir.ErrInUse) || !strings.Contains(err.Error(), "--run-dir") {
		t.Errorf("second agent gets %v", err)
	}
	first.Close()
	again, err := dir.Acquire()
	if err != nil {
		t.Fatalf("lock of an agent that is gone: %v", err)
	}
	again.Close()
}

func TestMake(t *testing.T) {
	dir := short(t)
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	open := filepath.Join(dir, "open")
	if err := os.Mkdir(open, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(open, 0o777); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ path, says string }{
		{filepath.Join(dir, "a/b/c"), ""},
		{dir, ""},
		{filepath.Join(dir, "file"), "no directory"},
		{open, "chmod o-w"},
		{filepath.Join(dir, strings.Repeat("y", 100)), "too long"},
	} {
		err := rundir.Dir(tt.path).Make()
		if (err == nil) != (tt.says == "") || err != nil && !strings.Contains(err.Error(), tt.says) {
			t.Errorf("Make(%s) gives %v, want %q", tt.path, err, tt.says)
		}
	}
}

// Ports may have names that look like a socket's.
func TestSocketsOfPortsDiffer(t *testing.T) {
	seen := map[string]string{}
	for _, port := range []string{"vale-1:a", "vale-1:a.stream", "vale-1:a.sock", "vale-1:a.sock.stream"} {
		for kind, path := range map[string]string{"vhost-user": rundir.Dir("/run").VhostUser(port), "stream": rundir.Dir("/run").Stream(port)} {
			if other, ok := seen[path]; ok {
				t.Errorf("%s is the %s socket of %s and the %s", path, kind, port, other)
			}
			seen[path] = kind + " socket of " + port
		}
	}
}
