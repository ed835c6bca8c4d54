package stream_test

import (
	"bytes"
	"context"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/vale-vmnet/vale-vmnet/vale"
	"github.com/vale-vmnet/vale-vmnet/vale/frame"
	"github.com/vale-vmnet/vale-vmnet/vale/stream"
)

// TestQEMU sends frames through a QEMU that has no guest, only a hub with two
// stream netdevs: one connects to us, to the other we connect. What goes in at
// one switch must come out, through QEMU's own framing, at the other.
func TestQEMU(t *testing.T) {
	qemu, err := exec.LookPath("qemu-system-x86_64")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("qemu-system-x86_64 is not installed")
		}
		t.Skip("qemu-system-x86_64 is not installed")
	}
	f := vale.New(vale.Config{})
	defer f.Close()
	dir := socketDir(t)
	left, right := filepath.Join(dir, "l"), filepath.Join(dir, "r")
	ports := []*vale.Port{openPort(t, f, "vale-1:qemu"), openPort(t, f, "vale-2:qemu")}
	el := listen(t, left, ports[0])
	defer el.Close()
	er, err := stream.Connect(right, ports[1], stream.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer er.Close()
	startQEMU(t, qemu,
		"-netdev", "stream,id=l,server=off,addr.type=unix,addr.path="+left,
		"-netdev", "stream,id=r,server=on,addr.type=unix,addr.path="+right,
		"-netdev", "hubport,id=hl,hubid=0,netdev=l",
		"-netdev", "hubport,id=hr,hubid=0,netdev=r")
	until(t, "QEMU is connected on both sides", func() bool { return ports[0].Status().Ready && ports[1].Status().Ready })

	a, b := connect(t, f, "vale-1:us"), connect(t, f, "vale-2:us")
	rnd := rand.New(rand.NewPCG(1, 2))
	for _, way := range []struct{ from, to *vale.Client }{{a, b}, {b, a}} {
		// One after the other first, every size; then in bursts.
		for _, n := range []int{14, 60, 64, 1500, 1514, 4096, 9014, 65535, frame.MaxLen} {
			pass(t, way.from, way.to, random(rnd, n))
		}
		for range 100 {
			burst := make([][]byte, 32)
			for i := range burst {
				burst[i] = random(rnd, 14+rnd.IntN(1501))
			}
			pass(t, way.from, way.to, burst...)
		}
	}
}

// startQEMU runs a QEMU without a machine until the test ends.
func startQEMU(t *testing.T, qemu string, args ...string) {
	t.Helper()
	var out bytes.Buffer
	cmd := exec.Command(qemu, append([]string{"-nodefaults", "-no-user-config", "-machine", "none", "-display", "none"}, args...)...)
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		if t.Failed() {
			t.Logf("QEMU said: %s", out.Bytes())
		}
	})
}

func connect(t *testing.T, f *vale.Fabric, name string) *vale.Client {
	t.Helper()
	c, err := openPort(t, f, name).Connect(vale.ClientConfig{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// random is a broadcast frame with random content.
func random(rnd *rand.Rand, n int) []byte {
	f := make([]byte, n)
	for i := range f {
		f[i] = byte(rnd.Uint32())
	}
	copy(f, []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2})
	return f
}

// pass sends frames and expects the same on the other side.
func pass(t *testing.T, from, to *vale.Client, frames ...[]byte) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	b := vale.NewBatch()
	for _, f := range frames {
		b.Add(frame.VnetHdr{}, f)
	}
	if err := from.Send(b); err != nil {
		t.Fatal(err)
	}
	for i, want := range frames {
		got, err := to.Recv(ctx, 1)
		if err != nil {
			t.Fatalf("receive frame %d of %d through QEMU: %v", i+1, len(frames), err)
		}
		if !bytes.Equal(got[0].Data, want) {
			t.Fatalf("frame %d of %d came out of QEMU with %d bytes, other than the %d that went in", i+1, len(frames), len(got[0].Data), len(want))
		}
	}
}
