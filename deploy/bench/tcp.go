package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/vale-vmnet/vale-vmnet/deploy/guest"
	"github.com/vale-vmnet/vale-vmnet/deploy/guest/host"
)

// TCP between two real guests. Here offloads decide, not frames per second: a
// switch that passes 64 KiB segments with partial checksums from guest to guest
// moves a fortieth of the frames.

const tcpReference = "bridge"

// tcpTargets in the order of the table.
var tcpTargets = []string{"bridge", "vale-tcp"}

// wiring connects guests; it returns the command line that starts each QEMU and
// a function that takes everything down.
type wiring func(ctx context.Context, o options, dir string, guests [2]guest.VM, image *guest.Image) (argv [2][]string, down func(), err error)

func tcpRounds(ctx context.Context, o options) ([]record, error) {
	if err := guest.Check(); err != nil {
		return nil, err
	}
	if os.Geteuid() != 0 {
		return nil, errors.New("target tcp: the bridge needs root")
	}
	image, err := guest.Build(ctx, guest.Options{})
	if err != nil {
		return nil, err
	}
	wirings := map[string]wiring{"bridge": bridgeWiring, "vale-tcp": agentWiring}
	var records []record
	for round := range o.rounds {
		for i := range tcpTargets {
			name := tcpTargets[(round+i)%len(tcpTargets)]
			res, err := measureTCP(ctx, o, wirings[name], image)
			if err != nil {
				return nil, fmt.Errorf("round %d, %s: %w", round+1, name, err)
			}
			fmt.Fprintf(os.Stderr, "round %d/%d  %-8s %s\n", round+1, o.rounds, name, res)
			records = append(records, record{round: round + 1, target: name, res: res})
		}
	}
	return records, nil
}

// measureTCP boots two guests on a wiring and runs iperf3 from the first to the second.
func measureTCP(ctx context.Context, o options, wire wiring, image *guest.Image) (result, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute+time.Duration(o.seconds*float64(time.Second)))
	defer cancel()
	dir, err := os.MkdirTemp("", "vale-bench-")
	if err != nil {
		return result{}, err
	}
	defer os.RemoveAll(dir)
	var vms [2]guest.VM
	for i, name := range []string{"a", "b"} {
		vms[i] = guest.VM{Dir: filepath.Join(dir, name), Name: "bench-" + name, Accel: image.Accel(ctx)}
	}
	argv, down, err := wire(ctx, o, dir, vms, image)
	if err != nil {
		return result{}, err
	}
	defer down()
	var guests [2]*guest.Guest
	for i := range vms {
		g, err := guest.Start(vms[i], argv[i])
		if err != nil {
			return result{}, err
		}
		defer g.Kill()
		guests[i] = g
	}
	for i, g := range guests {
		if err := g.WaitBoot(ctx); err != nil {
			return result{}, err
		}
		setup := fmt.Sprintf("ip addr add 10.77.0.%d/24 dev eth0 && ip link set eth0 up", i+1)
		if i == 1 {
			setup += " && iperf3 -s -D"
		}
		if _, err := g.Run(ctx, setup); err != nil {
			return result{}, err
		}
	}
	// The server listens and both links carry frames once a first transfer works.
	for {
		_, err := guests[0].Run(ctx, "iperf3 -c 10.77.0.2 -n 1M --connect-timeout 2000")
		if err == nil {
			break
		}
		if ctx.Err() != nil {
			return result{}, fmt.Errorf("connect the guests: %w", err)
		}
	}
	out, err := guests[0].Run(ctx, fmt.Sprintf("iperf3 -J -c 10.77.0.2 -O 1 -t %d", max(int(o.seconds), 1)))
	if err != nil {
		return result{}, err
	}
	return parseIperf(out)
}

// parseIperf takes what the receiver got.
func parseIperf(out string) (result, error) {
	var report struct {
		End struct {
			Received struct {
				Seconds float64 `json:"seconds"`
				Bits    float64 `json:"bits_per_second"`
			} `json:"sum_received"`
		} `json:"end"`
		Error string `json:"error"`
	}
	if err := json.Unmarshal([]byte(out), &report); err != nil {
		return result{}, fmt.Errorf("read iperf3's report: %w: %.200s", err, out)
	}
	if report.Error != "" {
		return result{}, fmt.Errorf("run iperf3: %s", report.Error)
	}
	r := report.End.Received
	if r.Seconds <= 0 || r.Bits <= 0 {
		return result{}, fmt.Errorf("read iperf3's report: nothing was received in %v s", r.Seconds)
	}
	return result{Mode: "tcp", Seconds: r.Seconds, Gbit: r.Bits / 1e9}, nil
}

const qemu = "qemu-system-x86_64"

// agentWiring uses our agent and launcher, with the command line of a user.
func agentWiring(ctx context.Context, o options, dir string, vms [2]guest.VM, image *guest.Image) (argv [2][]string, down func(), err error) {
	a, err := host.StartAgent(ctx, o.agent, filepath.Join(dir, "run"), filepath.Join(dir, "agent.log"))
	if err != nil {
		return argv, nil, err
	}
	for i, vm := range vms {
		args := append([]string{qemu}, image.Args(vm)...)
		argv[i] = a.Launch(append(args, "-net", "nic,model=virtio,macaddr="+guestMAC(i), "-net", "netmap,ifname=vale-1:"+[]string{"a", "b"}[i])...)
	}
	return argv, a.Kill, nil
}

// bridgeWiring is a Linux bridge with two taps in a network namespace of its
// own. Offloads stay on: taps carry the virtio-net header, and QEMU hands them
// to the kernel's vhost-net where that exists.
func bridgeWiring(ctx context.Context, _ options, _ string, vms [2]guest.VM, image *guest.Image) (argv [2][]string, down func(), err error) {
	ns := fmt.Sprintf("vale-bench-%d", os.Getpid())
	steps := []string{
		"netns add " + ns,
		"-n " + ns + " link add br0 type bridge forward_delay 0 mcast_snooping 0",
		"-n " + ns + " link set br0 up",
	}
	for i := range vms {
		tap := fmt.Sprintf("tap%d", i)
		steps = append(steps,
			"-n "+ns+" tuntap add "+tap+" mode tap vnet_hdr",
			"-n "+ns+" link set "+tap+" master br0 up")
	}
	down = func() { exec.Command("ip", "netns", "del", ns).Run() } //nolint:errcheck // nothing else uses it
	for _, s := range steps {
		if out, err := exec.CommandContext(ctx, "ip", strings.Fields(s)...).CombinedOutput(); err != nil {
			down()
			return argv, nil, fmt.Errorf("ip %s: %w: %s", s, err, out)
		}
	}
	vhost := "off"
	if _, err := os.Stat("/dev/vhost-net"); err == nil {
		vhost = "on"
	}
	for i, vm := range vms {
		args := append([]string{"ip", "netns", "exec", ns, qemu}, image.Args(vm)...)
		argv[i] = append(args,
			"-netdev", fmt.Sprintf("tap,id=n0,ifname=tap%d,script=no,downscript=no,vhost=%s", i, vhost),
			"-device", "virtio-net-pci,netdev=n0,romfile=,mac="+guestMAC(i))
	}
	return argv, down, nil
}

func guestMAC(i int) string { return fmt.Sprintf("52:54:00:be:00:%02x", i+1) }
