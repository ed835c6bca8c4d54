package guest

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// need skips without the programs, but fails where they were promised.
func need(t *testing.T) {
	t.Helper()
	if err := Check(); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
}

// TestGuests boots two guests on one wire without any switch, so that what
// fails here is the guests' fault.
func TestGuests(t *testing.T) {
	need(t)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	image, err := Build(ctx, Options{Progress: t.Logf})
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "guest-") // t.TempDir is too long for a socket's name
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	accel := image.Accel(ctx)
	wire := filepath.Join(dir, "wire.sock")
	var g [2]*Guest
	for i, nic := range []string{"server=on", "server=off"} {
		vm := VM{Dir: filepath.Join(dir, fmt.Sprint(i)), Accel: accel}
		argv := []string{"qemu-system-x86_64",
			"-device", fmt.Sprintf("virtio-net-pci,netdev=n,mac=52:54:00:00:00:0%d", i+1),
			"-netdev", "stream,id=n,addr.type=unix,addr.path=" + wire + "," + nic}
		if g[i], err = Start(vm, append(argv, image.Args(vm)...)); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(g[i].Kill)
		for i == 0 && !exists(wire) {
			select {
			case <-ctx.Done():
				t.Fatal("QEMU does not listen: ", g[0].Logs())
			case <-time.After(10 * time.Millisecond):
			}
		}
	}
	var wg sync.WaitGroup
	for i := range g {
		wg.Go(func() {
			if err := g[i].WaitBoot(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	if wg.Wait(); t.Failed() {
		return
	}
	run := func(g *Guest, command string) string {
		t.Helper()
		out, err := g.Run(ctx, command)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}

	t.Run("status and output", func(t *testing.T) {
		out, err := g[0].Run(ctx, `echo "a
b{}\"" ; echo c >&2; exit 7`)
		var status *ExitError
		if !errors.As(err, &status) || status.Status != 7 || out != "a\nb{}\"\nc\n" {
			t.Fatalf("got %q, %v", out, err)
		}
		if _, err := g[0].Run(ctx, "kill -9 $$"); !errors.As(err, &status) || status.Status != 137 {
			t.Fatalf("killed by signal: got %v, want status 137", err)
		}
	})
	t.Run("orphans are collected", func(t *testing.T) {
		run(g[0], "true & echo $! > /tmp/orphan")
		run(g[0], "while [ -d /proc/$(cat /tmp/orphan) ]; do usleep 1000; done")
	})
	t.Run("large command and output", func(t *testing.T) {
		text := strings.Repeat("0123456789abcdef", 1000)
		want := fmt.Sprintf("%x", sha256.Sum256([]byte(text)))
		if out := run(g[0], "printf %s "+text+" | sha256sum"); !strings.HasPrefix(out, want) {
			t.Fatalf("got %q, want %s", out, want)
		}
		if out := run(g[0], "printf %s "+text); out != text {
			t.Fatalf("%d bytes came back changed (%d)", len(text), len(out))
		}
	})
	t.Run("several commands at once", func(t *testing.T) {
		// The first can only end after the second has run.
		first := make(chan error, 1)
		go func() {
			_, err := g[0].Run(ctx, "mkfifo /tmp/meet 2>/dev/null; cat /tmp/meet")
			first <- err
		}()
		run(g[0], "mkfifo /tmp/meet 2>/dev/null; echo hello > /tmp/meet")
		if err := <-first; err != nil {
			t.Fatal(err)
		}
	})
	t.Run("wire", func(t *testing.T) {
		run(g[0], "ip addr add 10.0.0.1/24 dev eth0; guestd watch eth0 > /tmp/seen &")
		run(g[1], "ip addr add 10.0.0.2/24 dev eth0")
		run(g[1], "ping -c 2 -W 5 10.0.0.1")
		run(g[0], "iperf3 -s -D")
		run(g[1], "iperf3 -c 10.0.0.1 -n 1M")
		run(g[1], "guestd send eth0 02:00:00:00:00:01 3")
		for !strings.Contains(run(g[0], "cat /tmp/seen"), "52:54:00:00:00:02 0x88b5") {
			if ctx.Err() != nil {
				t.Fatal("frames did not arrive")
			}
		}
	})
	t.Run("shutdown and death", func(t *testing.T) {
		if err := g[0].Shutdown(ctx); err != nil {
			t.Fatal(err)
		}
		pending := make(chan error, 1)
		go func() {
			_, err := g[1].Run(ctx, "cat /dev/console")
			pending <- err
		}()
		g[1].Kill()
		if err := <-pending; err == nil {
			t.Fatal("command in a killed guest: got no error")
		}
	})
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// TestFullKernel wants the drivers that the cloud kernel lacks.
func TestFullKernel(t *testing.T) {
	need(t)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	image, err := Build(ctx, Options{Flavour: Full, Progress: t.Logf})
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "guest-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	vm := VM{Dir: dir, Accel: image.Accel(ctx)}
	g, err := Start(vm, append([]string{"qemu-system-x86_64",
		"-netdev", "user,id=u", "-device", "e1000,netdev=u",
		"-netdev", "user,id=v", "-device", "rtl8139,netdev=v"}, image.Args(vm)...))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Kill)
	if err := g.WaitBoot(ctx); err != nil {
		t.Fatal(err)
	}
	for _, nic := range []string{"eth0", "eth1"} {
		if out, err := g.Run(ctx, "ethtool -i "+nic); err != nil {
			t.Errorf("no driver for %s: %v", nic, err)
		} else {
			t.Log(strings.SplitN(out, "\n", 2)[0])
		}
	}
}

func TestParseDepends(t *testing.T) {
	in := "linux-image-virtual\n  Depends: linux-image-6.8.0-1-generic\n |Depends: grub-pc\n  Depends: grub-efi\n  Recommends: x\n  Depends: <virtual>\n"
	got := strings.Join(parseDepends(in), " ")
	if want := "linux-image-6.8.0-1-generic grub-pc <virtual>"; got != want {
		t.Fatalf("got %q, want %q", got, want)
	}
}

func TestTail(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	for _, tc := range []struct {
		in   string
		n    int
		want string
	}{{"", 3, ""}, {"a\nb\nc\n", 2, "b\nc"}, {"a\nb", 5, "a\nb"}, {"a\n", 1, "a"}} {
		if err := os.WriteFile(path, []byte(tc.in), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := Tail(path, tc.n); got != tc.want {
			t.Errorf("Tail(%q, %d) = %q, want %q", tc.in, tc.n, got, tc.want)
		}
	}
}
