package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vale-vmnet/vale-vmnet/deploy/guest"
	"github.com/vale-vmnet/vale-vmnet/deploy/guest/host"
	"github.com/vale-vmnet/vale-vmnet/plugin/api"
)

// program is what is under test: compiled once, or $VALE_E2E_BIN.
var program = sync.OnceValues(func() (string, error) {
	if bin := os.Getenv("VALE_E2E_BIN"); bin != "" {
		return filepath.Abs(bin)
	}
	dir, err := os.MkdirTemp("", "vale-e2e-bin-")
	if err != nil {
		return "", err
	}
	buildDir = dir
	return host.Build(context.Background(), dir)
})

var buildDir string

func TestMain(m *testing.M) {
	code := m.Run()
	if buildDir != "" {
		os.RemoveAll(buildDir)
	}
	os.Exit(code)
}

// missing skips a test that lacks a prerequisite; where CI=true promises that
// everything is there, it fails instead.
func missing(t *testing.T, err error) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal(err)
	}
	t.Skip(err)
}

// site is one host of its own: an agent in a private runtime directory and the
// guests that run beside it.
type site struct {
	t     *testing.T
	ctx   context.Context
	dir   string
	agent *host.Agent
}

// newSite starts an agent. All of it is gone when the test ends; a failed test
// shows what the agent and the guests said last.
func newSite(t *testing.T, timeout time.Duration) *site {
	t.Helper()
	s := bareSite(t, timeout)
	bin, err := program()
	if err != nil {
		t.Fatal(err)
	}
	s.startAgent(t, bin)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("last lines of the agent:\n%s", guest.Tail(s.agent.Log, 40))
		}
		s.agent.Kill()
	})
	return s
}

// bareSite is a site without an agent.
func bareSite(t *testing.T, timeout time.Duration) *site {
	t.Helper()
	if err := guest.Check(); err != nil {
		missing(t, err)
	}
	dir, err := os.MkdirTemp("", "vale-e2e-") // t.TempDir is too long for a socket's name
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	t.Cleanup(cancel)
	return &site{t: t, ctx: ctx, dir: dir}
}

func (s *site) startAgent(t *testing.T, bin string) {
	t.Helper()
	agent, err := host.StartAgent(s.ctx, bin, filepath.Join(s.dir, "run"), filepath.Join(s.dir, "agent.log"))
	if err != nil {
		t.Fatal(err)
	}
	s.agent = agent
}

// image takes a guest image from the cache, or builds it.
func (s *site) image(f guest.Flavour) *guest.Image {
	s.t.Helper()
	image, err := guest.Build(s.ctx, guest.Options{Flavour: f, Progress: s.t.Logf})
	if err != nil {
		s.t.Fatal(err)
	}
	return image
}

// node is a guest with the handle that tests use.
type node struct {
	*guest.Guest
	site *site
	name string
	mac  string
}

// start runs a guest through the launcher; qemu has the network arguments as a
// user writes them. The guest lives as long as the site, not the subtest t.
func (s *site) start(t *testing.T, name string, image *guest.Image, qemu ...string) *node {
	t.Helper()
	vm := guest.VM{Dir: filepath.Join(s.dir, name), Name: name, Accel: image.Accel(s.ctx)}
	argv := append([]string{"qemu-system-x86_64"}, qemu...)
	return s.run(t, vm, s.agent.Launch(append(argv, image.Args(vm)...)...))
}

// raw starts a guest's QEMU directly, as people do who use no launcher.
func (s *site) raw(t *testing.T, name string, image *guest.Image, qemu ...string) *node {
	t.Helper()
	vm := guest.VM{Dir: filepath.Join(s.dir, name), Name: name, Accel: image.Accel(s.ctx)}
	argv := append([]string{"qemu-system-x86_64"}, qemu...)
	return s.run(t, vm, append(argv, image.Args(vm)...))
}

// run starts any command line that becomes the guest's QEMU.
func (s *site) run(t *testing.T, vm guest.VM, argv []string) *node {
	t.Helper()
	g, err := guest.Start(vm, argv)
	if err != nil {
		t.Fatal(err)
	}
	s.t.Cleanup(func() {
		if s.t.Failed() {
			s.t.Logf("guest %s:\n%s", vm.Name, g.Logs())
		}
		g.Kill()
	})
	return &node{Guest: g, site: s, name: vm.Name}
}

// up waits until guests have booted and gives them their addresses.
func (s *site) up(t *testing.T, addresses map[*node]string) {
	t.Helper()
	for n, address := range addresses {
		if err := n.WaitBoot(s.ctx); err != nil {
			t.Fatalf("guest %s: %v", n.name, err)
		}
		n.run(t, "ip addr add %s/24 dev eth0", address)
		n.mac = strings.TrimSpace(n.run(t, "cat /sys/class/net/eth0/address"))
	}
}

// run runs a command in the guest and fails the test when that fails.
func (n *node) run(t *testing.T, format string, args ...any) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(n.site.ctx, time.Minute)
	defer cancel()
	out, err := n.Run(ctx, fmt.Sprintf(format, args...))
	if err != nil {
		t.Fatalf("guest %s: %v", n.name, err)
	}
	return out
}

// eventually asks again until the answer is nil. The limit is far beyond what a
// slow machine needs: it only keeps a failure from taking the whole test's time.
func (s *site) eventually(t *testing.T, what string, ask func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(s.ctx, time.Minute)
	defer cancel()
	for {
		err := ask()
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("%s: never came true: %v", what, err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// reaches waits until one guest can ping another: after a change of links the
// first packets may be lost.
func (n *node) reaches(t *testing.T, address string) {
	t.Helper()
	n.site.eventually(t, "guest "+n.name+" pings "+address, func() error {
		_, err := n.Run(n.site.ctx, "ping -c 1 -W 1 "+address)
		return err
	})
}

func (s *site) port(name string) (api.Port, error) {
	out, err := s.agent.Run(s.ctx, "ls", "--json")
	if err != nil {
		return api.Port{}, err
	}
	var l api.SwitchList
	if err := json.Unmarshal([]byte(out), &l); err != nil {
		return api.Port{}, fmt.Errorf("read ls --json: %w: %s", err, out)
	}
	for _, sw := range l.Switches {
		for _, p := range sw.Ports {
			if p.Name == name {
				return p, nil
			}
		}
	}
	return api.Port{Name: name, Link: api.Link{State: api.StateDown}}, nil
}

// waitLink waits for a port's link to be in a state. A port that is not there
// has its link down: launched guests take theirs with them.
func (s *site) waitLink(t *testing.T, name, state string) api.Port {
	t.Helper()
	var p api.Port
	s.eventually(t, "link of "+name+" is "+state, func() (err error) {
		if p, err = s.port(name); err == nil && p.Link.State != state {
			err = fmt.Errorf("link is %s", p.Link.State)
		}
		return err
	})
	return p
}
