package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// process is a program of a target, in its own process group so that a Ctrl-C
// at the terminal reaches only the benchmark, which then stops it in order.
type process struct {
	name string
	log  string
	cmd  *exec.Cmd
	done chan struct{}
}

// command says how to start a process.
type command struct {
	name string
	dir  string // log and working directory
	core int    // the one CPU that all its threads may use
	env  []string
	argv []string
	// ownNet gives it a network namespace without devices.
	ownNet bool
	// stdin keeps standard input open without ever giving it a byte.
	stdin bool
}

func start(c command) (*process, error) {
	p := &process{name: c.name, log: filepath.Join(c.dir, c.name+".log"), done: make(chan struct{})}
	out, err := os.Create(p.log)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", c.name, err)
	}
	defer out.Close()
	p.cmd = exec.Command("taskset", append([]string{"-c", strconv.Itoa(c.core)}, c.argv...)...)
	p.cmd.Dir = c.dir
	p.cmd.Env = append(os.Environ(), c.env...)
	p.cmd.Stdout, p.cmd.Stderr = out, out
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if c.ownNet {
		p.cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWNET
	}
	if c.stdin {
		if _, err := p.cmd.StdinPipe(); err != nil {
			return nil, fmt.Errorf("start %s: %w", c.name, err)
		}
	}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", c.name, err)
	}
	go func() {
		p.cmd.Wait() //nolint:errcheck // the log tells more than the exit status
		close(p.done)
	}()
	return p, nil
}

// waitFor polls a condition that p brings about, until it holds, p ends or ctx does.
func (p *process) waitFor(ctx context.Context, what string, holds func() bool) error {
	for !holds() {
		select {
		case <-p.done:
			return fmt.Errorf("wait for %s: %s ended; its log ends with:\n%s", what, p.name, p.tail())
		case <-ctx.Done():
			return fmt.Errorf("wait for %s from %s: %w; its log ends with:\n%s", what, p.name, ctx.Err(), p.tail())
		case <-time.After(10 * time.Millisecond):
		}
	}
	return nil
}

// stop asks the process to end, and kills it when it has not after 10 s.
func (p *process) stop() {
	p.cmd.Process.Signal(syscall.SIGTERM) //nolint:errcheck // it may be gone already
	select {
	case <-p.done:
	case <-time.After(10 * time.Second):
		syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL) //nolint:errcheck // our own process group
		<-p.done
	}
}

// waited gives how long the busiest thread of the process has been runnable
// without a CPU, because something else was on its core: the second figure of
// its schedstat.
func (p *process) waited() time.Duration {
	var busiest, waited int64
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", p.cmd.Process.Pid))
	for _, f := range files {
		var ran, wait int64
		if _, err := fmt.Sscan(readFile(f), &ran, &wait); err == nil && ran > busiest {
			busiest, waited = ran, wait
		}
	}
	return time.Duration(waited)
}

func (p *process) tail() string { return tailFile(p.log) }

func tailFile(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	return strings.Join(lines[max(0, len(lines)-15):], "\n")
}

// isSocket reports whether path is there; sockets appear when they listen.
func isSocket(path string) bool {
	fi, err := os.Stat(path)
	return err == nil && fi.Mode()&os.ModeSocket != 0
}
