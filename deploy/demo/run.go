package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/vale-vmnet/vale-vmnet/deploy/guest"
	"github.com/vale-vmnet/vale-vmnet/deploy/guest/host"
)

// The two guests of the manual page's second example that share a switch.
var names = []string{"a", "b"}

var addresses = map[string]string{"a": "10.0.1.1", "b": "10.0.1.2"}

// demo is what has been started so far, so that clean can end it.
type demo struct {
	begin   time.Time
	bin     string
	seconds int

	dir    string
	log    string
	agent  *host.Agent
	guests map[string]*guest.Guest
}

func (d *demo) step(format string, args ...any) {
	fmt.Printf("[%5.1fs] %s\n", time.Since(d.begin).Seconds(), fmt.Sprintf(format, args...))
}

func (d *demo) run(ctx context.Context) error {
	var err error
	// Short on purpose: a unix socket's path has at most 107 bytes.
	if d.dir, err = os.MkdirTemp("", "vale-demo-"); err != nil {
		return fmt.Errorf("make working directory: %w", err)
	}
	image, err := guest.Build(ctx, guest.Options{Progress: d.step})
	if err != nil {
		return err
	}
	d.step("guest image ready: %s", filepath.Base(image.Kernel))
	if d.bin == "" {
		if d.bin, err = host.Build(ctx, d.dir); err != nil {
			return err
		}
		d.step("compiled vale-vmnet")
	}
	accel := image.Accel(ctx)
	if accel == "kvm" {
		d.step("guests run with KVM")
	} else {
		d.step("guests run in software emulation (no KVM that boots a guest): slow, but real")
	}
	d.log = filepath.Join(d.dir, "agent.log")
	if d.agent, err = host.StartAgent(ctx, d.bin, filepath.Join(d.dir, "run"), d.log); err != nil {
		return err
	}
	d.step("agent runs in %s", d.agent.RunDir)
	if err := d.boot(ctx, image, accel); err != nil {
		return err
	}
	if err := d.measure(ctx); err != nil {
		return err
	}
	table, err := d.agent.Run(ctx, "ls")
	if err != nil {
		return err
	}
	fmt.Printf("\n$ vale-vmnet ls\n%s\n", table)
	return nil
}

// boot starts both guests with the manual page's own words and waits for them.
func (d *demo) boot(ctx context.Context, image *guest.Image, accel string) error {
	d.guests = map[string]*guest.Guest{}
	for _, name := range names {
		vm := guest.VM{Dir: filepath.Join(d.dir, name), Name: "guest-" + name, Accel: accel}
		seed := []string{"qemu-system-x86_64", "-net", "nic", "-net", "netmap,ifname=vale-1:" + name}
		g, err := guest.Start(vm, d.agent.Launch(append(seed, image.Args(vm)...)...))
		if err != nil {
			return err
		}
		d.guests[name] = g
		d.step("vale-vmnet qemu -- %s ...", strings.Join(seed, " "))
	}
	for _, name := range names {
		if err := d.guests[name].WaitBoot(ctx); err != nil {
			return fmt.Errorf("guest %s: %w", name, err)
		}
		if _, err := d.guests[name].Run(ctx, "ip addr add "+addresses[name]+"/24 dev eth0"); err != nil {
			return fmt.Errorf("guest %s: %w", name, err)
		}
		d.step("guest %s is up: %s on vale-1:%s", name, addresses[name], name)
	}
	return nil
}

// measure prints what the guests themselves see of each other.
func (d *demo) measure(ctx context.Context) error {
	a, b := d.guests["a"], d.guests["b"]
	out, err := a.Run(ctx, "ping -c 5 -i 0.2 "+addresses["b"])
	if err != nil {
		return fmt.Errorf("guest a: %w", err)
	}
	for line := range strings.Lines(out) {
		if strings.Contains(line, "packet loss") || strings.Contains(line, "round-trip") {
			d.step("ping a -> b: %s", strings.TrimSpace(line))
		}
	}
	if _, err := b.Run(ctx, "iperf3 -s -D"); err != nil {
		return fmt.Errorf("guest b: %w", err)
	}
	for _, way := range []struct{ arrow, flag string }{{"a -> b", ""}, {"b -> a", "-R"}} {
		out, err := a.Run(ctx, fmt.Sprintf("iperf3 -J -t %d -c %s %s", d.seconds, addresses["b"], way.flag))
		if err != nil {
			return fmt.Errorf("guest a: %w", err)
		}
		rate, retransmits, err := parseIperf(out)
		if err != nil {
			return err
		}
		d.step("iperf3 TCP %s: %.0f Mbit/s, %d retransmits", way.arrow, rate/1e6, retransmits)
	}
	return nil
}

// parseIperf reads the receiver's rate in bit/s and the sender's retransmits.
func parseIperf(out string) (rate float64, retransmits int, err error) {
	var report struct {
		Error string
		End   struct {
			Sent struct {
				Retransmits int `json:"retransmits"`
			} `json:"sum_sent"`
			Received struct {
				Rate float64 `json:"bits_per_second"`
			} `json:"sum_received"`
		}
	}
	if err := json.Unmarshal([]byte(out), &report); err != nil {
		return 0, 0, fmt.Errorf("read iperf3 report: %w", err)
	}
	if report.Error != "" {
		return 0, 0, errors.New("run iperf3: " + report.Error)
	}
	return report.End.Received.Rate, report.End.Sent.Retransmits, nil
}

// clean ends guests first and the agent after them, and removes every file.
func (d *demo) clean() {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	for _, g := range d.guests {
		g.Kill() // nothing in these guests is worth a shutdown
	}
	if d.agent != nil {
		if err := d.agent.Stop(ctx); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}
	if d.dir != "" {
		if err := os.RemoveAll(d.dir); err != nil {
			fmt.Fprintln(os.Stderr, "remove working directory:", err)
		}
	}
}
