package vhostuser_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/vale-vmnet/vale-vmnet/vale"
	"github.com/vale-vmnet/vale-vmnet/vale/poll"
	"github.com/vale-vmnet/vale-vmnet/vale/porttest"
	"github.com/vale-vmnet/vale-vmnet/vale/vhostuser"
	"github.com/vale-vmnet/vale-vmnet/vale/vhostuser/vhosttest"
)

// TestPort holds the link to the promises of all links, with guests of
// different rings.
func TestPort(t *testing.T) {
	for name, cfg := range map[string]vhosttest.Config{
		"linux":   {},
		"pieces":  {RxBufSize: 1024, RxSegs: 3},
		"smaller": {RingSize: 128, Regions: 4, RegionSize: 64 << 20},
	} {
		t.Run(name, func(t *testing.T) {
			porttest.Run(t, porttest.Kind{Serve: serveGuest(cfg)})
		})
	}
}

func serveGuest(cfg vhosttest.Config) func(t testing.TB, p *vale.Port) porttest.Dialer {
	return func(t testing.TB, p *vale.Port) porttest.Dialer {
		dir, err := os.MkdirTemp("", "vhost")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.RemoveAll(dir) })
		pool, err := poll.NewPool(poll.Config{Workers: 1})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(pool.Close)
		path := filepath.Join(dir, "sock")
		e, err := vhostuser.Listen(path, p, vhostuser.Options{Pool: pool})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { e.Close() })
		return func(t testing.TB) porttest.Peer {
			g, err := vhosttest.Dial(path, cfg)
			if err == nil {
				err = g.Start()
			}
			if err != nil {
				// The port may be taken: then the peer is one that
				// was hung up on.
				return gone{err}
			}
			return &guestPeer{g}
		}
	}
}

type guestPeer struct{ *vhosttest.Guest }

func (p *guestPeer) Send(frames ...[]byte) error {
	list := make([]vhosttest.Frame, len(frames))
	for i, f := range frames {
		list[i].Data = f
	}
	return p.Tx[0].SendAll(limit, list...)
}

// Recv looks at the ring in turns, since a ring's wait knows no context.
func (p *guestPeer) Recv(ctx context.Context) ([]byte, error) {
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		f, err := p.Rx[0].Recv(20 * time.Millisecond)
		if err == nil {
			return f.Data, nil
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return nil, err
		}
	}
}

type gone struct{ err error }

func (g gone) Send(...[]byte) error                 { return g.err }
func (g gone) Recv(context.Context) ([]byte, error) { return nil, g.err }
func (g gone) Close() error                         { return nil }
