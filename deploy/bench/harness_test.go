package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/vale-vmnet/vale-vmnet/configs"
	"github.com/vale-vmnet/vale-vmnet/deploy/bench/dpdk"
)

// missing skips a test for want of a prerequisite, and fails it where CI=true
// says that everything is installed.
func missing(t *testing.T, why error) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal(why)
	}
	t.Skip(why)
}

// The yardstick must be straight: through testpmd, which drops nothing that fits
// its rings, the generator has to see each frame again, intact and in order, and
// its other modes have to give figures that fit together.
func TestGeneratorThroughTestpmd(t *testing.T) {
	if runtime.NumCPU() < 2 {
		missing(t, errors.New("one CPU: the switch and the generator need one each"))
	}
	if m := (testpmd{}).missing(); m != "" {
		missing(t, errors.New(m))
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cache, err := cacheDir()
	if err != nil {
		t.Fatal(err)
	}
	program, err := buildGenerator(ctx, cache)
	if err != nil {
		missing(t, err)
	}
	release, err := dpdk.ReserveHugepages(hugepages)
	if errors.Is(err, dpdk.ErrNoHugepages) {
		missing(t, err)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := release(); err != nil {
			t.Error(err)
		}
	}()
	dir, err := os.MkdirTemp("", "vale-bench-") // t.TempDir is too long for a socket's name
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	r, err := testpmd{}.start(ctx, dir, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer r.stop()
	g := generator{program: program, core: 1}

	for _, m := range []measure{
		{Mode: "count", Size: 64, QueueSize: 256, Count: 100_000, Window: 128, Both: true},
		{Mode: "count", Size: 1500, QueueSize: 256, Count: 20_000, Window: 64},
		{Mode: "count", Size: 40, QueueSize: 256, Count: 20_000, Window: 64, Spread: true},
	} {
		res, err := g.run(ctx, r, m)
		if err != nil {
			t.Fatal(err)
		}
		want := m.Count
		if m.Both {
			want *= 2
		}
		if res.Sent != want || res.Received != want || res.Lost != 0 || res.Bad != 0 {
			t.Errorf("%+v: %+v, want %d frames sent and received", m, res, want)
		}
	}

	res, err := g.run(ctx, r, measure{Mode: "throughput", Size: 128, QueueSize: 256, Seconds: 0.2})
	if err != nil {
		t.Fatal(err)
	}
	if res.Received == 0 || res.Bad != 0 || int64(res.Sent-res.Received) != res.Lost {
		t.Errorf("throughput does not add up: %+v", res)
	}
	if res.Mpps*1e6*res.Seconds > float64(res.Received)*1.001 {
		t.Errorf("%v Mpps over %v s is more than the %d frames received", res.Mpps, res.Seconds, res.Received)
	}
	res, err = g.run(ctx, r, measure{Mode: "latency", Size: 64, QueueSize: 256, Seconds: 0.2})
	if err != nil {
		t.Fatal(err)
	}
	if res.Samples == 0 || res.P50 <= 0 || res.P99 < res.P50 || res.Lost != 0 {
		t.Errorf("latency does not add up: %+v", res)
	}
}

// The agent must understand the configuration that it is measured with.
func TestAgentConfig(t *testing.T) {
	file := filepath.Join(t.TempDir(), "vale-vmnet.yaml")
	if err := os.WriteFile(file, fmt.Appendf(nil, agentConfig, 3), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := configs.Load(configs.Source{File: file})
	if err != nil {
		t.Fatal(err)
	}
	if c.Workers != 1 || !slices.Equal(c.CPUs, []int{3}) || len(c.Ports) != 2 {
		t.Errorf("configuration %+v, want one worker on CPU 3 and two ports", c)
	}
}

func TestMeasuresStartWithACount(t *testing.T) {
	o := options{sizes: []int{64, 1500}, seconds: 2}
	first, later := o.measures(testpmd{}, 1), o.measures(testpmd{}, 2)
	if first[0].Mode != "count" || len(first) != len(later)+1 {
		t.Errorf("round 1 measures %+v, round 2 %+v: want a count first in round 1 alone", first, later)
	}
	if got := len(o.measures(agent{}, 2)) - len(later); got != 2 {
		t.Errorf("our agent has %d more measures, want one more ring for each size", got)
	}
}
