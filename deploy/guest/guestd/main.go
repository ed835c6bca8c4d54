// Command guestd is the first process of a test guest and the tool its tests
// use on the wire.
//
// As process 1 it mounts the kernel's file systems, loads the modules that the
// image builder put in order and brings the links up; its child gives the
// console a shell and serves requests from the host (package control).
//
//	guestd watch eth0              print every new (source MAC, EtherType) seen on the wire
//	guestd send eth0 MAC COUNT     send COUNT marked 60-byte frames to MAC
package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/vale-vmnet/vale-vmnet/deploy/guest/control"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "guestd:", err)
		if os.Getpid() == 1 {
			powerOff()
		}
		os.Exit(1)
	}
}

func run(args []string) error {
	switch {
	case os.Getpid() == 1:
		return boot()
	case len(args) == 1 && args[0] == "serve":
		go console()
		return serve()
	case len(args) == 2 && args[0] == "watch":
		return watch(args[1])
	case len(args) == 4 && args[0] == "send":
		return send(args[1], args[2], args[3])
	}
	return errors.New("usage: guestd watch IFACE | guestd send IFACE MAC COUNT")
}

// boot turns the bare kernel into a guest that answers.
func boot() error {
	os.Setenv("PATH", "/bin:/sbin:/usr/bin:/usr/sbin")
	os.Setenv("HOME", "/")
	for _, m := range []struct{ kind, dir string }{
		{"proc", "/proc"}, {"sysfs", "/sys"}, {"devtmpfs", "/dev"}, {"tmpfs", "/tmp"}, {"tmpfs", "/run"},
	} {
		if err := os.MkdirAll(m.dir, 0o755); err != nil {
			return fmt.Errorf("make %s: %w", m.dir, err)
		}
		// EBUSY: the kernel has mounted devtmpfs already.
		if err := unix.Mount(m.kind, m.dir, m.kind, 0, ""); err != nil && !errors.Is(err, unix.EBUSY) {
			return fmt.Errorf("mount %s: %w", m.dir, err)
		}
	}
	if err := loadModules(); err != nil {
		return err
	}
	if err := linksUp(); err != nil {
		return err
	}
	return reap()
}

// reap leaves the work to a child and collects what dies without a parent,
// the duty of process 1. The two may not be one: a wait for any process would
// take the exit statuses that the requests wait for.
func reap() error {
	child := exec.Command("/bin/guestd", "serve")
	child.Stdout, child.Stderr = os.Stdout, os.Stderr
	if err := child.Start(); err != nil {
		return fmt.Errorf("start server: %w", err)
	}
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, 0, nil)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return fmt.Errorf("wait for children: %w", err)
		}
		if pid == child.Process.Pid {
			return fmt.Errorf("server ended: %v", status)
		}
	}
}

func loadModules() error {
	list, err := os.ReadFile(control.ModuleList)
	if err != nil {
		return fmt.Errorf("read module order: %w", err)
	}
	for _, name := range strings.Fields(string(list)) {
		f, err := os.Open(filepath.Join(control.ModuleDir, name))
		if err != nil {
			return fmt.Errorf("open module: %w", err)
		}
		err = unix.FinitModule(int(f.Fd()), "", 0)
		f.Close()
		if err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("load module %s: %w", name, err)
		}
	}
	return nil
}

func linksUp() error {
	nics, err := os.ReadDir("/sys/class/net")
	if err != nil {
		return fmt.Errorf("list network cards: %w", err)
	}
	for _, nic := range nics {
		if out, err := exec.Command("ip", "link", "set", nic.Name(), "up").CombinedOutput(); err != nil {
			return fmt.Errorf("bring %s up: %w: %s", nic.Name(), err, out)
		}
	}
	return nil
}

// console keeps a shell on the first serial port for people who look in.
func console() {
	for {
		tty, err := os.OpenFile(control.Console, os.O_RDWR, 0)
		if err != nil {
			return
		}
		sh := exec.Command("/bin/sh", "-l")
		sh.Stdin, sh.Stdout, sh.Stderr = tty, tty, tty
		sh.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
		err = sh.Run()
		tty.Close()
		if err != nil && sh.ProcessState == nil {
			return
		}
	}
}

func powerOff() {
	unix.Sync()
	// QEMU runs with -no-reboot: a reset ends it, and needs no ACPI driver.
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART)
}
