package porttest_test

import (
	"context"
	"testing"

	"github.com/vale-vmnet/vale-vmnet/vale"
	"github.com/vale-vmnet/vale-vmnet/vale/frame"
	"github.com/vale-vmnet/vale-vmnet/vale/porttest"
)

// client makes a vale.Client a peer.
type client struct {
	*vale.Client
	batch *vale.Batch
}

func (c *client) Send(frames ...[]byte) error {
	c.batch.Reset()
	for _, f := range frames {
		c.batch.Add(frame.VnetHdr{}, f)
	}
	return c.Client.Send(c.batch)
}

func (c *client) Recv(ctx context.Context) ([]byte, error) {
	got, err := c.Client.Recv(ctx, 1)
	if err != nil {
		return nil, err
	}
	return append([]byte(nil), got[0].Data...), nil
}

func TestInProcess(t *testing.T) {
	porttest.Run(t, porttest.Kind{
		MaxLen: frame.MaxLen,
		Serve: func(t testing.TB, p *vale.Port) porttest.Dialer {
			return func(t testing.TB) porttest.Peer {
				c, err := p.Connect(vale.ClientConfig{})
				if err != nil {
					t.Fatal(err)
				}
				return &client{Client: c, batch: vale.NewBatch()}
			}
		},
	})
}
