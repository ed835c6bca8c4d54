package e2e

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/vale-vmnet/vale-vmnet/deploy/guest"
)

// TestMixedCards puts two virtio guests (vhost-user) and one with an emulated
// e1000 (stream socket) on one switch. Between the virtio guests whole TCP
// segments of up to 64 KiB pass; towards the e1000 the switch must cut them.
func TestMixedCards(t *testing.T) {
	s := newSite(t, 4*time.Minute)
	a := s.start(t, "a", s.image(guest.Cloud), "-net", "nic,model=virtio", "-net", "netmap,ifname=vale-1:a")
	// The other form, with what -net has no words for.
	b := s.start(t, "b", s.image(guest.Cloud), "-netdev", "netmap,id=n0,ifname=vale-1:b", "-device", "virtio-net-pci,netdev=n0,mac=52:54:00:aa:bb:cc")
	e := s.start(t, "e", s.image(guest.Full), "-net", "nic,model=e1000,macaddr=52:54:00:e1:00:00", "-net", "netmap,ifname=vale-1:e")
	address := map[*node]string{a: "10.2.0.1", b: "10.2.0.2", e: "10.2.0.3"}
	s.up(t, address)
	nodes := []*node{a, b, e}
	pairs := func(visit func(from, to *node)) {
		for _, from := range nodes {
			for _, to := range nodes {
				if from != to {
					visit(from, to)
				}
			}
		}
	}

	t.Run("agent knows who is where", func(t *testing.T) {
		for n, kind := range map[*node]string{a: "vhost-user", b: "vhost-user", e: "stream"} {
			p := s.waitLink(t, "vale-1:"+n.name, "up")
			if p.Link.Kind != kind || p.VM != n.name || !slices.Contains(p.MACs, n.mac) {
				t.Errorf("port of guest %s (%s): link %s, vm %q, addresses %v", n.name, n.mac, p.Link.Kind, p.VM, p.MACs)
			}
		}
		if b.mac != "52:54:00:aa:bb:cc" || e.mac != "52:54:00:e1:00:00" {
			t.Errorf("the user's addresses were not kept: %s, %s", b.mac, e.mac)
		}
	})
	t.Run("offloads are offered", func(t *testing.T) {
		for _, n := range []*node{a, b} {
			features := n.run(t, "ethtool -k eth0 | grep -E 'checksumming|tcp'")
			for _, want := range []string{"tx-checksumming: on", "tcp-segmentation-offload: on", "tx-tcp6-segmentation: on"} {
				if !strings.Contains(features, want) {
					t.Errorf("guest %s: no %q in\n%s", n.name, want, features)
				}
			}
		}
	})
	t.Run("ping", func(t *testing.T) {
		pairs(func(from, to *node) {
			from.run(t, "ping -c 2 -i 0.2 -W 5 %s", address[to])
			from.run(t, "ping -c 2 -i 0.2 -W 5 -s 8000 %s", address[to]) // several fragments
		})
	})
	t.Run("iperf3", func(t *testing.T) {
		for _, n := range nodes {
			n.run(t, "iperf3 -s -D")
		}
		pairs(func(from, to *node) {
			out := from.run(t, "iperf3 -J -t 2 -c %s", address[to])
			var report struct {
				End struct {
					Received struct {
						Bytes float64
						Rate  float64 `json:"bits_per_second"`
					} `json:"sum_received"`
				}
			}
			if err := json.Unmarshal([]byte(out), &report); err != nil {
				t.Fatal(err)
			}
			if report.End.Received.Bytes == 0 {
				t.Errorf("%s -> %s: nothing arrived", from.name, to.name)
			}
			t.Logf("%s -> %s: %.0f Mbit/s", from.name, to.name, report.End.Received.Rate/1e6)
		})
	})
	t.Run("large transfers arrive unchanged", func(t *testing.T) {
		const size = 64 << 20
		sums := map[*node]string{}
		for _, n := range nodes {
			sums[n] = checksum(n.run(t, "dd if=/dev/urandom of=/tmp/data bs=1M count=%d 2>/dev/null && sha256sum /tmp/data", size>>20))
		}
		pairs(func(from, to *node) {
			before := to.received(t)
			if got := transfer(t, from, to, address[to]); got != sums[from] {
				t.Errorf("%s -> %s: sha256 %s, sent %s", from.name, to.name, got, sums[from])
			}
			frames := to.received(t) - before
			switch average := size / frames; {
			case from != e && to != e && average < 4000:
				t.Errorf("%s -> %s: %d bytes a frame, the switch cut TCP segments between guests that take them whole", from.name, to.name, average)
			case to == e && average > 1514:
				t.Errorf("%s -> %s: %d bytes a frame, more than Ethernet allows", from.name, to.name, average)
			default:
				t.Logf("%s -> %s: %d bytes a frame", from.name, to.name, average)
			}
		})
	})
}

// transfer sends /tmp/data over TCP and returns the sum of what arrived.
func transfer(t *testing.T, from, to *node, address string) string {
	t.Helper()
	type result struct {
		out string
		err error
	}
	arrived := make(chan result, 1)
	go func() {
		// A fifo opened both ways never ends: at the end of its input nc would
		// close its side, and the sender's nc takes that for the end of all.
		out, err := to.Run(to.site.ctx, "[ -p /tmp/hold ] || mkfifo /tmp/hold; nc -l -p 5001 <>/tmp/hold | sha256sum")
		arrived <- result{out, err}
	}()
	to.run(t, "until netstat -ltn | grep -q :5001; do usleep 20000; done")
	from.run(t, "nc %s 5001 < /tmp/data", address)
	r := <-arrived
	if r.err != nil {
		t.Fatal(r.err)
	}
	return checksum(r.out)
}

func checksum(line string) string { return strings.SplitN(line, " ", 2)[0] }

// received is the number of frames the guest's card has taken.
func (n *node) received(t *testing.T) int {
	t.Helper()
	out := n.run(t, "cat /sys/class/net/eth0/statistics/rx_packets")
	count, err := strconv.Atoi(strings.TrimSpace(out))
	if err != nil {
		t.Fatal(fmt.Errorf("read frame counter of guest %s: %w", n.name, err))
	}
	return count
}
