// Package apiclient speaks the agent's control API.
//
//	c := apiclient.New("/run/vale-vmnet/api.sock")
//	port, _, err := c.PutPort(ctx, "vale-1:a", api.PortSpec{})
//
// What the agent refuses comes back as *api.Error with its code and sentence;
// an agent that cannot be reached as *UnreachableError.
package apiclient

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"time"

	"github.com/vale-vmnet/vale-vmnet/plugin/api"
)

// DialFunc opens a connection to the agent.
type DialFunc func(ctx context.Context) (net.Conn, error)

// Client talks to one agent. It may be used by several goroutines.
type Client struct {
	socket string
	http   *http.Client
}

// New makes a client for the agent behind a control socket. It connects when
// it is used.
func New(socket string) *Client {
	return NewDialer(socket, func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", socket)
	})
}

// NewDialer makes a client that connects by dial. name stands for the agent in
// errors.
func NewDialer(name string, dial DialFunc) *Client {
	return &Client{
		socket: name,
		http: &http.Client{
			Timeout: 30 * time.Second,
			Transport: &http.Transport{
				DialContext:         func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) },
				MaxIdleConnsPerHost: 2,
				IdleConnTimeout:     30 * time.Second,
			},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
}

// Close closes idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// UnreachableError says that no agent answered.
type UnreachableError struct {
	Socket string
	Err    error
}

func (e *UnreachableError) Error() string {
	cause := e.Err
	var sys syscall.Errno
	if errors.As(e.Err, &sys) {
		cause = sys
	}
	remedy := "start one with \"vale-vmnet agent\", or name the directory of one that runs with --run-dir"
	if errors.Is(e.Err, fs.ErrPermission) {
		remedy = "become root or a member of the socket's group"
	}
	return fmt.Sprintf("agent does not answer on %s: %v; %s", e.Socket, cause, remedy)
}

func (e *UnreachableError) Unwrap() error { return e.Err }

// maxAnswer bounds what is read of an answer. 65,000 ports fit.
const maxAnswer = 256 << 20

// do makes one request. in and out may be nil.
func (c *Client) do(ctx context.Context, method, path string, in, out any) (status int, err error) {
	var body io.Reader
	if in != nil {
		text, err := json.Marshal(in)
		if err != nil {
			return 0, fmt.Errorf("encode request: %w", err)
		}
		body = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://agent"+api.Prefix+path, body)
	if err != nil {
		return 0, fmt.Errorf("make request: %w", err)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		var op *net.OpError
		if ctx.Err() == nil && errors.As(err, &op) && op.Op == "dial" {
			return 0, &UnreachableError{Socket: c.socket, Err: op.Err}
		}
		return 0, fmt.Errorf("ask agent on %s: %w", c.socket, err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return 0, fmt.Errorf("read answer of agent on %s: %w", c.socket, err)
	}
	if resp.StatusCode >= 300 {
		var refused api.ErrorBody
		if json.Unmarshal(text, &refused) == nil && refused.Error != nil && refused.Error.Message != "" {
			return resp.StatusCode, refused.Error
		}
		return resp.StatusCode, fmt.Errorf("read answer of agent on %s: it says %s and no reason", c.socket, resp.Status)
	}
	if out == nil {
		return resp.StatusCode, nil
	}
	if err := json.Unmarshal(text, out); err != nil {
		return resp.StatusCode, fmt.Errorf("read answer of agent on %s: %w", c.socket, err)
	}
	return resp.StatusCode, nil
}

// path joins parts, which may hold any byte.
func path(parts ...string) string {
	var s string
	for _, p := range parts {
		p = url.PathEscape(p)
		if p == "." || p == ".." {
			p = strings.ReplaceAll(p, ".", "%2E") // no walk through the tree
		}
		s += "/" + p
	}
	return s
}
