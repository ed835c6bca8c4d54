// Package launch starts a QEMU whose command line names ports of a switch.
//
//	qemu.Probe ──> qemu.Rewrite ──> agent: make ports, register VM ──> exec
//
// The launcher's process becomes QEMU, so the process id that the agent was
// told is QEMU's, and signals, exit status and terminal are QEMU's own.
package launch

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"

	"github.com/vale-vmnet/vale-vmnet/hypervisor"
	"github.com/vale-vmnet/vale-vmnet/hypervisor/qemu"
	"github.com/vale-vmnet/vale-vmnet/plugin/api"
	"github.com/vale-vmnet/vale-vmnet/plugin/apiclient"
	"github.com/vale-vmnet/vale-vmnet/plugin/process"
	"github.com/vale-vmnet/vale-vmnet/plugin/rundir"
	"github.com/vale-vmnet/vale-vmnet/vale"
)

// Options say what to start.
type Options struct {
	Args    []string   // QEMU's command line, the program first
	Dir     rundir.Dir // of the agent
	KeepNIC bool       // a NIC without a model gets QEMU's default, not virtio
	Name    string     // of the VM for the agent; empty: QEMU's -name
	Notices io.Writer  // takes sentences for the user; nil: nobody
}

// Plan is a command line that is ready to run.
type Plan struct {
	Program string // absolute
	Args    []string
	VM      hypervisor.VM
	opts    Options
}

// New probes the QEMU and rewrites its command line. It asks nothing of the
// agent and changes nothing.
func New(ctx context.Context, o Options) (*Plan, error) {
	if len(o.Args) == 0 {
		return nil, errors.New("start QEMU: no program given; write it behind --, for example: vale-vmnet qemu -- qemu-system-x86_64 -net nic -net netmap,ifname=vale-1:a")
	}
	program, err := exec.LookPath(o.Args[0])
	if err != nil {
		return nil, fmt.Errorf("start QEMU: %w; install it or write its path", err)
	}
	version, backends, err := qemu.Probe(ctx, program)
	if err != nil {
		return nil, fmt.Errorf("probe QEMU: %w", err)
	}
	res, err := qemu.Rewrite(o.Args, qemu.Env{
		Version:      version,
		Backends:     backends,
		NetmapServed: usable("/dev/netmap"),
		KVMUsable:    usable("/dev/kvm"),
		KeepNIC:      o.KeepNIC,
		Resolve:      o.resolve,
	})
	if err != nil {
		return nil, err
	}
	if o.Notices != nil {
		for _, n := range res.Notices {
			fmt.Fprintln(o.Notices, "vale-vmnet:", n)
		}
	}
	return &Plan{Program: program, Args: res.Args, VM: res.VM, opts: o}, nil
}

// resolve gives the sockets of a port.
func (o Options) resolve(ifname string) (qemu.Endpoint, error) {
	name, err := vale.ParseName(ifname)
	if err != nil {
		return qemu.Endpoint{}, err
	}
	port := name.String()
	return qemu.Endpoint{
		Port:      port,
		Netmap:    strings.Replace(port, "vale-", "vale", 1),
		VhostUser: o.Dir.VhostUser(port),
		Stream:    o.Dir.Stream(port),
	}, nil
}

// usable says whether a device is there and may be opened.
func usable(device string) bool {
	st, err := os.Stat(device)
	if err != nil || st.Mode()&os.ModeCharDevice == 0 {
		return false
	}
	f, err := os.OpenFile(device, os.O_RDWR|syscall.O_NONBLOCK, 0)
	if err != nil {
		return false
	}
	f.Close()
	return true
}

// Register has the agent make the ports and take note of the VM, which is this
// process. On failure nothing of it is left with the agent.
func (p *Plan) Register(ctx context.Context, c *apiclient.Client) error {
	if len(p.VM.NICs) == 0 {
		return nil // nothing for the agent to do
	}
	var made []string
	undo := func(err error) error {
		for _, name := range made {
			err = errors.Join(err, c.DeletePort(ctx, name, false))
		}
		return err
	}
	for _, nic := range p.VM.NICs {
		port, created, err := c.PutPort(ctx, nic.Port, api.PortSpec{})
		if err != nil {
			return undo(fmt.Errorf("ask for port %s: %w", nic.Port, err))
		}
		if created {
			made = append(made, port.Name)
		}
		if nic.Link == hypervisor.LinkVhostUser && port.Sockets.Mode != api.ModeServer {
			return undo(fmt.Errorf("ask for port %s: its vhost-user socket has mode %s, where QEMU listens, and the launcher's QEMU connects; use another port, or a NIC that is not virtio", port.Name, port.Sockets.Mode))
		}
	}
	if _, err := c.PutVM(ctx, p.name(), p.describe()); err != nil {
		return undo(fmt.Errorf("register VM: %w", err))
	}
	return nil
}

// name is the VM's name for the agent.
func (p *Plan) name() string {
	return cmp.Or(p.opts.Name, p.VM.Name, fmt.Sprintf("qemu-%d", os.Getpid()))
}

func (p *Plan) describe() api.VM {
	pid := os.Getpid()
	start, _ := process.StartTime(pid) // without it the agent looks itself
	vm := api.VM{UUID: p.VM.UUID, PID: pid, StartTime: start, Source: string(p.VM.Source), NICs: []api.NIC{}}
	for _, nic := range p.VM.NICs {
		vm.NICs = append(vm.NICs, api.NIC{Port: nic.Port, MAC: mac(nic.MAC), Model: nic.Model, Link: string(nic.Link)})
	}
	return vm
}

func mac(a net.HardwareAddr) string {
	if len(a) == 0 {
		return ""
	}
	return a.String()
}

// Exec becomes QEMU. It returns only when that fails.
func (p *Plan) Exec() error {
	err := syscall.Exec(p.Program, p.Args, os.Environ())
	return fmt.Errorf("start %s: %w", p.Program, err)
}

// String is the command line for a shell.
func (p *Plan) String() string {
	words := make([]string, len(p.Args))
	for i, a := range p.Args {
		words[i] = quote(a)
	}
	return strings.Join(words, " ")
}

// quote writes a word so that a shell reads it back.
func quote(word string) string {
	const plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_=,.:/+@%"
	if word != "" && strings.Trim(word, plain) == "" {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}
