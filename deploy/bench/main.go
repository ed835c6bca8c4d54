// Command bench measures the agent beside other vhost-user switches, in the same
// place and in the same minutes: the switch on one core, a DPDK generator with
// two virtio-user ports on another.
//
//	go run ./deploy/bench                     testpmd, OVS-DPDK and our agent
//	go run ./deploy/bench -targets tcp        iperf3 between guests: our agent and a Linux bridge
//	go run ./deploy/bench -rounds 1 -seconds 1 -targets testpmd,vale
//
// Rates differ by up to 1.5 times between launches of one and the same program,
// so every target is started anew in each round, the rounds interleave the
// targets in changing order, and the result is the median. The ratio to testpmd
// is the figure to quote: it holds across machines better than any rate.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/vale-vmnet/vale-vmnet/deploy/bench/dpdk"
)

type options struct {
	rounds              int
	seconds             float64
	sizes               []int
	targets             []string
	out                 string
	switchCore, genCore int
	spread, touch, both bool
	agent               string
}

func main() {
	o, err := parseFlags(os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err = run(ctx, o)
	if ctx.Err() != nil {
		fmt.Fprintln(os.Stderr, "bench: interrupted")
		os.Exit(130)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func parseFlags(args []string) (options, error) {
	var o options
	var sizes, targets string
	fs := flag.NewFlagSet("bench", flag.ContinueOnError)
	fs.IntVar(&o.rounds, "rounds", 5, "how often every target is started and measured")
	fs.Float64Var(&o.seconds, "seconds", 2, "length of each measurement")
	fs.StringVar(&sizes, "sizes", "64,512,1500", "frame sizes in bytes without FCS")
	fs.StringVar(&targets, "targets", "testpmd,ovs,vale", "what to measure, of testpmd, ovs, vale and tcp")
	fs.StringVar(&o.out, "out", "bench.csv", "file for every single measurement")
	fs.IntVar(&o.switchCore, "switch-core", 0, "CPU of the switch")
	fs.IntVar(&o.genCore, "gen-core", 1, "CPU of the generator")
	fs.BoolVar(&o.spread, "spread", false, "use all frame buffers in turn, so that frames are not in the core's cache")
	fs.BoolVar(&o.touch, "touch", false, "write and read every cache line of every frame in the generator, as guests do")
	fs.BoolVar(&o.both, "both", false, "send both ways at once; rates are the sum")
	fs.StringVar(&o.agent, "agent", "", "vale-vmnet program to measure (default: built from this tree)")
	if err := fs.Parse(args); err != nil {
		return o, err
	}
	for s := range strings.SplitSeq(sizes, ",") {
		n, err := strconv.Atoi(s)
		if err != nil || n < 40 || n > 1518 {
			return o, fmt.Errorf("parse -sizes: %q is no frame size between 40 and 1518", s)
		}
		o.sizes = append(o.sizes, n)
	}
	o.targets = strings.Split(targets, ",")
	for _, t := range o.targets {
		if !slices.Contains([]string{"testpmd", "ovs", "vale", "tcp"}, t) {
			return o, fmt.Errorf("parse -targets: no target %q; there are testpmd, ovs, vale and tcp", t)
		}
	}
	if o.rounds < 1 || o.seconds <= 0 {
		return o, errors.New("-rounds and -seconds must be positive")
	}
	if o.switchCore == o.genCore {
		return o, errors.New("-switch-core and -gen-core must differ")
	}
	return o, nil
}

// run does what was asked for. An error ends it without a table: half a round
// compares nothing.
func run(ctx context.Context, o options) error {
	cache, err := cacheDir()
	if err != nil {
		return err
	}
	unlock, err := lockMachine(cache)
	if err != nil {
		return err
	}
	defer unlock()
	if n := runtime.NumCPU(); n < 2 {
		return fmt.Errorf("%d CPU: the switch and the generator need one each", n)
	}
	if slices.Contains(o.targets, "vale") || slices.Contains(o.targets, "tcp") {
		if o.agent, err = buildAgent(ctx, cache, o.agent); err != nil {
			return err
		}
	}
	printMachine(os.Stdout)

	var records []record
	packets := slices.DeleteFunc(slices.Clone(o.targets), func(s string) bool { return s == "tcp" })
	if len(packets) > 0 {
		if records, err = packetRounds(ctx, o, cache, packets); err != nil {
			return err
		}
	}
	if slices.Contains(o.targets, "tcp") {
		tcp, err := tcpRounds(ctx, o)
		if err != nil {
			return err
		}
		records = append(records, tcp...)
	}
	printTables(os.Stdout, group(records, append([]string{"testpmd", "ovs", "vale"}, tcpTargets...)))
	f, err := os.Create(o.out)
	if err != nil {
		return fmt.Errorf("write the measurements: %w", err)
	}
	defer f.Close()
	if err := writeCSV(f, records); err != nil {
		return fmt.Errorf("write the measurements to %s: %w", o.out, err)
	}
	fmt.Printf("\nevery measurement: %s\n", o.out)
	return f.Close()
}

// lockMachine keeps a second benchmark away: both would be wrong.
func lockMachine(cache string) (unlock func(), err error) {
	f, err := os.OpenFile(filepath.Join(cache, "bench.lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("lock the machine: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("another benchmark is running (%s is locked): wait for its end", f.Name())
	}
	return func() { f.Close() }, nil
}

// buildAgent gives the program to measure.
func buildAgent(ctx context.Context, cache, given string) (string, error) {
	if given != "" {
		return filepath.Abs(given)
	}
	program := filepath.Join(cache, "vale-vmnet-bench")
	out, err := exec.CommandContext(ctx, "go", "build", "-o", program, "github.com/vale-vmnet/vale-vmnet/cmd/vale-vmnet").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build the agent: %w: %s", err, out)
	}
	return program, nil
}

// packetRounds measures the packet targets, interleaved.
func packetRounds(ctx context.Context, o options, cache string, names []string) (records []record, err error) {
	var targets []target
	for _, n := range names {
		t := map[string]target{"testpmd": testpmd{}, "ovs": ovs{}, "vale": agent{program: o.agent}}[n]
		if m := t.missing(); m != "" {
			return nil, fmt.Errorf("target %s: %s", n, m)
		}
		targets = append(targets, t)
	}
	program, err := buildGenerator(ctx, cache)
	if err != nil {
		return nil, err
	}
	release, err := dpdk.ReserveHugepages(hugepages)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, release()) }()

	for round := range o.rounds {
		for i := range targets {
			t := targets[(round+i)%len(targets)]
			rs, err := measureTarget(ctx, o, t, program, round+1)
			if err != nil {
				return nil, fmt.Errorf("round %d, %s: %w", round+1, t.name(), err)
			}
			records = append(records, rs...)
		}
	}
	return records, nil
}

// measureTarget starts a target, takes every measure of it and stops it.
func measureTarget(ctx context.Context, o options, t target, program string, round int) ([]record, error) {
	dir, err := os.MkdirTemp("", "vale-bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	r, err := t.start(ctx, dir, o.switchCore)
	if err != nil {
		return nil, err
	}
	defer r.stop()
	g := generator{program: program, core: o.genCore, dir: dir}
	var records []record
	for _, m := range o.measures(t, round) {
		res, err := g.run(ctx, r, m)
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(os.Stderr, "round %d/%d  %-8s %s\n", round, o.rounds, t.name(), res)
		records = append(records, record{round: round, target: t.name(), res: res})
	}
	return records, nil
}

// ringSize is what QEMU gives a virtio-net device by default.
const ringSize = 256

func (o options) measures(t target, round int) []measure {
	var all []measure
	if round == 1 {
		// Rates of a switch that damages frames are worth nothing.
		all = append(all, measure{Mode: "count", Size: 512, QueueSize: ringSize, Both: true, Count: 200_000, Window: 128})
	}
	for _, size := range o.sizes {
		all = append(all, measure{Mode: "throughput", Size: size, QueueSize: ringSize, Seconds: o.seconds, Both: o.both, Spread: o.spread, Touch: o.touch})
	}
	all = append(all, measure{Mode: "latency", Size: 64, QueueSize: ringSize, Seconds: min(o.seconds, 1)})
	if t.name() == "vale" {
		for _, size := range o.sizes {
			all = append(all, measure{Mode: "throughput", Size: size, QueueSize: 1024, Seconds: o.seconds, Both: o.both, Spread: o.spread, Touch: o.touch})
		}
	}
	return all
}

// String is a line of progress.
func (r result) String() string {
	switch r.Mode {
	case "latency":
		return fmt.Sprintf("%5d bytes  p50 %.0f ns  p99 %.0f ns", r.Size, r.P50, r.P99)
	case "count":
		return fmt.Sprintf("%5d bytes  %d frames, every one intact and in order", r.Size, r.Received)
	case "tcp":
		return fmt.Sprintf("TCP %.3f Gbit/s", r.Gbit)
	}
	return fmt.Sprintf("%5d bytes  ring %-4d  %.2f Mpps  %.1f Gbit/s  loss %.4f %%  no CPU %.1f %%",
		r.Size, r.QueueSize, r.Mpps, r.Gbit, r.lossPercent(), 100*r.Waited)
}
