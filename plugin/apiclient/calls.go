package apiclient

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/vale-vmnet/vale-vmnet/plugin/api"
)

// Status describes the agent.
func (c *Client) Status(ctx context.Context) (api.Status, error) {
	return get[api.Status](ctx, c, "/status")
}

// Switches lists all switches with their ports.
func (c *Client) Switches(ctx context.Context) (api.SwitchList, error) {
	return get[api.SwitchList](ctx, c, "/switches")
}

// Switch describes one switch.
func (c *Client) Switch(ctx context.Context, name string) (api.Switch, error) {
	return get[api.Switch](ctx, c, path("switches", name))
}

// FDB lists the stations that a switch knows.
func (c *Client) FDB(ctx context.Context, sw string) (api.FDB, error) {
	return get[api.FDB](ctx, c, path("switches", sw, "fdb"))
}

// FlushFDB has a switch forget the stations it has learned.
func (c *Client) FlushFDB(ctx context.Context, sw string) (f api.Flushed, err error) {
	_, err = c.do(ctx, http.MethodDelete, path("switches", sw, "fdb"), nil, &f)
	return f, err
}

// AddStatic pins an address to a port of a switch.
func (c *Client) AddStatic(ctx context.Context, sw, mac, port string) error {
	_, err := c.do(ctx, http.MethodPut, path("switches", sw, "fdb", mac), api.FDBTarget{Port: port}, nil)
	return err
}

// RemoveFDB has a switch forget one station, pinned or learned.
func (c *Client) RemoveFDB(ctx context.Context, sw, mac string) error {
	_, err := c.do(ctx, http.MethodDelete, path("switches", sw, "fdb", mac), nil, nil)
	return err
}

// Port describes one port.
func (c *Client) Port(ctx context.Context, name string) (api.Port, error) {
	return get[api.Port](ctx, c, path("ports", name))
}

// PutPort makes a port, or changes the one that is there, and says which.
func (c *Client) PutPort(ctx context.Context, name string, spec api.PortSpec) (p api.Port, created bool, err error) {
	status, err := c.do(ctx, http.MethodPut, path("ports", name), spec, &p)
	return p, status == http.StatusCreated, err
}

// PatchPort changes a port that is there.
func (c *Client) PatchPort(ctx context.Context, name string, spec api.PortSpec) (p api.Port, err error) {
	_, err = c.do(ctx, http.MethodPatch, path("ports", name), spec, &p)
	return p, err
}

// DeletePort removes a port; one that a guest uses only with force.
func (c *Client) DeletePort(ctx context.Context, name string, force bool) error {
	p := path("ports", name)
	if force {
		p += "?force=true"
	}
	_, err := c.do(ctx, http.MethodDelete, p, nil, nil)
	return err
}

// VMs lists the registered VMs.
func (c *Client) VMs(ctx context.Context) (api.VMList, error) {
	return get[api.VMList](ctx, c, "/vms")
}

// VM describes one VM.
func (c *Client) VM(ctx context.Context, name string) (api.VM, error) {
	return get[api.VM](ctx, c, path("vms", name))
}

// PutVM registers a running VM.
func (c *Client) PutVM(ctx context.Context, name string, vm api.VM) (out api.VM, err error) {
	_, err = c.do(ctx, http.MethodPut, path("vms", name), vm, &out)
	return out, err
}

// DeleteVM has the agent forget a VM.
func (c *Client) DeleteVM(ctx context.Context, name string) error {
	_, err := c.do(ctx, http.MethodDelete, path("vms", name), nil, nil)
	return err
}

// IsCode says whether err is the agent's refusal with this code.
func IsCode(err error, code api.Code) bool {
	var e *api.Error
	return errors.As(err, &e) && e.Code == code
}

func get[T any](ctx context.Context, c *Client, path string) (v T, err error) {
	_, err = c.do(ctx, http.MethodGet, path, nil, &v)
	return v, err
}

// WaitStatus is Status that gives an agent time to start.
func (c *Client) WaitStatus(ctx context.Context, limit time.Duration) (api.Status, error) {
	deadline := time.Now().Add(limit)
	for {
		s, err := c.Status(ctx)
		var unreachable *UnreachableError
		if err == nil || !errors.As(err, &unreachable) || time.Now().After(deadline) {
			return s, err
		}
		select {
		case <-ctx.Done():
			return s, ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
	}
}
