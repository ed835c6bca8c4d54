package agent

import (
	"log/slog"
	"net"

	"github.com/vale-vmnet/vale-vmnet/plugin/registry"
	"github.com/vale-vmnet/vale-vmnet/vale"
	"github.com/vale-vmnet/vale-vmnet/vale/poll"
	"github.com/vale-vmnet/vale-vmnet/vale/stream"
	"github.com/vale-vmnet/vale-vmnet/vale/vhostuser"
)

// transport makes the links that the agent has for guests.
type transport struct {
	pool *poll.Pool
	log  *slog.Logger
}

func (t transport) ServeVhostUser(l *net.UnixListener, p *vale.Port) (registry.Endpoint, error) {
	return vhostuser.Serve(l, p, vhostuser.Options{Pool: t.pool, Log: t.log}), nil
}

func (t transport) ConnectVhostUser(path string, p *vale.Port) (registry.Endpoint, error) {
	return vhostuser.Connect(path, p, vhostuser.Options{Pool: t.pool, Log: t.log})
}

func (t transport) ServeStream(l *net.UnixListener, p *vale.Port) (registry.Endpoint, error) {
	return stream.Serve(l, p, stream.Options{Log: t.log}), nil
}
