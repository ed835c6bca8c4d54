package agent_test

import (
	"context"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/vale-vmnet/vale-vmnet/configs"
	"github.com/vale-vmnet/vale-vmnet/plugin/agent"
	"github.com/vale-vmnet/vale-vmnet/plugin/api"
	"github.com/vale-vmnet/vale-vmnet/plugin/apiclient"
	"github.com/vale-vmnet/vale-vmnet/plugin/rundir"
)

// running is a real agent in its own runtime directory, and a client of it.
type running struct {
	*apiclient.Client
	dir  rundir.Dir
	stop func() // idempotent
}

// runDir makes a directory whose sockets have short enough paths.
func runDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "vag")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return filepath.Join(dir, "run")
}

func config(dir string) configs.Config {
	cfg := configs.Default()
	cfg.RunDir = dir
	cfg.Workers = 1
	return cfg
}

func start(t *testing.T, cfg configs.Config) *running {
	t.Helper()
	a, err := agent.New(cfg, slog.New(slog.NewTextHandler(t.Output(), nil)))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	dir := rundir.Dir(cfg.RunDir)
	r := &running{Client: apiclient.New(dir.API()), dir: dir}
	stopped := false
	r.stop = func() {
		if stopped {
			return
		}
		stopped = true
		r.Close()
		cancel()
		if err := <-done; err != nil {
			t.Errorf("agent ended: %v", err)
		}
	}
	t.Cleanup(r.stop)
	return r
}

// eventually waits for a condition. The limit only ends a test that fails.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: never came true", what)
		}
	}
}

// sleeper stands for a QEMU: a process that lives until it is killed.
func sleeper(t *testing.T) (pid int, kill func()) {
	t.Helper()
	cmd := exec.Command("sleep", "600")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	killed := false
	kill = func() {
		if !killed {
			killed = true
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
	}
	t.Cleanup(kill)
	return cmd.Process.Pid, kill
}

func wantCode(t *testing.T, what string, err error, code api.Code) {
	t.Helper()
	if !apiclient.IsCode(err, code) {
		t.Errorf("%s: %v, want code %s", what, err, code)
	}
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

func ptr[T any](v T) *T { return &v }

func TestPortLife(t *testing.T) {
	r, ctx := start(t, config(runDir(t))), t.Context()
	p, created, err := r.PutPort(ctx, "vale1:a", api.PortSpec{Persistent: ptr(true), MTU: ptr(1500)})
	if err != nil || !created {
		t.Fatalf("make port: created %v, %v", created, err)
	}
	if p.Name != "vale-1:a" || p.MTU != 1500 || !p.Persistent || !p.Up || p.Link.State != api.StateDown {
		t.Errorf("new port is %+v", p)
	}
	if p.Sockets.VhostUser != r.dir.VhostUser("vale-1:a") || !exists(p.Sockets.VhostUser) || !exists(p.Sockets.Stream) {
		t.Errorf("sockets are %+v", p.Sockets)
	}
	// The launcher's way of asking keeps what is there.
	if p, created, err = r.PutPort(ctx, "vale-1:a", api.PortSpec{}); err != nil || created || !p.Persistent || p.MTU != 1500 {
		t.Errorf("asked again: created %v, %+v, %v", created, p, err)
	}
	if p, err = r.PatchPort(ctx, "vale-1:a", api.PortSpec{Up: ptr(false), MTU: ptr(0)}); err != nil || p.Up || p.MTU != 0 || p.Link.State != api.StateDisabled {
		t.Errorf("changed: %+v, %v", p, err)
	}
	_, err = r.PatchPort(ctx, "vale-1:a", api.PortSpec{MTU: ptr(12)})
	wantCode(t, "tiny MTU", err, api.CodeBadRequest)
	_, err = r.PatchPort(ctx, "vale-1:b", api.PortSpec{})
	wantCode(t, "change a missing port", err, api.CodeNotFound)
	_, _, err = r.PutPort(ctx, "vale-1:a", api.PortSpec{Mode: ptr("client"), Socket: ptr("/x")})
	wantCode(t, "change the mode", err, api.CodeConflict)
	_, _, err = r.PutPort(ctx, "vale-1:c", api.PortSpec{Mode: ptr("client")})
	wantCode(t, "client without socket", err, api.CodeBadRequest)
	if err := r.DeletePort(ctx, "vale-1:a", false); err != nil {
		t.Fatal(err)
	}
	wantCode(t, "delete it again", r.DeletePort(ctx, "vale-1:a", false), api.CodeNotFound)
	if exists(p.Sockets.VhostUser) || exists(p.Sockets.Stream) {
		t.Error("a deleted port leaves sockets")
	}
	eventually(t, "the switch goes with its last port", func() bool {
		list, err := r.Switches(ctx)
		return err == nil && len(list.Switches) == 0
	})
}

func TestBadNames(t *testing.T) {
	r, ctx := start(t, config(runDir(t))), t.Context()
	for _, name := range []string{"vale-1", "vale-:a", "vale-1:", "eth0:a", "vale-1:abcdefghijklmnop", "vale-1:a\a", "vale-1:../../x", "vale-1:..", "..", ".", "a/b", "vale-1:a?b", "\xff"} {
		_, _, err := r.PutPort(ctx, name, api.PortSpec{})
		wantCode(t, "port "+name, err, api.CodeBadRequest)
	}
}

func TestSocketPathInUse(t *testing.T) {
	r, ctx := start(t, config(runDir(t))), t.Context()
	l, err := net.Listen("unix", r.dir.Stream("vale-1:a"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, _, err = r.PutPort(ctx, "vale-1:a", api.PortSpec{})
	wantCode(t, "path in use", err, api.CodeConflict)
	if exists(r.dir.VhostUser("vale-1:a")) {
		t.Error("half a port is left")
	}
	if _, err := r.Port(ctx, "vale-1:a"); err == nil {
		t.Error("the port is there")
	}
	// Another port of the same agent is not concerned.
	if _, _, err := r.PutPort(ctx, "vale-1:b", api.PortSpec{}); err != nil {
		t.Error(err)
	}
}

func TestStaticEntries(t *testing.T) {
	r, ctx := start(t, config(runDir(t))), t.Context()
	for _, name := range []string{"vale-1:a", "vale-1:b"} {
		if _, _, err := r.PutPort(ctx, name, api.PortSpec{Persistent: ptr(true)}); err != nil {
			t.Fatal(err)
		}
	}
	const mac = "52:54:00:00:00:01"
	entries := func() []api.FDBEntry {
		f, err := r.FDB(ctx, "vale1")
		if err != nil {
			t.Fatal(err)
		}
		return f.Entries
	}
	for _, port := range []string{"vale-1:a", "vale-1:a", "vale-1:b"} { // the last one moves it
		if err := r.AddStatic(ctx, "vale-1", mac, port); err != nil {
			t.Fatal(err)
		}
		if e := entries(); len(e) != 1 || e[0].Port != port || !e[0].Static || e[0].MAC != mac {
			t.Errorf("entries are %+v, want %s on %s", e, mac, port)
		}
	}
	a, err := r.Port(ctx, "vale-1:a")
	if err != nil || len(a.MACs) != 0 {
		t.Errorf("the old port still shows %v, %v", a.MACs, err)
	}
	_, _, err = r.PutPort(ctx, "vale-1:c", api.PortSpec{MAC: ptr(mac)})
	wantCode(t, "pin to a third port", err, api.CodeConflict)
	wantCode(t, "other switch", r.AddStatic(ctx, "vale-2", mac, "vale-1:a"), api.CodeBadRequest)
	wantCode(t, "group address", r.AddStatic(ctx, "vale-1", "01:00:5e:00:00:01", "vale-1:a"), api.CodeBadRequest)
	wantCode(t, "no address", r.AddStatic(ctx, "vale-1", "nonsense", "vale-1:a"), api.CodeBadRequest)
	wantCode(t, "no port", r.AddStatic(ctx, "vale-1", mac, "vale-1:z"), api.CodeNotFound)
	if f, err := r.FlushFDB(ctx, "vale-1"); err != nil || f.Entries != 0 || len(entries()) != 1 {
		t.Errorf("flush forgot %d, %v; static entries stay", f.Entries, err)
	}
	if err := r.RemoveFDB(ctx, "vale-1", mac); err != nil || len(entries()) != 0 {
		t.Errorf("delete: %v, left %v", err, entries())
	}
	wantCode(t, "delete it again", r.RemoveFDB(ctx, "vale-1", mac), api.CodeNotFound)
}

func TestDeclaredPorts(t *testing.T) {
	cfg, err := configs.Load(configs.Source{File: os.DevNull, Environ: []string{"VALE_VMNET_PORTS=vale-1:a"}})
	if err != nil {
		t.Fatal(err)
	}
	cfg.RunDir = runDir(t)
	cfg.Ports[0].MAC = net.HardwareAddr{0x52, 0x54, 0, 0, 0, 7}
	cfg.FDB = []configs.StaticEntry{{MAC: net.HardwareAddr{0x52, 0x54, 0, 0, 0, 8}, Port: cfg.Ports[0].Name}}
	r, ctx := start(t, cfg), t.Context()
	p, err := r.Port(ctx, "vale-1:a")
	if err != nil || p.Origin != api.OriginConfig || p.MACCount != 2 {
		t.Errorf("declared port is %+v, %v", p, err)
	}
	wantCode(t, "delete it", r.DeletePort(ctx, "vale-1:a", true), api.CodeConflict)
	if _, err := agent.New(cfg, slog.New(slog.DiscardHandler)); err == nil {
		t.Error("a second agent shares the directory")
	}
	if _, err := r.Port(ctx, "vale-1:a"); err != nil {
		t.Errorf("the refused agent disturbed the first: %v", err)
	}
	s, err := r.Status(ctx)
	if err != nil || s.PID != os.Getpid() || s.Ports != 1 || s.Switches != 1 || s.RunDir != cfg.RunDir || s.Workers != 1 && s.Workers != cfg.WorkerCount() {
		t.Errorf("status is %+v, %v", s, err)
	}
}
