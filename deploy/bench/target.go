package main

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"github.com/vale-vmnet/vale-vmnet/deploy/bench/dpdk"
)

// A target is a vhost-user switch that connects two ports.
type target interface {
	name() string
	// missing says what must be installed first, or "".
	missing() string
	// start runs the target with all its threads on one core and its files in dir.
	start(ctx context.Context, dir string, core int) (*running, error)
}

// running is a started target.
type running struct {
	sockets [2]string
	// connects is true when the target connects to sockets on which the
	// generator listens, and false the other way round.
	connects bool
	procs    []*process // in the order in which they were started
}

func (r *running) stop() {
	for _, p := range slices.Backward(r.procs) {
		p.stop()
	}
}

// waited sums over the processes how long their busiest threads had no CPU.
func (r *running) waited() (sum time.Duration) {
	for _, p := range r.procs {
		sum += p.waited()
	}
	return sum
}

// log gives the last lines of everything the target printed.
func (r *running) log() string {
	s := ""
	for _, p := range r.procs {
		s += fmt.Sprintf("--- %s\n%s\n", p.name, p.tail())
	}
	return s
}

func needPrograms(remedy string, programs ...string) string {
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			return fmt.Sprintf("%s is not installed (%s)", p, remedy)
		}
	}
	return ""
}

// testpmd is DPDK's test program as a patch cable: what comes in at one net_vhost
// port goes out at the other, unread. It neither learns nor looks up, so it
// bounds what a switch built on DPDK's vhost library can reach.
type testpmd struct{}

func (testpmd) name() string { return "testpmd" }

func (testpmd) missing() string {
	return needPrograms("Debian and Ubuntu: package dpdk-dev", "dpdk-testpmd")
}

// start gives testpmd two lcores on the one core: forwarding runs on the second,
// and the first sleeps in a read of standard input.
func (testpmd) start(ctx context.Context, dir string, core int) (*running, error) {
	r := &running{sockets: [2]string{filepath.Join(dir, "p0.sock"), filepath.Join(dir, "p1.sock")}}
	eal := dpdk.EAL{
		Cores: fmt.Sprintf("0@%d,1@%d", core, core), MemoryMB: targetMemoryMB, Prefix: "vale-bench-testpmd",
		Vdevs: []string{dpdk.Vhost(0, r.sockets[0]), dpdk.Vhost(1, r.sockets[1])},
	}
	argv := append([]string{"dpdk-testpmd"}, eal.Args()...)
	argv = append(argv, "--", "--total-num-mbufs=16384", "--forward-mode=io", "--auto-start",
		"--disable-link-check", "--no-mlockall")
	p, err := start(command{name: "testpmd", dir: dir, core: core, argv: argv, stdin: true})
	if err != nil {
		return nil, err
	}
	r.procs = append(r.procs, p)
	err = p.waitFor(ctx, "two listening sockets", func() bool { return isSocket(r.sockets[0]) && isSocket(r.sockets[1]) })
	if err != nil {
		r.stop()
		return nil, err
	}
	return r, nil
}
