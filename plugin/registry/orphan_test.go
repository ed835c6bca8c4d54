package registry

import (
	"log/slog"
	"net"
	"os"
	"testing"
	"time"

	"github.com/vale-vmnet/vale-vmnet/plugin/api"
	"github.com/vale-vmnet/vale-vmnet/plugin/rundir"
	"github.com/vale-vmnet/vale-vmnet/vale"
	"github.com/vale-vmnet/vale-vmnet/vale/stream"
)

// streams serves both sockets of a port by stream links.
type streams struct{}

func (streams) ServeVhostUser(l *net.UnixListener, p *vale.Port) (Endpoint, error) {
	return stream.Serve(l, p, stream.Options{}), nil
}
func (streams) ServeStream(l *net.UnixListener, p *vale.Port) (Endpoint, error) {
	return stream.Serve(l, p, stream.Options{}), nil
}
func (streams) ConnectVhostUser(path string, p *vale.Port) (Endpoint, error) {
	return stream.Connect(path, p, stream.Options{})
}

// An ephemeral port that nobody uses goes; all others stay.
func TestOrphansGo(t *testing.T) {
	dir, err := os.MkdirTemp("", "vrg")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	fabric := vale.New(vale.Config{})
	defer fabric.Close()
	r := New(Config{Fabric: fabric, Transport: streams{}, Dir: rundir.Dir(dir), Access: rundir.Access{Mode: 0o600, GID: -1}, Log: slog.New(slog.DiscardHandler), OrphanAfter: time.Hour})
	defer r.Close()

	persistent := true
	for name, spec := range map[string]api.PortSpec{
		"vale-1:orphan": {},
		"vale-1:used":   {},
		"vale-1:vm":     {},
		"vale-1:kept":   {Persistent: &persistent},
	} {
		if _, _, err := r.PutPort(name, spec); err != nil {
			t.Fatal(err)
		}
	}
	declared, err := vale.ParseName("vale-1:declared")
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Declare(Declaration{Name: declared, Up: true, Mode: api.ModeServer, Origin: api.OriginConfig}); err != nil {
		t.Fatal(err)
	}
	if _, _, err := r.PutVM("self", api.VM{PID: os.Getpid(), NICs: []api.NIC{{Port: "vale-1:vm"}}}); err != nil {
		t.Fatal(err)
	}
	used := r.ports[vale.Name{Switch: "vale-1", Port: "used"}].core
	client, err := used.Connect(vale.ClientConfig{})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()

	names := func() (list []string) {
		sw, err := r.Switch("vale-1")
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range sw.Ports {
			list = append(list, p.Name)
		}
		return list
	}
	now := time.Now()
	r.sampleAt(now)
	r.reap(now)
	if got := names(); len(got) != 5 {
		t.Errorf("too early, ports are %v, want all five", got)
	}
	r.sampleAt(now.Add(2 * time.Hour))
	r.reap(now.Add(2 * time.Hour))
	if got := names(); len(got) != 4 || got[0] != "vale-1:declared" || got[1] != "vale-1:kept" || got[2] != "vale-1:used" || got[3] != "vale-1:vm" {
		t.Errorf("ports are %v, want all but the orphan", got)
	}
}
