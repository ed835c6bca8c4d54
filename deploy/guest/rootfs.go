package guest

import (
	"bytes"
	"context"
	"debug/elf"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// addPrograms puts the daemon and the tools that tests call into the archive.
func addPrograms(ctx context.Context, a *archive) error {
	daemon, err := buildDaemon(ctx)
	if err != nil {
		return err
	}
	a.file("bin/guestd", 0o755, daemon)
	a.symlink("init", "/bin/guestd")
	a.file("etc/passwd", 0o644, []byte("root:x:0:0:root:/:/bin/sh\n"))
	a.file("etc/group", 0o644, []byte("root:x:0:\n"))
	a.file("etc/hosts", 0o644, []byte("127.0.0.1 localhost\n"))

	libraries := map[string]bool{}
	for _, name := range []string{"busybox", "iperf3", "ethtool"} {
		path, err := findProgram(name)
		if err != nil {
			return err
		}
		if err := addELF(ctx, a, "bin/"+name, path, libraries); err != nil {
			return err
		}
	}
	applets, err := exec.CommandContext(ctx, "busybox", "--list").Output()
	if err != nil {
		return fmt.Errorf("list busybox applets: %w", err)
	}
	for _, name := range strings.Fields(string(applets)) {
		if name != "busybox" {
			a.symlink("bin/"+name, "busybox")
		}
	}
	return nil
}

// buildDaemon compiles guestd as a static program.
func buildDaemon(ctx context.Context) ([]byte, error) {
	dir, err := os.MkdirTemp("", "guestd-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	out := filepath.Join(dir, "guestd")
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w", "-o", out,
		"github.com/vale-vmnet/vale-vmnet/deploy/guest/guestd")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64", "GOFLAGS=")
	if msg, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("compile guestd: %w: %s", err, bytes.TrimSpace(msg))
	}
	return os.ReadFile(out)
}

// addELF adds a program and, once each, the shared libraries it loads, at the
// paths where the loader looks for them.
func addELF(ctx context.Context, a *archive, name, path string, libraries map[string]bool) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	a.file(name, 0o755, data)
	if static, err := isStatic(path); err != nil || static {
		return err
	}
	out, err := exec.CommandContext(ctx, "ldd", path).Output()
	if err != nil {
		return fmt.Errorf("list shared libraries of %s: %w", path, err)
	}
	for _, lib := range parseLdd(string(out)) {
		if libraries[lib] {
			continue
		}
		libraries[lib] = true
		data, err := os.ReadFile(lib)
		if err != nil {
			return fmt.Errorf("copy shared library: %w", err)
		}
		a.file(lib, 0o755, data)
	}
	return nil
}

func isStatic(path string) (bool, error) {
	f, err := elf.Open(path)
	if err != nil {
		return false, fmt.Errorf("read program %s: %w", path, err)
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			return false, nil
		}
	}
	return true, nil
}

// parseLdd takes the paths from lines like
//
//	libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f...)
//	/lib64/ld-linux-x86-64.so.2 (0x00007f...)
func parseLdd(out string) []string {
	var libs []string
	for line := range strings.Lines(out) {
		for _, f := range strings.Fields(line) {
			if strings.HasPrefix(f, "/") {
				libs = append(libs, f)
				break
			}
		}
	}
	return libs
}
