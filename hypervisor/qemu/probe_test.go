package qemu

import (
	"context"
	"errors"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

func TestParseVersion(t *testing.T) {
	for _, tc := range []struct {
		text string
		want Version
	}{
		{readFile(t, "testdata/probe/debian12-version.txt"), Version{7, 2, 22}},
		{"QEMU emulator version 9.2.0 (v9.2.0)\nCopyright (c)", Version{9, 2, 0}},
		{"QEMU emulator version 10.1", Version{10, 1, 0}},
		{"QEMU PC emulator version 1.1.2 (qemu-kvm-1.1.2), Copyright (c) 2003-2008", Version{1, 1, 2}},
		{"warning: something\nQEMU emulator version 8.0.50", Version{8, 0, 50}},
	} {
		got, err := ParseVersion(tc.text)
		if err != nil || got != tc.want {
			t.Errorf("ParseVersion(%q) = %v, %v; want %v", tc.text, got, err, tc.want)
		}
	}
	for _, text := range []string{"", "bash, version 5.2", "QEMU emulator version x"} {
		if _, err := ParseVersion(text); !errors.Is(err, ErrProbe) {
			t.Errorf("ParseVersion(%q) gives error %v, want ErrProbe", text, err)
		}
	}
}

func TestVersionAtLeast(t *testing.T) {
	v := Version{9, 2, 1}
	for _, tc := range []struct {
		major, minor int
		want         bool
	}{{9, 2, true}, {9, 1, true}, {8, 9, true}, {9, 3, false}, {10, 0, false}} {
		if got := v.AtLeast(tc.major, tc.minor); got != tc.want {
			t.Errorf("%v.AtLeast(%d, %d) = %v", v, tc.major, tc.minor, got)
		}
	}
}

func TestParseBackends(t *testing.T) {
	got, err := ParseBackends(readFile(t, "testdata/probe/debian12-netdev.txt"))
	if err != nil || !maps.Equal(got, backendSet(debianBackends)) {
		t.Errorf("ParseBackends = %v, %v; want %s", got, err, debianBackends)
	}
	for _, text := range []string{"", "Available netdev backend types:\n", "usage: sleep"} {
		if _, err := ParseBackends(text); !errors.Is(err, ErrProbe) {
			t.Errorf("ParseBackends(%q) gives error %v, want ErrProbe", text, err)
		}
	}
}

// TestProbeReal asks the QEMU of this machine. Any QEMU has hubport and user
// or socket back ends; what else it has is its builder's choice.
func TestProbeReal(t *testing.T) {
	v, b, err := Probe(t.Context(), needQEMU(t))
	if err != nil {
		t.Fatal(err)
	}
	if !v.AtLeast(2, 12) || !b["hubport"] || len(b) < 2 {
		t.Errorf("Probe = %v, %v", v, b)
	}
}

func TestProbeNotQEMU(t *testing.T) {
	if _, _, err := Probe(t.Context(), "echo"); !errors.Is(err, ErrProbe) {
		t.Errorf("Probe of echo gives %v, want ErrProbe", err)
	}
	if _, _, err := Probe(t.Context(), "false"); !errors.Is(err, ErrProbe) {
		t.Errorf("Probe of false gives %v, want ErrProbe", err)
	}
	missing := filepath.Join(t.TempDir(), "qemu")
	if _, _, err := Probe(t.Context(), missing); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Probe of a missing file gives %v, want os.ErrNotExist", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := Probe(ctx, "echo"); !errors.Is(err, context.Canceled) {
		t.Errorf("Probe with a cancelled context gives %v", err)
	}
}

func readFile(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// needQEMU gives the path of qemu-system-x86_64.
func needQEMU(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath("qemu-system-x86_64")
	if err == nil {
		return path
	}
	if os.Getenv("CI") == "true" {
		t.Fatal("qemu-system-x86_64 is missing: install the package qemu-system-x86")
	}
	t.Skip("qemu-system-x86_64 is missing: install the package qemu-system-x86")
	return ""
}
