package server_test

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vale-vmnet/vale-vmnet/plugin/api"
	"github.com/vale-vmnet/vale-vmnet/plugin/apiclient"
	"github.com/vale-vmnet/vale-vmnet/plugin/server"
)

var update = flag.Bool("update", false, "write the golden files anew")

// fixed is a host at rest: its answers are the examples of the wire format.
type fixed struct{}

var (
	when = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

	port = api.Port{
		Name: "vale-1:a", Switch: "vale-1", Origin: api.OriginAPI, Up: true, MTU: 1500,
		VM: "web", MACs: []string{"52:54:00:00:00:01"}, MACCount: 1,
		Sockets: api.Sockets{VhostUser: "/run/vale-vmnet/vale-1:a.sock", Mode: api.ModeServer, Stream: "/run/vale-vmnet/vale-1:a.stream"},
		Link: api.Link{Kind: "vhost-user", State: api.StateUp, Since: when, Peer: "qemu-system-x86[4711]", PID: 4711, Queues: 1,
			Features: []string{"VIRTIO_F_VERSION_1"}, Details: map[string]string{"memory": "1024 MiB"}},
		Counters: api.Counters{
			In:  api.InCounters{Frames: 10, Bytes: 640, Multicast: 1, Copies: 12, Delivered: 11, Dropped: 1, Drops: map[string]uint64{"ring-full": 1}},
			Out: api.OutCounters{Frames: 7, Bytes: 448, Drops: map[string]uint64{}},
		},
		Rates: api.Rates{Last1s: api.Rate{InFrames: 1, InBits: 512}, Last10s: api.Rate{InFrames: 0.5, InBits: 256}},
	}
	sw = api.Switch{Name: "vale-1", Ports: []api.Port{port}, FDB: api.FDBStats{Entries: 1}}
	vm = api.VM{Name: "web", UUID: "c7a5fdbd-cdaf-9455-926a-d65c16db1809", PID: 4711, StartTime: 815, Source: "launcher", Since: when,
		NICs: []api.NIC{{Port: "vale-1:a", MAC: "52:54:00:00:00:01", Model: "virtio", Link: "vhost-user"}}}
)

func (fixed) Status() api.Status {
	return api.Status{Version: "v0.1.0", PID: 1, StartedAt: when, Uptime: 1.5, RunDir: "/run/vale-vmnet", Workers: 1, CPUs: []int{2}, Switches: 1, Ports: 1, VMs: 1}
}
func (fixed) Switches() api.SwitchList             { return api.SwitchList{Switches: []api.Switch{sw}} }
func (fixed) Switch(string) (api.Switch, error)    { return sw, nil }
func (fixed) FlushFDB(string) (api.Flushed, error) { return api.Flushed{Entries: 3}, nil }
func (fixed) FDB(string) (api.FDB, error) {
	return api.FDB{Entries: []api.FDBEntry{{MAC: "52:54:00:00:00:01", Port: "vale-1:a", Age: 4}}}, nil
}
func (fixed) AddStatic(sw, mac, port string) error {
	return &api.Error{Code: api.CodeConflict, Message: fmt.Sprintf("cannot pin %s to %s of %s", mac, port, sw)}
}
func (fixed) RemoveFDB(_, _ string) error   { return nil }
func (fixed) Port(string) (api.Port, error) { return port, nil }
func (fixed) DeletePort(_ string, force bool) error {
	if !force {
		return errors.New("the disk is on fire")
	}
	return nil
}
func (fixed) PutPort(_ string, s api.PortSpec) (api.Port, bool, error) {
	return port, s.MTU != nil, nil
}
func (fixed) PatchPort(string, api.PortSpec) (api.Port, error) { return port, nil }
func (fixed) VMs() api.VMList                                  { return api.VMList{VMs: []api.VM{vm}} }
func (fixed) VM(name string) (api.VM, error) {
	if name != vm.Name {
		return api.VM{}, &api.Error{Code: api.CodeNotFound, Message: "no VM " + name}
	}
	return vm, nil
}
func (fixed) PutVM(string, api.VM) (api.VM, bool, error) { return vm, true, nil }
func (fixed) DeleteVM(string) error                      { return nil }

// serve runs the real server on a real unix socket.
func serve(t *testing.T) (socket string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "vsv")
	if err != nil {
		t.Fatal(err)
	}
	socket = filepath.Join(dir, "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	s := server.New(fixed{}, slog.New(slog.NewTextHandler(t.Output(), nil)))
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
		defer cancel()
		s.Shutdown(ctx)
		if err := <-done; err != nil {
			t.Error(err)
		}
		os.RemoveAll(dir)
	})
	return socket
}

func httpClient(socket string) *http.Client {
	return &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		},
	}}
}

// The whole wire format is golden: testdata/NAME.http has status and body.
func TestGolden(t *testing.T) {
	client := httpClient(serve(t))
	for _, tt := range []struct{ name, method, path, body string }{
		{"status", "GET", "/v1/status", ""},
		{"switches", "GET", "/v1/switches", ""},
		{"switch", "GET", "/v1/switches/vale-1", ""},
		{"fdb", "GET", "/v1/switches/vale-1/fdb", ""},
		{"fdb-flush", "DELETE", "/v1/switches/vale-1/fdb", ""},
		{"fdb-add-refused", "PUT", "/v1/switches/vale-1/fdb/52:54:00:00:00:01", `{"port":"vale-1:a"}`},
		{"fdb-del", "DELETE", "/v1/switches/vale-1/fdb/52:54:00:00:00:01", ""},
		{"port", "GET", "/v1/ports/vale-1:a", ""},
		{"port-made", "PUT", "/v1/ports/vale-1:a", `{"mtu":1500}`},
		{"port-there", "PUT", "/v1/ports/vale-1:a", `{}`},
		{"port-patch", "PATCH", "/v1/ports/vale-1:a", `{"up":true}`},
		{"port-del", "DELETE", "/v1/ports/vale-1:a?force=true", ""},
		{"internal", "DELETE", "/v1/ports/vale-1:a", ""},
		{"vms", "GET", "/v1/vms", ""},
		{"vm", "GET", "/v1/vms/web", ""},
		{"vm-missing", "GET", "/v1/vms/a%2Fb", ""},
		{"vm-made", "PUT", "/v1/vms/web", `{"pid":4711,"nics":[]}`},
		{"no-path", "GET", "/v2/status", ""},
		{"no-method", "POST", "/v1/vms/web", ""},
		{"dots", "GET", "/v1/ports/../status", ""},
		{"unknown-field", "PUT", "/v1/ports/vale-1:a", `{"mut":1500}`},
		{"wrong-type", "PUT", "/v1/ports/vale-1:a", `{"mtu":"big"}`},
		{"no-body", "PUT", "/v1/ports/vale-1:a", ""},
		{"two-values", "PUT", "/v1/ports/vale-1:a", `{}{}`},
		{"syntax", "PUT", "/v1/ports/vale-1:a", `{`},
		{"too-large", "PUT", "/v1/ports/vale-1:a", `{"socket":"` + strings.Repeat("x", 65536) + `"}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			req, err := http.NewRequest(tt.method, "http://agent"+tt.path, strings.NewReader(tt.body))
			if err != nil {
				t.Fatal(err)
			}
			resp, err := client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			body, err := io.ReadAll(resp.Body)
			if err != nil {
				t.Fatal(err)
			}
			if len(body) > 0 && (!json.Valid(body) || resp.Header.Get("Content-Type") != "application/json") {
				t.Errorf("answer is not JSON: %s", body)
			}
			shown := tt.body
			if len(shown) > 80 {
				shown = shown[:40] + "..."
			}
			got := fmt.Sprintf("%s %s %s\n\n%s\n%s", tt.method, tt.path, shown, resp.Status, body)
			name := filepath.Join("testdata", tt.name+".http")
			if *update {
				if err := os.WriteFile(name, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
}

// Clients that say nothing, or half of something, do not keep others out.
func TestSlowClientsDoNoHarm(t *testing.T) {
	socket := serve(t)
	for i := range 60 {
		conn, err := net.Dial("unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if i%2 == 0 {
			fmt.Fprint(conn, "PUT /v1/ports/vale-1:a HTTP/1.1\r\nHost: agent\r\nContent-Length: 100\r\n\r\n{")
		}
	}
	c := apiclient.New(socket)
	defer c.Close()
	if _, err := c.Status(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestClientErrors(t *testing.T) {
	socket := serve(t)
	c := apiclient.New(socket)
	defer c.Close()
	_, err := c.VM(t.Context(), "a/b")
	var refused *api.Error
	if !errors.As(err, &refused) || refused.Code != api.CodeNotFound || refused.Message != "no VM a/b" {
		t.Errorf("refusal is %#v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Status(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled call gives %v", err)
	}
	missing := apiclient.New(socket + "x")
	var unreachable *apiclient.UnreachableError
	if _, err := missing.Status(t.Context()); !errors.As(err, &unreachable) || !strings.Contains(err.Error(), socket+"x") || !strings.Contains(err.Error(), "vale-vmnet agent") {
		t.Errorf("no agent gives %v", err)
	}
	// A server that is none of ours.
	foreign := apiclient.NewDialer("pipe", func(context.Context) (net.Conn, error) {
		a, b := net.Pipe()
		go func() {
			_, _ = b.Read(make([]byte, 4096))
			fmt.Fprint(b, "HTTP/1.1 500 Oops\r\nContent-Length: 4\r\n\r\nhtml")
			b.Close()
		}()
		return a, nil
	})
	if _, err := foreign.Status(t.Context()); err == nil || !strings.Contains(err.Error(), "500 Oops") {
		t.Errorf("foreign server gives %v", err)
	}
}
