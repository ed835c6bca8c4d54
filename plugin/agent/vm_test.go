package agent_test

import (
	"encoding/binary"
	"io"
	"net"
	"os"
	"runtime"
	"testing"

	"github.com/vale-vmnet/vale-vmnet/plugin/api"
	"github.com/vale-vmnet/vale-vmnet/plugin/process"
)

func nics(ports ...string) []api.NIC {
	list := []api.NIC{}
	for i, p := range ports {
		list = append(list, api.NIC{Port: p, MAC: net.HardwareAddr{0x52, 0x54, 0, 0, 1, byte(i)}.String(), Model: "virtio", Link: "vhost-user"})
	}
	return list
}

func TestVMLife(t *testing.T) {
	r, ctx := start(t, config(runDir(t))), t.Context()
	pid, kill := sleeper(t)
	if _, _, err := r.PutPort(ctx, "vale-1:kept", api.PortSpec{Persistent: ptr(true)}); err != nil {
		t.Fatal(err)
	}
	// vale-2:new does not exist: registering makes it.
	vm, err := r.PutVM(ctx, "a vm/with a hard name", api.VM{PID: pid, NICs: nics("vale1:kept", "vale-2:new")})
	if err != nil {
		t.Fatal(err)
	}
	if want, _ := process.StartTime(pid); vm.StartTime != want || vm.NICs[0].Port != "vale-1:kept" || vm.Source != "api" || vm.Since.IsZero() {
		t.Errorf("registered %+v", vm)
	}
	if got, err := r.VM(ctx, "a vm/with a hard name"); err != nil || got.PID != pid {
		t.Errorf("VM is %+v, %v", got, err)
	}
	p, err := r.Port(ctx, "vale-2:new")
	if err != nil || p.VM != vm.Name || p.Persistent || len(p.MACs) != 1 || p.MACs[0] != vm.NICs[1].MAC {
		t.Errorf("port is %+v, %v", p, err)
	}
	wantCode(t, "delete a VM's port", r.DeletePort(ctx, "vale-2:new", false), api.CodeConflict)

	// Again by the same process: nothing is lost.
	if _, err := r.PutVM(ctx, vm.Name, api.VM{PID: pid, NICs: nics("vale-1:kept", "vale-2:new")}); err != nil {
		t.Errorf("register again: %v", err)
	}
	other, _ := sleeper(t)
	_, err = r.PutVM(ctx, vm.Name, api.VM{PID: other})
	wantCode(t, "same name, other process", err, api.CodeConflict)
	_, err = r.PutVM(ctx, "other", api.VM{PID: other, NICs: nics("vale-2:new")})
	wantCode(t, "port of another VM", err, api.CodeConflict)

	kill()
	eventually(t, "the VM goes with its process", func() bool {
		list, err := r.VMs(ctx)
		return err == nil && len(list.VMs) == 0
	})
	if p, err = r.Port(ctx, "vale-1:kept"); err != nil || p.VM != "" {
		t.Errorf("persistent port is %+v, %v", p, err)
	}
	_, err = r.Port(ctx, "vale-2:new")
	wantCode(t, "ephemeral port", err, api.CodeNotFound)
	if exists(r.dir.VhostUser("vale-2:new")) {
		t.Error("ephemeral port leaves its socket")
	}
}

func TestVMRefused(t *testing.T) {
	r, ctx := start(t, config(runDir(t))), t.Context()
	pid, _ := sleeper(t)
	started, err := process.StartTime(pid)
	if err != nil {
		t.Fatal(err)
	}
	many := make([]string, 65)
	for i := range many {
		many[i] = "vale-1:a"
	}
	tests := []struct {
		what, name string
		vm         api.VM
		code       api.Code
	}{
		{"no process", "g", api.VM{}, api.CodeBadRequest},
		{"pid was reused", "g", api.VM{PID: pid, StartTime: started + 1}, api.CodeConflict},
		{"two names", "g", api.VM{Name: "h", PID: pid}, api.CodeBadRequest},
		{"control character", "g\n", api.VM{PID: pid}, api.CodeBadRequest},
		{"port name", "g", api.VM{PID: pid, NICs: nics("vale-1")}, api.CodeBadRequest},
		{"port twice", "g", api.VM{PID: pid, NICs: nics("vale-1:a", "vale1:a")}, api.CodeBadRequest},
		{"MAC", "g", api.VM{PID: pid, NICs: []api.NIC{{Port: "vale-1:a", MAC: "x"}}}, api.CodeBadRequest},
		{"too many NICs", "g", api.VM{PID: pid, NICs: nics(many...)}, api.CodeBadRequest},
	}
	for _, tt := range tests {
		_, err := r.PutVM(ctx, tt.name, tt.vm)
		wantCode(t, tt.what, err, tt.code)
	}
	wantCode(t, "delete nobody", r.DeleteVM(ctx, "nobody"), api.CodeNotFound)
	if list, err := r.VMs(ctx); err != nil || len(list.VMs) != 0 {
		t.Errorf("a refused VM is registered: %v, %v", list, err)
	}
}

// A restarted agent comes back to what was asked of the one before.
func TestRestart(t *testing.T) {
	cfg := config(runDir(t))
	r, ctx := start(t, cfg), t.Context()
	living, _ := sleeper(t)
	dying, kill := sleeper(t)
	if _, _, err := r.PutPort(ctx, "vale-1:kept", api.PortSpec{Persistent: ptr(true), MTU: ptr(1400), Up: ptr(false), MAC: ptr("52:54:00:00:00:09")}); err != nil {
		t.Fatal(err)
	}
	before, err := r.PutVM(ctx, "living", api.VM{PID: living, UUID: "u", NICs: nics("vale-1:l")})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.PutVM(ctx, "dying", api.VM{PID: dying, NICs: nics("vale-1:d")}); err != nil {
		t.Fatal(err)
	}
	r.stop()
	for _, s := range []string{r.dir.API(), r.dir.VhostUser("vale-1:l"), r.dir.Stream("vale-1:kept")} {
		if exists(s) {
			t.Errorf("a stopped agent leaves %s", s)
		}
	}
	kill()
	// A crash would have left sockets behind.
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: r.dir.VhostUser("vale-1:l"), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()

	r = start(t, cfg)
	kept, err := r.Port(ctx, "vale-1:kept")
	if err != nil || kept.MTU != 1400 || kept.Up || !kept.Persistent || kept.MACCount != 1 {
		t.Errorf("persistent port is %+v, %v", kept, err)
	}
	after, err := r.VM(ctx, "living")
	if err != nil || after.PID != before.PID || after.StartTime != before.StartTime || after.UUID != "u" || !after.Since.Equal(before.Since) || len(after.NICs) != 1 {
		t.Errorf("VM that lives was %+v, is %+v, %v", before, after, err)
	}
	if p, err := r.Port(ctx, "vale-1:l"); err != nil || p.VM != "living" || !exists(p.Sockets.VhostUser) {
		t.Errorf("its port is %+v, %v", p, err)
	}
	_, err = r.VM(ctx, "dying")
	wantCode(t, "VM that ended meanwhile", err, api.CodeNotFound)
	_, err = r.Port(ctx, "vale-1:d")
	wantCode(t, "its port", err, api.CodeNotFound)
	r.stop()

	// A state file that is no state costs the memory, not the agent.
	if err := os.WriteFile(r.dir.State(), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	r = start(t, cfg)
	_, err = r.Port(ctx, "vale-1:kept")
	wantCode(t, "after losing the state", err, api.CodeNotFound)
}

// Frames of stream peers show up in counters, stations and rates.
func TestTrafficIsSeen(t *testing.T) {
	r, ctx := start(t, config(runDir(t))), t.Context()
	peers := map[string]net.Conn{}
	for _, name := range []string{"vale-1:a", "vale-1:b"} {
		p, _, err := r.PutPort(ctx, name, api.PortSpec{})
		if err != nil {
			t.Fatal(err)
		}
		conn, err := net.Dial("unix", p.Sockets.Stream)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		peers[name] = conn
		eventually(t, name+" is up", func() bool {
			p, err := r.Port(ctx, name)
			return err == nil && p.Link.State == api.StateUp && p.Link.Kind == "stream" && p.Link.PID == os.Getpid()
		})
	}
	wantCode(t, "delete a port in use", r.DeletePort(ctx, "vale-1:a", false), api.CodeConflict)

	frame := make([]byte, 64)
	copy(frame, []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x52, 0x54, 0, 0, 0, 1, 0x88, 0xb5})
	wire := append(binary.BigEndian.AppendUint32(nil, uint32(len(frame))), frame...)
	const frames = 100
	go func() {
		for range frames {
			_, _ = peers["vale-1:a"].Write(wire)
		}
	}()
	got := make([]byte, frames*len(wire))
	if _, err := io.ReadFull(peers["vale-1:b"], got); err != nil {
		t.Fatal(err)
	}
	a, err := r.Port(ctx, "vale-1:a")
	if err != nil {
		t.Fatal(err)
	}
	if c := a.Counters.In; c.Frames != frames || c.Bytes != frames*64 || c.Multicast != frames || c.Delivered+c.Dropped != c.Copies || c.Delivered != frames {
		t.Errorf("in: %+v", c)
	}
	b, err := r.Port(ctx, "vale-1:b")
	if c := b.Counters.Out; err != nil || c.Frames != frames || c.Bytes != frames*64 || c.Dropped != 0 {
		t.Errorf("out: %+v, %v", c, err)
	}
	if len(a.MACs) != 1 || a.MACs[0] != "52:54:00:00:00:01" {
		t.Errorf("stations of a: %v", a.MACs)
	}
	eventually(t, "rates show the frames", func() bool {
		p, err := r.Port(ctx, "vale-1:b")
		return err == nil && p.Rates.Last10s.OutFrames > 0
	})
	if err := r.DeletePort(ctx, "vale-1:a", true); err != nil {
		t.Errorf("forced: %v", err)
	}
	if n, err := peers["vale-1:a"].Read(got); err != io.EOF {
		t.Errorf("the peer of a deleted port reads %d, %v; want its end", n, err)
	}
}

// 200 ports made and deleted, some with peers, leave nothing behind.
func TestNothingLeaks(t *testing.T) {
	r, ctx := start(t, config(runDir(t))), t.Context()
	fds := func() int {
		entries, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(entries)
	}
	cycle := func(i int) {
		p, created, err := r.PutPort(ctx, "vale-1:x", api.PortSpec{})
		if err != nil || !created {
			t.Fatalf("cycle %d: created %v, %v", i, created, err)
		}
		for j, path := range []string{p.Sockets.Stream, p.Sockets.VhostUser} {
			if i%3 != j {
				continue
			}
			conn, err := net.Dial("unix", path)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
		}
		if err := r.DeletePort(ctx, "vale-1:x", true); err != nil {
			t.Fatalf("cycle %d: %v", i, err)
		}
	}
	for i := range 3 {
		cycle(i)
	}
	wantGoroutines, wantFDs := runtime.NumGoroutine(), fds()
	for i := range 200 {
		cycle(i)
	}
	eventually(t, "goroutines and descriptors are back", func() bool {
		return runtime.NumGoroutine() <= wantGoroutines && fds() <= wantFDs
	})
}
