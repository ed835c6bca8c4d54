// Package guest builds, starts and drives tiny real Linux guests in QEMU, for
// the demonstration and the end-to-end tests.
//
// A guest is the distribution's own kernel (downloaded, never installed) and an
// initial file system of busybox, iperf3, ethtool and a small daemon, all in
// memory: no disk, no network of its own, up in about four seconds under
// software emulation. The daemon (guestd) takes commands over the second serial
// port, so a guest can be asked and observed without the network under test.
//
//	image, err := guest.Build(ctx, guest.Options{})
//	vm := guest.VM{Dir: dir, Accel: image.Accel(ctx)}
//	g, err := guest.Start(vm, append([]string{"qemu-system-x86_64", "-net", "none"}, image.Args(vm)...))
//	defer g.Kill()
//	err = g.WaitBoot(ctx)
//	out, err := g.Run(ctx, "uname -a")
//
// Conditions end every wait: the daemon says when it is ready, a dead QEMU ends
// all calls with its last words. Only contexts set time limits.
package guest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/vale-vmnet/vale-vmnet/deploy/guest/control"
)

// Flavour selects a kernel.
type Flavour string

const (
	// Cloud is the small kernel for virtual machines. Debian's knows no network
	// card but virtio.
	Cloud Flavour = "cloud"
	// Full is the general kernel, with drivers for e1000 and other real cards.
	Full Flavour = "full"
)

// Options say what to build. The zero value is a Cloud guest in the user's cache.
type Options struct {
	Flavour  Flavour
	CacheDir string                           // default: $VALE_CACHE, else vale-vmnet below the user's cache directory
	Progress func(format string, args ...any) // told about slow steps
}

// Image is a kernel and an initial file system.
type Image struct {
	Kernel string // path of the kernel
	Initrd string // path of the initial file system
	cache  string
}

// MissingError says that a program the guests need is not on this machine.
type MissingError struct {
	Program string
	Package string // Debian and Ubuntu package that has it
}

func (e *MissingError) Error() string {
	return fmt.Sprintf("find program %s: not installed (apt-get install %s, or deploy/deps.sh demo)", e.Program, e.Package)
}

// required programs, each with the package that brings it.
var required = []MissingError{
	{"qemu-system-x86_64", "qemu-system-x86"}, {"busybox", "busybox-static"}, {"iperf3", "iperf3"},
	{"ethtool", "ethtool"}, {"apt-get", "apt"}, {"dpkg-deb", "dpkg"}, {"xz", "xz-utils"}, {"zstd", "zstd"},
}

// Check reports every missing program at once, as MissingErrors joined.
func Check() error {
	if runtime.GOARCH != "amd64" {
		return fmt.Errorf("build guests on %s: only amd64 is supported", runtime.GOARCH)
	}
	var missing []error
	for _, p := range required {
		if _, err := findProgram(p.Program); err != nil {
			missing = append(missing, &p)
		}
	}
	return errors.Join(missing...)
}

// findProgram also looks where administrators' tools are: ordinary users of
// Debian have no sbin in their search path.
func findProgram(name string) (string, error) {
	if p, err := exec.LookPath(name); err == nil {
		return p, nil
	}
	for _, dir := range []string{"/usr/sbin", "/sbin", "/usr/local/sbin"} {
		if p, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return p, nil
		}
	}
	return "", fmt.Errorf("find program %s: not in the search path", name)
}

// Build makes an image or takes it from the cache. The first build of a flavour
// downloads its kernel package; later ones need no network. Several processes
// may build at once. It must run inside the module's source tree, from which it
// compiles guestd.
func Build(ctx context.Context, o Options) (*Image, error) {
	if err := Check(); err != nil {
		return nil, err
	}
	if o.Flavour == "" {
		o.Flavour = Cloud
	}
	if o.Progress == nil {
		o.Progress = func(string, ...any) {}
	}
	cache, err := cacheDir(o.CacheDir)
	if err != nil {
		return nil, err
	}
	tree, err := fetchKernel(ctx, cache, o)
	if err != nil {
		return nil, fmt.Errorf("prepare %s guest kernel: %w", o.Flavour, err)
	}
	kernels, _ := filepath.Glob(filepath.Join(tree, "boot", "vmlinuz-*"))
	if len(kernels) != 1 {
		return nil, fmt.Errorf("find kernel in %s: want one boot/vmlinuz-*, found %d (remove the directory and try again)", tree, len(kernels))
	}
	initrd, err := buildInitrd(ctx, cache, tree)
	if err != nil {
		return nil, fmt.Errorf("build guest file system: %w", err)
	}
	return &Image{Kernel: kernels[0], Initrd: initrd, cache: cache}, nil
}

func cacheDir(dir string) (string, error) {
	if dir == "" {
		dir = os.Getenv("VALE_CACHE")
	}
	if dir == "" {
		base, err := os.UserCacheDir()
		if err != nil {
			return "", fmt.Errorf("find cache directory: %w (set VALE_CACHE)", err)
		}
		dir = filepath.Join(base, "vale-vmnet")
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("find cache directory: %w", err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("make cache directory: %w (set VALE_CACHE to another)", err)
	}
	return dir, nil
}

// wantedModules are the drivers of the network cards that guests may have.
var wantedModules = []string{"virtio_pci", "virtio_net", "e1000", "8139cp"}

// buildInitrd names the result after its content: equal input gives the same
// file, and a guest that is booting never sees its file change.
func buildInitrd(ctx context.Context, cache, tree string) (string, error) {
	modules, err := resolveModules(filepath.Join(tree, "lib", "modules"), wantedModules)
	if err != nil {
		return "", err
	}
	var buf bytes.Buffer
	a := newArchive(&buf)
	a.charDevice("dev/console", 0o600, 5, 1)
	for _, d := range []string{"proc/", "sys/", "tmp/", "run/"} {
		a.parents(d)
	}
	var order strings.Builder
	for _, m := range modules {
		a.file(filepath.Join(control.ModuleDir, m.name), 0o644, m.elf)
		fmt.Fprintln(&order, m.name)
	}
	a.file(control.ModuleList, 0o644, []byte(order.String()))
	if err := addPrograms(ctx, a); err != nil {
		return "", err
	}
	if err := a.close(); err != nil {
		return "", fmt.Errorf("write archive: %w", err)
	}
	name := filepath.Join(cache, fmt.Sprintf("initrd-%x.cpio", sha256.Sum256(buf.Bytes())))
	if _, err := os.Stat(name); err == nil {
		_ = os.Chtimes(name, time.Time{}, time.Now()) // in use: keep
		return name, nil
	}
	dropOldInitrds(cache)
	if err := writeAtomically(name, buf.Bytes()); err != nil {
		return "", err
	}
	return name, nil
}

// dropOldInitrds keeps the cache from growing with every change of guestd.
func dropOldInitrds(cache string) {
	old, _ := filepath.Glob(filepath.Join(cache, "initrd-*.cpio"))
	for _, name := range old {
		if st, err := os.Stat(name); err == nil && time.Since(st.ModTime()) > 7*24*time.Hour {
			_ = os.Remove(name)
		}
	}
}

func writeAtomically(name string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(name), ".new-")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(data)
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), name)
}
