package guest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"github.com/vale-vmnet/vale-vmnet/deploy/guest/control"
)

// Guest is a running virtual machine. Its methods may be called from several
// goroutines at once.
type Guest struct {
	vm     VM
	cmd    *exec.Cmd
	stderr string

	ready chan struct{} // closed when the daemon inside takes requests
	done  chan struct{} // closed when the process is gone
	exit  error         // valid after done

	mu      sync.Mutex
	conn    net.Conn
	last    uint64
	waiting map[uint64]chan control.Reply
}

// ExitError says that a command inside the guest ended with a non-zero status.
type ExitError struct {
	Command string
	Status  int
	Output  string
}

func (e *ExitError) Error() string {
	return fmt.Sprintf("run %q in guest: exit status %d: %s", e.Command, e.Status, strings.TrimSpace(e.Output))
}

// Start runs argv, which must be QEMU (or a launcher that execs it) with the
// arguments of Image.Args(vm). It returns at once; use WaitBoot.
//
// The process has its own process group, so that a terminal's Ctrl-C reaches
// only the caller, and it dies with the caller, however that ends.
func Start(vm VM, argv []string) (*Guest, error) {
	if err := os.MkdirAll(vm.Dir, 0o755); err != nil {
		return nil, fmt.Errorf("make guest directory: %w", err)
	}
	_ = os.Remove(vm.controlSocket())
	ln, err := net.Listen("unix", vm.controlSocket())
	if err != nil {
		return nil, fmt.Errorf("listen on guest control socket: %w", err)
	}
	stderr, err := os.Create(filepath.Join(vm.Dir, "qemu.log"))
	if err != nil {
		ln.Close()
		return nil, fmt.Errorf("make guest log: %w", err)
	}
	defer stderr.Close()
	g := &Guest{
		vm: vm, stderr: stderr.Name(),
		ready: make(chan struct{}), done: make(chan struct{}),
		waiting: map[uint64]chan control.Reply{},
	}
	g.cmd = exec.Command(argv[0], argv[1:]...)
	g.cmd.Stdout, g.cmd.Stderr = stderr, stderr
	g.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := g.cmd.Start(); err != nil {
		ln.Close()
		return nil, fmt.Errorf("start guest: %w", err)
	}
	go func() {
		g.exit = g.cmd.Wait()
		ln.Close()
		close(g.done)
	}()
	go g.receive(ln)
	return g, nil
}

// receive takes the one connection and hands replies to those who wait.
func (g *Guest) receive(ln net.Listener) {
	conn, err := ln.Accept()
	if err != nil {
		return
	}
	defer conn.Close()
	g.mu.Lock()
	g.conn = conn
	g.mu.Unlock()
	in := json.NewDecoder(conn)
	var once sync.Once
	for {
		var reply control.Reply
		if err := in.Decode(&reply); err != nil {
			return
		}
		if reply.Ready {
			once.Do(func() { close(g.ready) })
			continue
		}
		g.mu.Lock()
		c := g.waiting[reply.ID]
		delete(g.waiting, reply.ID)
		g.mu.Unlock()
		if c != nil {
			c <- reply
		}
	}
}

// WaitBoot returns when the guest takes commands.
func (g *Guest) WaitBoot(ctx context.Context) error {
	select {
	case <-g.ready:
		return nil
	case <-g.done:
		return g.died("boot guest")
	case <-ctx.Done():
		return fmt.Errorf("boot guest: %w\n%s", ctx.Err(), g.Logs())
	}
}

// Run runs a shell command in the guest and returns its output (standard
// output and error). A status other than 0 is an *ExitError.
func (g *Guest) Run(ctx context.Context, command string) (string, error) {
	answer, err := g.request(control.Request{Command: command})
	if err != nil {
		return "", fmt.Errorf("run %q in guest: %w", command, err)
	}
	select {
	case r := <-answer:
		if r.Error != "" {
			return r.Output, fmt.Errorf("run %q in guest: %s", command, r.Error)
		}
		if r.Exit != 0 {
			return r.Output, &ExitError{command, r.Exit, r.Output}
		}
		return r.Output, nil
	case <-g.done:
		return "", g.died(fmt.Sprintf("run %q in guest", command))
	case <-ctx.Done():
		return "", fmt.Errorf("run %q in guest: %w", command, ctx.Err())
	}
}

func (g *Guest) request(req control.Request) (<-chan control.Reply, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.conn == nil {
		return nil, errors.New("guest has not booted")
	}
	g.last++
	req.ID = g.last
	answer := make(chan control.Reply, 1)
	g.waiting[req.ID] = answer
	line, err := json.Marshal(req)
	if err == nil {
		_, err = g.conn.Write(append(line, '\n'))
	}
	return answer, err
}

// Shutdown asks the guest to end and waits for QEMU; it kills it when ctx ends.
func (g *Guest) Shutdown(ctx context.Context) error {
	if _, err := g.request(control.Request{PowerOff: true}); err != nil {
		g.Kill()
		return nil
	}
	select {
	case <-g.done:
		return g.exit
	case <-ctx.Done():
		g.Kill()
		return fmt.Errorf("shut guest down: %w", ctx.Err())
	}
}

// Kill ends QEMU as a power cut would, and waits until it is gone.
func (g *Guest) Kill() {
	// The process is not reaped before done: its id cannot be another's.
	select {
	case <-g.done:
	default:
		_ = g.cmd.Process.Kill()
		<-g.done
	}
}

// Done is closed when QEMU is gone.
func (g *Guest) Done() <-chan struct{} { return g.done }

// PID is QEMU's process id.
func (g *Guest) PID() int { return g.cmd.Process.Pid }

// VM returns what Start was told.
func (g *Guest) VM() VM { return g.vm }

// Logs returns the last lines of QEMU's messages and of the guest's console.
func (g *Guest) Logs() string {
	return "qemu: " + Tail(g.stderr, 15) + "\nconsole: " + Tail(g.vm.ConsoleLog(), 15)
}

func (g *Guest) died(doing string) error {
	return fmt.Errorf("%s: QEMU ended (%v)\n%s", doing, g.exit, g.Logs())
}

// Tail returns the last lines of a file, or why it cannot.
func Tail(path string, lines int) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	data = bytes.TrimRight(data, "\r\n")
	at := len(data)
	for ; lines > 0 && at >= 0; lines-- {
		at = bytes.LastIndexByte(data[:at], '\n')
	}
	return string(data[at+1:])
}
