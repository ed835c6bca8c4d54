// Command core runs the Go benchmarks of the switch core and prints them as
// ratios to a plain copy loop of the same frames.
//
// Each round runs every benchmark once, so that copy loop and core see the same
// moments of the machine; the table has medians and ranges over the rounds, and
// a CSV file has every single figure.
package main

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/csv"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
)

func main() {
	rounds := flag.Int("rounds", 5, "how often every benchmark runs")
	length := flag.Duration("time", 300e6, "length of one run")
	out := flag.String("out", "bench-core.csv", "file for every single figure")
	core := flag.Int("core", 0, "CPU to run on")
	flag.Parse()
	if err := run(*rounds, length.String(), *out, *core); err != nil {
		fmt.Fprintln(os.Stderr, "core:", err)
		os.Exit(1)
	}
}

// figure is the rate of one benchmark in one round.
type figure struct {
	round int
	name  string // "Unicast/size=64"
	mpps  float64
}

func run(rounds int, length, out string, core int) error {
	dir, err := os.MkdirTemp("", "vale-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	program := filepath.Join(dir, "vale.test")
	if msg, err := exec.Command("go", "test", "-c", "-o", program, "./vale").CombinedOutput(); err != nil {
		return fmt.Errorf("compile the benchmarks: %w: %s", err, msg)
	}
	var all []figure
	for round := range rounds {
		fmt.Fprintf(os.Stderr, "round %d of %d\n", round+1, rounds)
		cmd := exec.Command("taskset", "-c", strconv.Itoa(core), program,
			"-test.run", "^$", "-test.bench", ".", "-test.benchtime", length)
		// One processor, as for the copy loop: garbage collection and the
		// core share it.
		cmd.Env = append(os.Environ(), "GOMAXPROCS=1")
		cmd.Stderr = os.Stderr
		text, err := cmd.Output()
		if err != nil {
			return fmt.Errorf("run the benchmarks: %w: %s", err, text)
		}
		figures, err := parse(bytes.NewReader(text), round+1)
		if err != nil {
			return err
		}
		all = append(all, figures...)
	}
	if err := writeCSV(out, all); err != nil {
		return err
	}
	table(os.Stdout, all)
	fmt.Printf("\nevery figure: %s\n", out)
	return nil
}

// parse reads the lines of a benchmark that reports Mpps.
func parse(r io.Reader, round int) (all []figure, err error) {
	for lines := bufio.NewScanner(r); lines.Scan(); {
		f := strings.Fields(lines.Text())
		if len(f) < 3 || !strings.HasPrefix(f[0], "Benchmark") || f[len(f)-1] != "Mpps" {
			continue
		}
		v, err := strconv.ParseFloat(f[len(f)-2], 64)
		if err != nil {
			return nil, fmt.Errorf("read %q: %w", lines.Text(), err)
		}
		all = append(all, figure{round, strings.TrimPrefix(f[0], "Benchmark"), v})
	}
	if len(all) == 0 {
		return nil, errors.New("the benchmarks printed no rate")
	}
	return all, nil
}

func writeCSV(path string, all []figure) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	w := csv.NewWriter(f)
	w.Write([]string{"round", "benchmark", "mpps"})
	for _, g := range all {
		w.Write([]string{strconv.Itoa(g.round), g.name, strconv.FormatFloat(g.mpps, 'f', 3, 64)})
	}
	w.Flush()
	return cmp.Or(w.Error(), f.Close())
}

// table prints the median of each benchmark, and the median over the rounds of
// its ratio to the two copy loops of the same size.
func table(out io.Writer, all []figure) {
	byName := map[string][]figure{}
	var names []string
	for _, f := range all {
		if byName[f.name] == nil {
			names = append(names, f.name)
		}
		byName[f.name] = append(byName[f.name], f)
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "benchmark\tMpps\trange\tof copying\tof copying after a MAC look-up")
	for _, name := range names {
		rates := rates(byName[name])
		size := "size=64"
		if _, s, ok := strings.Cut(name, "/size="); ok {
			size = "size=" + s
		}
		fmt.Fprintf(w, "%s\t%.1f\t%.1f..%.1f\t%s\t%s\n", name, median(rates), slices.Min(rates), slices.Max(rates),
			ratio(byName[name], byName["Copy/"+size]), ratio(byName[name], byName["CopyLookup/"+size]))
	}
	w.Flush()
}

func rates(fs []figure) (r []float64) {
	for _, f := range fs {
		r = append(r, f.mpps)
	}
	return r
}

// ratio is the median of the ratios within each round.
func ratio(of, to []figure) string {
	var r []float64
	for i := range min(len(of), len(to)) {
		r = append(r, of[i].mpps/to[i].mpps)
	}
	if len(r) == 0 {
		return "-"
	}
	return strconv.FormatFloat(median(r), 'f', 2, 64)
}

func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	if n := len(v); n%2 == 0 {
		return (v[n/2-1] + v[n/2]) / 2
	}
	return v[len(v)/2]
}
