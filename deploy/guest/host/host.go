// Package host runs the real vale-vmnet program beside the guests: it compiles
// it, starts an agent in a private runtime directory and makes the launcher's
// command lines. It knows the program only from outside, as an administrator
// does: arguments, sockets, output.
package host

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/vale-vmnet/vale-vmnet/deploy/guest"
)

// Build compiles vale-vmnet into dir and returns the program's path. It must
// run inside the module's source tree.
func Build(ctx context.Context, dir string, flags ...string) (string, error) {
	bin := filepath.Join(dir, "vale-vmnet")
	args := append([]string{"build", "-o", bin}, flags...)
	cmd := exec.CommandContext(ctx, "go", append(args, "github.com/vale-vmnet/vale-vmnet/cmd/vale-vmnet")...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("compile vale-vmnet: %w: %s", err, bytes.TrimSpace(out))
	}
	return bin, nil
}

// Agent is a running "vale-vmnet agent".
type Agent struct {
	Bin    string // the program
	RunDir string // its runtime directory
	Log    string // file with everything it says; several agents in turn may append

	cmd  *exec.Cmd
	done chan struct{}
	exit error
}

// StartAgent starts the agent and waits until it answers on its control socket.
func StartAgent(ctx context.Context, bin, runDir, log string, args ...string) (*Agent, error) {
	out, err := os.OpenFile(log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, fmt.Errorf("open agent log: %w", err)
	}
	defer out.Close()
	a := &Agent{Bin: bin, RunDir: runDir, Log: log, done: make(chan struct{})}
	a.cmd = exec.Command(bin, append([]string{"agent", "--run-dir", runDir}, args...)...)
	a.cmd.Stdout, a.cmd.Stderr = out, out
	// Its own group: a terminal's Ctrl-C must not end it before its guests.
	a.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := a.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start agent: %w", err)
	}
	go func() {
		a.exit = a.cmd.Wait()
		close(a.done)
	}()
	if err := a.waitReady(ctx); err != nil {
		a.Kill()
		return nil, err
	}
	return a, nil
}

// waitReady asks for the agent's status until it gets one.
func (a *Agent) waitReady(ctx context.Context) error {
	for {
		err := Status(ctx, a.RunDir)
		if err == nil {
			return nil
		}
		select {
		case <-a.done:
			return fmt.Errorf("start agent: it ended (%v)\n%s", a.exit, guest.Tail(a.Log, 20))
		case <-ctx.Done():
			return fmt.Errorf("wait for agent: %w (last answer: %v)\n%s", ctx.Err(), err, guest.Tail(a.Log, 20))
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// Status asks the agent of a runtime directory how it is; nil means that it
// serves.
func Status(ctx context.Context, runDir string) error {
	transport := &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", filepath.Join(runDir, "api.sock"))
		},
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://agent/v1/status", nil)
	if err != nil {
		return err
	}
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, resp.Body)
	if resp.StatusCode != http.StatusOK {
		return errors.New(resp.Status)
	}
	return nil
}

// PID is the agent's process id.
func (a *Agent) PID() int { return a.cmd.Process.Pid }

// Stop ends the agent as a service manager would: SIGTERM, and SIGKILL when
// ctx ends first, which is an error.
func (a *Agent) Stop(ctx context.Context) error {
	_ = a.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-a.done:
		if a.exit != nil {
			return fmt.Errorf("stop agent: %w", a.exit)
		}
		return nil
	case <-ctx.Done():
		a.Kill()
		return fmt.Errorf("stop agent: %w", ctx.Err())
	}
}

// Kill ends the agent with no chance to clean up.
func (a *Agent) Kill() {
	_ = a.cmd.Process.Kill()
	<-a.done
}

// Run runs another vale-vmnet command against this agent and returns what it
// wrote to standard output.
func (a *Agent) Run(ctx context.Context, command string, args ...string) (string, error) {
	return Run(ctx, a.Bin, append([]string{command, "--run-dir", a.RunDir}, args...)...)
}

// Run runs a program; the error has what it wrote to standard error.
func Run(ctx context.Context, bin string, args ...string) (string, error) {
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, bin, args...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.String(), fmt.Errorf("run %s %q: %w: %s", filepath.Base(bin), args, err, bytes.TrimSpace(stderr.Bytes()))
	}
	return stdout.String(), nil
}

// Launch returns the command line that starts QEMU through the launcher. The
// caller writes QEMU's arguments as it would without vale-vmnet.
func (a *Agent) Launch(qemu ...string) []string {
	return append([]string{a.Bin, "qemu", "--run-dir", a.RunDir, "--"}, qemu...)
}
