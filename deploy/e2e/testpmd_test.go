package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/vale-vmnet/vale-vmnet/deploy/bench/dpdk"
	"github.com/vale-vmnet/vale-vmnet/deploy/guest"
	"github.com/vale-vmnet/vale-vmnet/deploy/guest/host"
	"github.com/vale-vmnet/vale-vmnet/plugin/api"
)

// TestForeignFrontEnd lets DPDK's virtio-user, a vhost-user front end that
// shares no line with ours or QEMU's, send and receive over a million frames in
// both directions, and compares the accounts of both sides frame by frame.
func TestForeignFrontEnd(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	w := newWire(ctx, t)

	// "mac" forwards what port 0 receives out of port 1 with port 1's peer as
	// destination and the other way round; the peers are the ports themselves.
	// So 3 bursts from each port run around through the switch for ever, at the
	// rate of the switch, never more of them than a ring holds.
	t.Run("circulate", func(t *testing.T) {
		w := w.in(t)
		w.do("set fwd mac", "start tx_first 3")
		w.until("a million frames received by each port", func(tx, rx [2]uint64) bool {
			return min(rx[0], rx[1]) >= 1_000_000
		})
		w.do("stop")
		dropped := w.settle()
		if dropped != [2]uint64{} {
			t.Errorf("dropped %v frames with at most 96 in flight per ring of 256", dropped)
		}
	})

	// "txonly" sends and never receives: the rings fill and the switch has to
	// drop, count, and never stop the sender.
	t.Run("overload", func(t *testing.T) {
		w := w.in(t)
		before, _ := w.stats()
		w.do("set fwd txonly", "start")
		w.until("a million more frames sent by each port", func(tx, _ [2]uint64) bool {
			return min(tx[0]-before[0], tx[1]-before[1]) >= 1_000_000
		})
		w.do("stop")
		dropped := w.settle()
		if min(dropped[0], dropped[1]) == 0 {
			t.Errorf("dropped %v frames although nobody received", dropped)
		}
	})
}

// wire is a testpmd with a virtio-user device on each of two ports of an agent.
type wire struct {
	*testing.T
	ctx   context.Context
	agent *host.Agent
	pmd   *dpdk.Testpmd
}

var wirePorts = [2]string{"vale-1:a", "vale-1:b"}

func newWire(ctx context.Context, t *testing.T) *wire {
	t.Helper()
	bin, err := program()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "vale-pmd-") // t.TempDir is too long for a socket's name
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	agent, err := host.StartAgent(ctx, bin, filepath.Join(dir, "run"), filepath.Join(dir, "agent.log"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("last lines of the agent:\n%s", guest.Tail(agent.Log, 40))
		}
		agent.Kill()
	})
	w := &wire{T: t, ctx: ctx, agent: agent}
	macs := [2]net.HardwareAddr{{2, 0, 0, 0, 0, 0xa}, {2, 0, 0, 0, 0, 0xb}}
	// 4 KiB pages need no privilege and no reserved memory. Both threads may use every CPU.
	eal := dpdk.EAL{
		Cores:    fmt.Sprintf("0@(0-%d),1@(0-%[1]d)", runtime.NumCPU()-1),
		MemoryMB: 128, NoHuge: true, Prefix: filepath.Base(dir),
	}
	for i, port := range wirePorts {
		w.call(http.MethodPut, port, new(api.Port))
		eal.Vdevs = append(eal.Vdevs, dpdk.VirtioUser{
			Socket: filepath.Join(agent.RunDir, port+".sock"), QueueSize: 256, MAC: macs[i],
		}.Vdev(i))
	}
	w.pmd, err = dpdk.StartTestpmd(ctx, eal, "--total-num-mbufs=8192",
		"--eth-peer=0,"+macs[1].String(), "--eth-peer=1,"+macs[0].String())
	if errors.Is(err, dpdk.ErrNoTestpmd) {
		missing(t, err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("testpmd:\n%s", w.pmd.Log())
		}
		w.pmd.Close()
	})
	return w
}

// in gives the same wire to a subtest.
func (w *wire) in(t *testing.T) *wire {
	sub := *w
	sub.T = t
	return &sub
}

func (w *wire) do(commands ...string) {
	w.Helper()
	for _, c := range commands {
		if _, err := w.pmd.Command(w.ctx, c); err != nil {
			w.Fatal(err)
		}
	}
}

// stats gives how many frames each testpmd port has sent and received. Frames
// that the ring refused are not among them: testpmd counts those elsewhere.
func (w *wire) stats() (tx, rx [2]uint64) {
	w.Helper()
	for i := range wirePorts {
		s, err := w.pmd.Stats(w.ctx, i)
		if err != nil {
			w.Fatal(err)
		}
		if s.RxErrors+s.RxMissed+s.RxNoMbuf+s.TxErrors != 0 {
			w.Fatalf("testpmd port %d counted errors: %+v", i, s)
		}
		tx[i], rx[i] = s.TxPackets, s.RxPackets
	}
	return tx, rx
}

// until waits for testpmd's counters to reach a state that they must reach.
func (w *wire) until(what string, holds func(tx, rx [2]uint64) bool) {
	w.Helper()
	for {
		tx, rx := w.stats()
		if holds(tx, rx) {
			return
		}
		select {
		case <-w.ctx.Done():
			w.Fatalf("wait for %s: %v; sent %v, received %v", what, w.ctx.Err(), tx, rx)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// settle takes in what is still under way and demands that the books agree:
// each frame that testpmd sent is one that it received at the other port or one
// that the switch says it dropped, and both sides counted the same frames. It
// returns the drops of the frames that each port sent.
func (w *wire) settle() (dropped [2]uint64) {
	w.Helper()
	w.do("set fwd rxonly", "start")
	var in, out [2]uint64
	w.until("received and dropped to make up sent", func(tx, rx [2]uint64) bool {
		for i, port := range wirePorts {
			in[i], out[i], dropped[i] = w.counters(port)
		}
		return tx == in && rx == out && tx[0] == rx[1]+dropped[0] && tx[1] == rx[0]+dropped[1]
	})
	w.do("stop")
	tx, rx := w.stats()
	w.Logf("sent %v, received %v, dropped by the switch %v", tx, rx, dropped)
	if tx != in || rx != out {
		w.Errorf("testpmd sent %v and received %v, the agent counted %v and %v", tx, rx, in, out)
	}
	return dropped
}

// counters reads a port's account from the agent: frames that its link sent,
// frames delivered to it, and frames it sent that were dropped. With two ports
// and no multicast a frame is one copy, so the account must add up in itself.
func (w *wire) counters(port string) (in, out, dropped uint64) {
	w.Helper()
	var p api.Port
	w.call(http.MethodGet, port, &p)
	c := p.Counters
	if c.In.Copies != c.In.Delivered+c.In.Dropped || c.In.Copies != c.In.Frames {
		w.Fatalf("account of %s does not add up: %+v", port, c)
	}
	var byReason uint64
	for _, n := range c.In.Drops {
		byReason += n
	}
	if byReason != c.In.Dropped {
		w.Fatalf("account of %s: drops by reason make %d: %+v", port, byReason, c)
	}
	return c.In.Frames, c.Out.Frames, c.In.Dropped
}

// call asks the agent for a port, or to make it.
func (w *wire) call(method, port string, answer any) {
	w.Helper()
	transport := &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(w.agent.RunDir, "api.sock"))
		},
	}
	req, err := http.NewRequestWithContext(w.ctx, method, "http://agent"+api.Prefix+"/ports/"+port, strings.NewReader("{}"))
	if err != nil {
		w.Fatal(err)
	}
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		w.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		w.Fatal(err)
	}
	if resp.StatusCode/100 != 2 {
		w.Fatalf("%s %s: %s: %s", method, req.URL.Path, resp.Status, text)
	}
	if err := json.Unmarshal(text, answer); err != nil {
		w.Fatalf("%s %s: %v: %s", method, req.URL.Path, err, text)
	}
}
