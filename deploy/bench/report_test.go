package main

import (
	"bytes"
	"encoding/csv"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		in   []float64
		want float64
	}{
		{nil, 0},
		{[]float64{3}, 3},
		{[]float64{9, 1, 5}, 5},
		{[]float64{8, 2, 4, 6}, 5},
		{[]float64{1, 1, 100}, 1},
	} {
		if got := median(c.in); got != c.want {
			t.Errorf("median(%v) = %v, want %v", c.in, got, c.want)
		}
	}
}

// As many values lie above the median as below it.
func TestMedianSplits(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := rapid.SliceOfN(rapid.Float64Range(-1e6, 1e6), 1, 50).Draw(t, "values")
		m, above, below := median(v), 0, 0
		for _, x := range v {
			if x > m {
				above++
			}
			if x < m {
				below++
			}
		}
		if above > len(v)/2 || below > len(v)/2 {
			t.Fatalf("median %v of %v has %d above and %d below", m, v, above, below)
		}
	})
}

func sample() []record {
	throughput := func(round int, target string, size, queue int, mpps float64) record {
		return record{round: round, target: target, res: result{
			Mode: "throughput", Size: size, QueueSize: queue, Seconds: 2, Mpps: mpps, Gbit: mpps * float64(size) * 8 / 1e3,
			Sent: 1000, Received: 999, Lost: 1, RingFull: 0.5, Waited: 0.002,
		}}
	}
	return []record{
		throughput(1, "testpmd", 64, 256, 10),
		throughput(1, "vale", 64, 256, 12),
		throughput(1, "vale", 64, 1024, 14),
		throughput(2, "vale", 64, 256, 8),
		throughput(2, "testpmd", 64, 256, 8),
		throughput(3, "testpmd", 64, 256, 2),
		throughput(3, "vale", 64, 256, 13),
		{round: 1, target: "testpmd", res: result{Mode: "latency", Size: 64, QueueSize: 256, Samples: 9, P50: 300, P99: 500}},
		{round: 1, target: "vale", res: result{Mode: "latency", Size: 64, QueueSize: 256, Samples: 9, P50: 330, P99: 700}},
		{round: 1, target: "bridge", res: result{Mode: "tcp", Seconds: 2, Gbit: 1.5}},
		{round: 1, target: "vale-tcp", res: result{Mode: "tcp", Seconds: 2, Gbit: 3}},
		{round: 1, target: "vale", res: result{Mode: "count", Size: 512, QueueSize: 256, Sent: 5, Received: 5}},
	}
}

// testdata/report.golden is the whole table; UPDATE_GOLDEN=1 rewrites it.
func TestTables(t *testing.T) {
	var got bytes.Buffer
	printTables(&got, group(sample(), []string{"testpmd", "ovs", "vale", "bridge", "vale-tcp"}))
	golden := filepath.Join("testdata", "report.golden")
	if os.Getenv("UPDATE_GOLDEN") != "" {
		if err := os.WriteFile(golden, got.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if got.String() != string(want) {
		t.Errorf("table\n%s\nwant\n%s", got.String(), want)
	}
}

func TestCSV(t *testing.T) {
	var out bytes.Buffer
	if err := writeCSV(&out, sample()); err != nil {
		t.Fatal(err)
	}
	rows, err := csv.NewReader(&out).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	if len(rows) != len(sample())+1 {
		t.Fatalf("%d rows, want a header and %d measurements", len(rows), len(sample()))
	}
	if got := strings.Join(rows[2][:5], " "); got != "1 vale throughput 64 256" {
		t.Errorf("second measurement is %q", got)
	}
}

func TestLossPercent(t *testing.T) {
	if got := (result{Sent: 2000, Lost: 1}).lossPercent(); math.Abs(got-0.05) > 1e-12 {
		t.Errorf("loss = %v, want 0.05", got)
	}
	if got := (result{}).lossPercent(); got != 0 {
		t.Errorf("loss of nothing = %v", got)
	}
}

func TestParseFlags(t *testing.T) {
	o, err := parseFlags([]string{"-sizes", "64,1500", "-targets", "vale,tcp", "-rounds", "7"})
	if err != nil {
		t.Fatal(err)
	}
	if len(o.sizes) != 2 || o.sizes[1] != 1500 || len(o.targets) != 2 || o.rounds != 7 {
		t.Errorf("options %+v", o)
	}
	for _, args := range []string{
		"-sizes 64,big", "-sizes 10", "-sizes 9000", "-targets vale,kernel", "-rounds 0", "-seconds 0",
		"-switch-core 1 -gen-core 1", "-no-such-flag",
	} {
		if _, err := parseFlags(strings.Fields(args)); err == nil {
			t.Errorf("flags %q accepted", args)
		}
	}
}

func TestParseIperf(t *testing.T) {
	got, err := parseIperf(`{"start":{},"end":{"sum_sent":{"seconds":2,"bits_per_second":9},"sum_received":{"seconds":2.01,"bits_per_second":1.75e9}}}`)
	if err != nil {
		t.Fatal(err)
	}
	if got.Mode != "tcp" || got.Gbit != 1.75 || got.Seconds != 2.01 {
		t.Errorf("parseIperf = %+v", got)
	}
	for _, out := range []string{
		"", "iperf3: error", `{"error":"unable to connect"}`, `{"end":{}}`,
		`{"end":{"sum_received":{"seconds":2,"bits_per_second":0}}}`,
	} {
		if r, err := parseIperf(out); err == nil {
			t.Errorf("parseIperf(%q) = %+v, want an error", out, r)
		}
	}
}
