package e2e

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vale-vmnet/vale-vmnet/deploy/guest"
	"github.com/vale-vmnet/vale-vmnet/plugin/api"
)

// TestPrivateMemory starts QEMU on a port's socket without the launcher and
// without shared memory, the most common mistake in hand-written definitions.
// QEMU says nothing. The agent must name the mistake and the remedy, the port
// must not look alive, and guests beside it must not care.
func TestPrivateMemory(t *testing.T) {
	s := newSite(t, 2*time.Minute)
	image := s.image(guest.Cloud)
	for _, name := range []string{"vale-1:good", "vale-1:other", "vale-1:bad"} {
		if _, err := s.agent.Run(s.ctx, "port", "add", name); err != nil {
			t.Fatal(err)
		}
	}
	raw := func(name, mac string, memory ...string) *node {
		return s.raw(t, name, image, append(vhostUser(filepath.Join(s.agent.RunDir, "vale-1:"+name+".sock"), mac), memory...)...)
	}
	good := raw("good", "52:54:00:00:00:01", sharedMemory...)
	other := raw("other", "52:54:00:00:00:02", sharedMemory...)
	bad := raw("bad", "52:54:00:00:00:03")
	s.up(t, map[*node]string{good: "10.3.0.1", other: "10.3.0.2", bad: "10.3.0.3"})

	if _, err := bad.Run(s.ctx, "ping -c 1 -W 1 10.3.0.1"); err == nil {
		t.Error("a guest with private memory reaches another: the test does not test what it should")
	}
	p, err := s.port("vale-1:bad")
	if err != nil {
		t.Fatal(err)
	}
	if p.Link.State == api.StateUp {
		t.Errorf("link of a guest with private memory is %s", p.Link.State)
	}
	if log := guest.Tail(s.agent.Log, 100); !strings.Contains(log, "share=on") {
		t.Errorf("the agent does not say what to do about private memory:\n%s", log)
	}
	good.reaches(t, "10.3.0.2")
}

// vhostUser is a virtio card on a vhost-user socket as a person writes it for
// any switch. vectors=0 is for QEMU 7.2 under TCG, which crashes without.
func vhostUser(socket, mac string) []string {
	return []string{
		"-chardev", "socket,id=c0,path=" + socket + ",reconnect=1",
		"-netdev", "vhost-user,id=n0,chardev=c0",
		"-device", "virtio-net-pci,netdev=n0,vectors=0,mac=" + mac,
	}
}

// sharedMemory fits the guests' default size.
var sharedMemory = []string{"-object", "memory-backend-memfd,id=m0,size=256M,share=on", "-machine", "memory-backend=m0"}
