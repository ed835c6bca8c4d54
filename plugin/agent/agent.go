// Package agent puts the parts together: switches, forwarding workers, ports
// with their sockets, and the control API, in one runtime directory.
//
//	configs.Config ──> Agent
//	                     ├ vale.Fabric      switches
//	                     ├ poll.Pool        forwarding threads
//	                     ├ registry         ports, VMs, state file
//	                     └ server           control API
package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"runtime"
	"time"

	"github.com/vale-vmnet/vale-vmnet/configs"
	"github.com/vale-vmnet/vale-vmnet/plugin/api"
	"github.com/vale-vmnet/vale-vmnet/plugin/registry"
	"github.com/vale-vmnet/vale-vmnet/plugin/rundir"
	"github.com/vale-vmnet/vale-vmnet/plugin/server"
	"github.com/vale-vmnet/vale-vmnet/plugin/version"
	"github.com/vale-vmnet/vale-vmnet/vale"
	"github.com/vale-vmnet/vale-vmnet/vale/poll"
)

// Agent serves one runtime directory.
type Agent struct {
	cfg   configs.Config
	log   *slog.Logger
	start time.Time
	dir   rundir.Dir

	lock   *os.File
	fabric *vale.Fabric
	pool   *poll.Pool
	*registry.Registry
	listener net.Listener
	server   *server.Server
}

// New takes the runtime directory, opens the declared ports and those that the
// agent before left, and makes the control socket. Run must follow, or Close.
func New(cfg configs.Config, log *slog.Logger) (*Agent, error) {
	a := &Agent{cfg: cfg, log: log, start: time.Now(), dir: rundir.Dir(cfg.RunDir)}
	if err := a.open(); err != nil {
		return nil, errors.Join(err, a.Close())
	}
	return a, nil
}

func (a *Agent) open() error {
	guests, err := rundir.NewAccess(a.cfg.Sockets.Mode, a.cfg.Sockets.Group)
	if err != nil {
		return fmt.Errorf("use sockets.group: %w", err)
	}
	control, err := rundir.NewAccess(a.cfg.API.Mode, a.cfg.API.Group)
	if err != nil {
		return fmt.Errorf("use api.group: %w", err)
	}
	if err := a.dir.Make(); err != nil {
		return err
	}
	if a.lock, err = a.dir.Acquire(); err != nil {
		return err
	}
	workers := a.cfg.WorkerCount()
	// A worker that polls keeps its thread; one more is left for control.
	if n := max(runtime.NumCPU(), workers+1); runtime.GOMAXPROCS(0) < n {
		runtime.GOMAXPROCS(n)
	}
	busy := a.cfg.BusyPoll
	if busy == 0 {
		busy = -1 // poll.Config's word for none
	}
	if a.pool, err = poll.NewPool(poll.Config{Workers: workers, CPUs: a.cfg.CPUs, BusyPoll: busy}); err != nil {
		return fmt.Errorf("start forwarding workers: %w", err)
	}
	a.fabric = vale.New(vale.Config{
		MaxSwitches: a.cfg.MaxSwitches,
		MaxPorts:    a.cfg.MaxPorts,
		MACs:        a.cfg.MACs,
		MACsPerPort: a.cfg.MACsPerPort,
		MACAge:      a.cfg.MACAge,
	})
	a.Registry = registry.New(registry.Config{
		Fabric:    a.fabric,
		Transport: transport{pool: a.pool, log: a.log},
		Dir:       a.dir,
		Access:    guests,
		MTU:       a.cfg.MTU,
		Static:    a.static(),
		Log:       a.log,
	})
	if err := a.declare(); err != nil {
		return err
	}
	a.Restore()
	if a.listener, err = rundir.Listen(a.dir.API(), control); err != nil {
		return fmt.Errorf("open control socket: %w", err)
	}
	a.server = server.New(a, a.log)
	return nil
}

func (a *Agent) static() []registry.Station {
	var list []registry.Station
	for _, e := range a.cfg.FDB {
		list = append(list, registry.Station{MAC: e.MAC, Port: e.Port})
	}
	return list
}

// declare opens the ports of the configuration.
func (a *Agent) declare() error {
	for _, p := range a.cfg.Ports {
		d := registry.Declaration{
			Name:       p.Name,
			Persistent: p.Persistent,
			Up:         true,
			MTU:        p.MTU,
			Mode:       string(p.Mode),
			Socket:     p.Socket,
			Origin:     api.OriginConfig,
		}
		if p.MAC != nil {
			d.Static = []net.HardwareAddr{p.MAC}
		}
		if err := a.Declare(d); err != nil {
			return err
		}
	}
	return nil
}

// Run serves until ctx ends, and closes everything then.
func (a *Agent) Run(ctx context.Context) error {
	switches, ports, vms := a.Counts()
	a.log.Info("agent is ready", "version", version.String(), "run_dir", a.cfg.RunDir, "config", a.cfg.File,
		"workers", a.pool.Workers(), "switches", switches, "ports", ports, "vms", vms)
	served := make(chan error, 1)
	go func() { served <- a.server.Serve(a.listener) }()
	var err error
	select {
	case <-ctx.Done():
		a.log.Info("agent is stopping")
		limit, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		a.server.Shutdown(limit)
		cancel()
		err = <-served
	case err = <-served:
	}
	return errors.Join(err, a.Close())
}

// Close closes the ports' sockets and lets go of the runtime directory. The
// state file stays, so that the next agent can come back to what was there.
func (a *Agent) Close() error {
	var errs []error
	if a.listener != nil {
		if err := a.listener.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			errs = append(errs, fmt.Errorf("close control socket: %w", err))
		}
	}
	if a.Registry != nil {
		errs = append(errs, a.Registry.Close())
	}
	if a.pool != nil {
		a.pool.Close()
		a.pool = nil
	}
	if a.fabric != nil {
		a.fabric.Close()
		a.fabric = nil
	}
	if a.lock != nil {
		// The file itself stays: to unlink it would let two agents hold a
		// lock on two files of that name.
		a.lock.Close()
		a.lock = nil
	}
	return errors.Join(errs...)
}

// Status describes the agent.
func (a *Agent) Status() api.Status {
	switches, ports, vms := a.Counts()
	cpus := a.cfg.CPUs
	if cpus == nil {
		cpus = []int{}
	}
	return api.Status{
		Version:    version.String(),
		PID:        os.Getpid(),
		StartedAt:  a.start.UTC(),
		Uptime:     time.Since(a.start).Seconds(),
		RunDir:     a.cfg.RunDir,
		ConfigFile: a.cfg.File,
		Workers:    a.cfg.WorkerCount(),
		CPUs:       cpus,
		Switches:   switches,
		Ports:      ports,
		VMs:        vms,
	}
}
