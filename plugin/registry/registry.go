// Package registry keeps the agent's ports and VMs: who asked for a port, the
// sockets it listens on, the guest it belongs to, how fast it goes.
//
// The switch core knows ports and links, but not why a port exists. Here a port
// is persistent (declared, or asked for until it is deleted) or ephemeral: made
// for a VM, and gone with it. The core's own notion of a persistent port is
// always set, because our ports outlive the connections to their sockets.
//
//	PutPort ──> vale.Fabric.Open ──> Transport.Serve (two sockets)
//	PutVM   ──> process.Open: a pidfd tells when the VM has ended
//	            its ephemeral ports go then
//
// Ports and VMs that are not in the configuration are written to a state file.
// The next agent in the same directory comes back to them, so that guests which
// run on can connect again.
//
// Two locks: change is held by whoever changes ports or VMs, for as long as it
// takes to open and close sockets; mu guards the maps and is only held for
// moments, so that reading never waits for a change.
package registry

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/vale-vmnet/vale-vmnet/plugin/api"
	"github.com/vale-vmnet/vale-vmnet/plugin/rundir"
	"github.com/vale-vmnet/vale-vmnet/vale"
)

// Endpoint is a socket on which a port is reachable.
type Endpoint interface{ Close() error }

// Transport makes the endpoints of ports.
type Transport interface {
	// ServeVhostUser and ServeStream run an endpoint on a listening socket,
	// which they close in the end.
	ServeVhostUser(l *net.UnixListener, p *vale.Port) (Endpoint, error)
	ServeStream(l *net.UnixListener, p *vale.Port) (Endpoint, error)
	// ConnectVhostUser runs one that connects to a socket of QEMU's.
	ConnectVhostUser(path string, p *vale.Port) (Endpoint, error)
}

// Config is what a Registry works with.
type Config struct {
	Fabric    *vale.Fabric
	Transport Transport
	Dir       rundir.Dir
	Access    rundir.Access // to the guests' sockets
	MTU       int           // of ports that name none
	Static    []Station     // pinned as soon as their ports exist
	Log       *slog.Logger

	// OrphanAfter is how long an ephemeral port without VM and link stays;
	// 0 is 30 s. It is what a launcher has to get from asking for a port to
	// registering its VM.
	OrphanAfter time.Duration
}

// Station is a MAC address pinned to a port.
type Station struct {
	MAC  net.HardwareAddr
	Port vale.Name
}

// Registry keeps ports and VMs.
type Registry struct {
	cfg  Config
	done chan struct{}
	wg   sync.WaitGroup

	change sync.Mutex // held while ports or VMs change; taken before mu

	mu     sync.Mutex // guards what follows
	ports  map[vale.Name]*port
	vms    map[string]*vm
	closed bool
}

// port is one port and what belongs to it. The fields up to endpoints do not
// change; the others are guarded by Registry.mu.
type port struct {
	core      *vale.Port
	mode      string
	socket    string // of the front end, for mode client
	origin    string
	opened    time.Time
	endpoints []Endpoint

	persistent bool
	vm         *vm
	static     []net.HardwareAddr
	idle       time.Time // since when neither VM nor link; zero: it has one
	history    history
}

// New makes a registry without ports, and starts its sampler.
func New(cfg Config) *Registry {
	cfg.OrphanAfter = cmp.Or(cfg.OrphanAfter, 30*time.Second)
	r := &Registry{
		cfg:   cfg,
		done:  make(chan struct{}),
		ports: make(map[vale.Name]*port),
		vms:   make(map[string]*vm),
	}
	r.wg.Go(r.sample)
	return r
}

// Close closes every endpoint and removes the sockets. The state file stays,
// for the next agent.
func (r *Registry) Close() error {
	r.change.Lock()
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		r.change.Unlock()
		return nil
	}
	r.closed = true
	ports, vms := r.ports, r.vms
	r.ports, r.vms = nil, nil
	r.mu.Unlock()
	close(r.done)
	for _, v := range vms {
		v.process.Close()
	}
	// At the same time: each may wait for a guest's last frame.
	var wg sync.WaitGroup
	failed := make(chan error, len(ports))
	for _, p := range ports {
		wg.Go(func() { failed <- r.unplug(p) })
	}
	wg.Wait()
	close(failed)
	r.change.Unlock()
	r.wg.Wait()
	var errs []error
	for err := range failed {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// Declaration is a port with everything that can be said about it.
type Declaration struct {
	Name       vale.Name
	Persistent bool
	Up         bool
	MTU        int
	Static     []net.HardwareAddr
	Mode       string // api.ModeServer or api.ModeClient
	Socket     string
	Origin     string
}

// open makes a port and its endpoints. The caller holds r.change.
func (r *Registry) open(d Declaration) (*port, error) {
	core, created, err := r.cfg.Fabric.Open(d.Name)
	if err != nil {
		return nil, refuse(api.CodeConflict, err)
	}
	if !created {
		return nil, refusef(api.CodeConflict, "port %s belongs to another part of this program", d.Name)
	}
	core.SetPersistent(true)
	core.SetUp(d.Up)
	p := &port{core: core, mode: d.Mode, socket: d.Socket, origin: d.Origin, persistent: d.Persistent, static: d.Static}
	p.opened = time.Now()
	p.idle = p.opened
	p.history.add(p.opened, vale.Counters{})
	if err := core.SetMTU(d.MTU); err != nil {
		r.cfg.Fabric.Delete(core)
		return nil, refuse(api.CodeBadRequest, err)
	}
	for _, s := range r.cfg.Static {
		if s.Port == d.Name && !containsMAC(p.static, s.MAC) {
			p.static = append(p.static, s.MAC)
		}
	}
	for _, mac := range p.static {
		if err := core.AddStatic(mac); err != nil {
			r.cfg.Fabric.Delete(core)
			return nil, refuse(api.CodeConflict, err)
		}
	}
	if err := r.plug(p); err != nil {
		return nil, errors.Join(err, r.unplug(p))
	}
	r.mu.Lock()
	r.ports[d.Name] = p
	r.mu.Unlock()
	r.cfg.Log.Info("port is open", "port", d.Name.String(), "origin", d.Origin, "persistent", d.Persistent)
	return p, nil
}

// plug opens the port's endpoints.
func (r *Registry) plug(p *port) error {
	name := p.core.Name().String()
	var (
		e   Endpoint
		err error
	)
	if p.mode == api.ModeClient {
		if err = rundir.CheckPath(p.socket); err == nil {
			e, err = r.cfg.Transport.ConnectVhostUser(p.socket, p.core)
		}
	} else {
		e, err = r.listen(r.cfg.Dir.VhostUser(name), p, r.cfg.Transport.ServeVhostUser)
	}
	if err == nil {
		p.endpoints = append(p.endpoints, e)
		e, err = r.listen(r.cfg.Dir.Stream(name), p, r.cfg.Transport.ServeStream)
	}
	if err != nil {
		code := api.CodeInternal
		if errors.Is(err, rundir.ErrInUse) || errors.Is(err, rundir.ErrTooLong) {
			code = api.CodeConflict
		}
		return refuse(code, fmt.Errorf("open port %s: %w", name, err))
	}
	p.endpoints = append(p.endpoints, e)
	return nil
}

// listen makes one listening socket and serves it.
func (r *Registry) listen(path string, p *port, serve func(*net.UnixListener, *vale.Port) (Endpoint, error)) (Endpoint, error) {
	l, err := rundir.Listen(path, r.cfg.Access)
	if err != nil {
		return nil, err
	}
	e, err := serve(l, p.core)
	if err != nil {
		l.Close()
		return nil, err
	}
	return e, nil
}

// unplug closes the port's endpoints and deletes it from its switch.
func (r *Registry) unplug(p *port) error {
	var errs []error
	for _, e := range p.endpoints {
		if err := e.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			errs = append(errs, fmt.Errorf("close port %s: %w", p.core.Name(), err))
		}
	}
	if l := r.cfg.Fabric.Delete(p.core); l != nil {
		l.Close()
	}
	return errors.Join(errs...)
}

// remove deletes a port. The caller holds r.change.
func (r *Registry) remove(p *port, why string) error {
	r.mu.Lock()
	delete(r.ports, p.core.Name())
	r.mu.Unlock()
	err := r.unplug(p)
	if err != nil {
		r.cfg.Log.Warn("closing a port failed", "port", p.core.Name().String(), "error", err)
	}
	r.cfg.Log.Info("port is gone", "port", p.core.Name().String(), "why", why)
	return err
}

// Declare opens a port at the agent's start.
func (r *Registry) Declare(d Declaration) error {
	r.change.Lock()
	defer r.change.Unlock()
	_, err := r.open(d)
	return err
}

func containsMAC(list []net.HardwareAddr, mac net.HardwareAddr) bool {
	return slices.ContainsFunc(list, func(m net.HardwareAddr) bool { return slices.Equal(m, mac) })
}

// refuse makes an error that the API shows with a code.
func refuse(code api.Code, err error) *api.Error {
	if errors.Is(err, fs.ErrPermission) && code == api.CodeInternal {
		code = api.CodeConflict
	}
	return &api.Error{Code: code, Message: err.Error()}
}

func refusef(code api.Code, format string, args ...any) *api.Error {
	return &api.Error{Code: code, Message: fmt.Sprintf(format, args...)}
}
