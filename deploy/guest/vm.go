package guest

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// VM says how one guest runs, apart from its network cards.
type VM struct {
	Dir    string // the guest's own directory: control and console sockets, console log
	Name   string // QEMU's -name, optional
	Memory int    // MiB, default 256
	Accel  string // "kvm" or "tcg"; default tcg
}

func (vm VM) controlSocket() string { return filepath.Join(vm.Dir, "control.sock") }

// ConsoleSocket is the unix socket of the guest's interactive console.
func (vm VM) ConsoleSocket() string { return filepath.Join(vm.Dir, "console.sock") }

// ConsoleLog is the file with everything that the console showed.
func (vm VM) ConsoleLog() string { return filepath.Join(vm.Dir, "console.log") }

// Kernel command line: end QEMU on panic, no IPv6 chatter unless a test turns
// it on, and none of the mitigations that cost emulated guests half their speed.
const cmdline = "console=ttyS0 loglevel=4 panic=-1 ipv6.disable_ipv6=1 mitigations=off nokaslr"

// Args returns the QEMU arguments that all guests share. Network cards, and
// with them the interface under test, are the caller's part.
//
// QEMU connects to the control socket, rather than listens on it: the line is
// there before the guest's first instruction, no message can be lost, and the
// end of QEMU is the end of the connection.
func (img *Image) Args(vm VM) []string {
	if vm.Memory == 0 {
		vm.Memory = 256
	}
	args := []string{
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
		"-m", fmt.Sprintf("%dM", vm.Memory),
		"-kernel", escape(img.Kernel), "-initrd", escape(img.Initrd), "-append", cmdline,
		"-chardev", "socket,id=console,server=on,wait=off,path=" + escape(vm.ConsoleSocket()) + ",logfile=" + escape(vm.ConsoleLog()),
		"-serial", "chardev:console",
		"-chardev", "socket,id=control,path=" + escape(vm.controlSocket()),
		"-serial", "chardev:control",
	}
	if vm.Accel == "kvm" {
		args = append(args, "-accel", "kvm", "-cpu", "host")
	} else {
		args = append(args, "-accel", "tcg")
	}
	if vm.Name != "" {
		args = append(args, "-name", escape(vm.Name))
	}
	return args
}

// escape doubles commas, QEMU's way to have one inside a value.
func escape(s string) string { return strings.ReplaceAll(s, ",", ",,") }

// Accel says which accelerator works here: $VALE_ACCEL, else kvm when a guest
// boots with it, else tcg. Having /dev/kvm is not enough (nested machines may
// offer one that cannot run a Linux guest), so it boots once and remembers the
// answer until the host restarts.
func (img *Image) Accel(ctx context.Context) string {
	if forced := os.Getenv("VALE_ACCEL"); forced != "" {
		return forced
	}
	dev, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
	if err != nil {
		return "tcg"
	}
	dev.Close()
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "tcg"
	}
	memory := filepath.Join(img.cache, "accel-"+strings.TrimSpace(string(boot)))
	if known, err := os.ReadFile(memory); err == nil {
		return string(known)
	}
	accel := "kvm"
	if err := img.tryKVM(ctx); err != nil {
		accel = "tcg"
	}
	if ctx.Err() == nil {
		_ = writeAtomically(memory, []byte(accel))
	}
	return accel
}

func (img *Image) tryKVM(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	dir, err := os.MkdirTemp("", "vale-kvm-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	vm := VM{Dir: dir, Accel: "kvm"}
	g, err := Start(vm, append([]string{"qemu-system-x86_64", "-net", "none"}, img.Args(vm)...))
	if err != nil {
		return err
	}
	defer g.Kill()
	return g.WaitBoot(ctx)
}
