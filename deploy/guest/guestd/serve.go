package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/vale-vmnet/vale-vmnet/deploy/guest/control"
)

// serve answers the host until it asks for power off.
func serve() error {
	port, err := openRaw(control.Port)
	if err != nil {
		return err
	}
	out := &replies{enc: json.NewEncoder(port)}
	out.send(control.Reply{Ready: true})
	in := json.NewDecoder(port)
	for {
		var req control.Request
		if err := in.Decode(&req); errors.Is(err, io.EOF) {
			return errors.New("control port closed")
		} else if err != nil {
			return fmt.Errorf("read request: %w", err)
		}
		if req.PowerOff {
			powerOff()
		}
		go func() { out.send(runCommand(req)) }()
	}
}

type replies struct {
	mu  sync.Mutex
	enc *json.Encoder
}

func (r *replies) send(reply control.Reply) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.enc.Encode(reply); err != nil {
		fmt.Fprintln(os.Stderr, "guestd: write reply:", err)
	}
}

// runCommand collects the output in a file, not a pipe: a daemon that the
// command leaves behind would hold the pipe open and the reply back.
func runCommand(req control.Request) control.Reply {
	reply := control.Reply{ID: req.ID}
	f, err := os.CreateTemp("/tmp", "out")
	if err != nil {
		reply.Exit, reply.Error = 126, err.Error()
		return reply
	}
	defer f.Close()
	defer os.Remove(f.Name())
	cmd := exec.Command("/bin/sh", "-c", req.Command)
	cmd.Stdout, cmd.Stderr = f, f
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Run(); cmd.ProcessState == nil {
		reply.Exit, reply.Error = 127, err.Error()
		return reply
	}
	reply.Exit = cmd.ProcessState.ExitCode()
	if ws, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		reply.Exit = 128 + int(ws.Signal())
	}
	out, err := os.ReadFile(f.Name())
	if err != nil {
		reply.Error = err.Error()
	}
	reply.Output = string(out)
	return reply
}

// openRaw opens a serial port as a plain pipe of bytes: no echo, no line
// editing, no translation.
func openRaw(path string) (*os.File, error) {
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	t, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return nil, fmt.Errorf("read terminal settings of %s: %w", path, err)
	}
	t.Iflag, t.Oflag, t.Lflag = 0, 0, 0
	t.Cflag = unix.CS8 | unix.CREAD | unix.CLOCAL | unix.B115200
	t.Cc[unix.VMIN], t.Cc[unix.VTIME] = 1, 0
	if err := unix.IoctlSetTermios(fd, unix.TCSETS, t); err != nil {
		return nil, fmt.Errorf("set %s raw: %w", path, err)
	}
	return os.NewFile(uintptr(fd), path), nil
}
