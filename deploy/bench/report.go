package main

import (
	"encoding/csv"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"text/tabwriter"
)

// reference is the target that ratios are taken of.
const reference = "testpmd"

// A record is one measurement of one target in one round.
type record struct {
	round  int
	target string
	res    result
}

// key is what is compared: everything but target and round.
type key struct {
	mode  string
	both  bool
	size  int
	queue int
}

// series holds the records of one target under one key, in round order.
type series struct {
	key
	target  string
	records []record
}

// group sorts records into series: by mode, size and ring, with the targets in
// the order in which they were asked for.
func group(records []record, targets []string) []series {
	byKey := map[key]map[string][]record{}
	for _, r := range records {
		k := key{r.res.Mode, r.res.Both, r.res.Size, r.res.QueueSize}
		if byKey[k] == nil {
			byKey[k] = map[string][]record{}
		}
		byKey[k][r.target] = append(byKey[k][r.target], r)
	}
	keys := slices.SortedFunc(maps.Keys(byKey), func(a, b key) int {
		for _, d := range []int{order(a.mode) - order(b.mode), a.queue - b.queue, a.size - b.size} {
			if d != 0 {
				return d
			}
		}
		return 0
	})
	var all []series
	for _, k := range keys {
		for _, t := range targets {
			if rs := byKey[k][t]; len(rs) > 0 {
				all = append(all, series{key: k, target: t, records: rs})
			}
		}
	}
	return all
}

func order(mode string) int {
	return slices.Index([]string{"throughput", "latency", "tcp", "count"}, mode)
}

// of takes one figure of every record.
func (s series) of(figure func(result) float64) []float64 {
	v := make([]float64, len(s.records))
	for i, r := range s.records {
		v[i] = figure(r.res)
	}
	return v
}

// median of an odd number of values is the middle one, of an even number the
// mean of the two in the middle. It is 0 for none.
func median(v []float64) float64 {
	if len(v) == 0 {
		return 0
	}
	v = slices.Sorted(slices.Values(v))
	return (v[(len(v)-1)/2] + v[len(v)/2]) / 2
}

func mpps(r result) float64 { return r.Mpps }
func gbit(r result) float64 { return r.Gbit }
func p50(r result) float64  { return r.P50 }
func p99(r result) float64  { return r.P99 }

// lossPercent is of all frames the ring took, warm-up included.
func (r result) lossPercent() float64 {
	if r.Sent == 0 {
		return 0
	}
	return 100 * float64(r.Lost) / float64(r.Sent)
}

// ratio compares a median with the reference's under the same key. It gives ""
// when there is no such reference.
func ratio(all []series, s series, figure func(result) float64, ref string) string {
	for _, o := range all {
		if o.target == ref && o.key == s.key {
			if base := median(o.of(figure)); base > 0 {
				return fmt.Sprintf("%.2f", median(s.of(figure))/base)
			}
		}
	}
	return ""
}

// spreadOf prints the range of a figure.
func spreadOf(v []float64, format string) string {
	if len(v) == 0 {
		return ""
	}
	return fmt.Sprintf(format+".."+format, slices.Min(v), slices.Max(v))
}

func ways(both bool) int {
	if both {
		return 2
	}
	return 1
}

// busyMachine is the share of time without a CPU above which a figure says more
// about the other work on the machine than about the switch.
const busyMachine = 0.01

func waited(r result) float64 { return r.Waited }

// printTables writes a table per mode that was measured.
func printTables(w io.Writer, all []series) {
	tables := []struct {
		mode, title, header string
		row                 func(s series) []any
	}{
		{
			"throughput", "Throughput, open loop (medians over the rounds)",
			"bytes\tring\tways\ttarget\tMpps\trange\tGbit/s\tof " + reference + "\tloss %\tring full\tno CPU %",
			func(s series) []any {
				return []any{
					s.size, s.queue, ways(s.both), s.target, fmt.Sprintf("%.2f", median(s.of(mpps))), spreadOf(s.of(mpps), "%.2f"),
					fmt.Sprintf("%.1f", median(s.of(gbit))), ratio(all, s, mpps, reference),
					fmt.Sprintf("%.4f", median(s.of(result.lossPercent))),
					fmt.Sprintf("%.2f", median(s.of(func(r result) float64 { return r.RingFull }))),
					fmt.Sprintf("%.1f", 100*median(s.of(waited))),
				}
			},
		},
		{
			"latency", "Latency of a single frame while the switch polls",
			"bytes\tring\ttarget\tp50 ns\trange\tp99 ns\tp50 of " + reference + "\tlost",
			func(s series) []any {
				return []any{
					s.size, s.queue, s.target, fmt.Sprintf("%.0f", median(s.of(p50))), spreadOf(s.of(p50), "%.0f"),
					fmt.Sprintf("%.0f", median(s.of(p99))), ratio(all, s, p50, reference),
					fmt.Sprintf("%.0f", slices.Max(s.of(func(r result) float64 { return float64(r.Lost) }))),
				}
			},
		},
		{
			"tcp", "TCP between two guests (iperf3)",
			"target\tGbit/s\trange\tof " + tcpReference,
			func(s series) []any {
				return []any{
					s.target, fmt.Sprintf("%.3f", median(s.of(gbit))), spreadOf(s.of(gbit), "%.3f"),
					ratio(all, s, gbit, tcpReference),
				}
			},
		},
	}
	for _, t := range tables {
		tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		rows := 0
		for _, s := range all {
			if s.mode != t.mode {
				continue
			}
			if rows++; rows == 1 {
				fmt.Fprintf(w, "\n%s\n", t.title)
				fmt.Fprintln(tw, t.header)
			}
			for i, cell := range t.row(s) {
				if i > 0 {
					fmt.Fprint(tw, "\t")
				}
				fmt.Fprint(tw, cell)
			}
			fmt.Fprintln(tw)
		}
		tw.Flush()
	}
	fmt.Fprint(w, "\nring full: share of offered frames that the ring refused; near 0 the generator is the bound, not the switch",
		"\nno CPU: share of the time that the switch or the generator waited for its core\n")
	for _, s := range all {
		if median(s.of(waited)) > busyMachine {
			fmt.Fprintln(w, "WARNING: the machine was not idle; these figures compare nothing")
			return
		}
	}
}

var csvHeader = []string{
	"round", "target", "mode", "size", "ring", "ways", "seconds", "sent", "received", "lost", "bad",
	"warmup_lost", "ring_full", "waited", "mpps", "gbit", "samples", "p50_ns", "p99_ns",
}

// writeCSV writes every single measurement.
func writeCSV(w io.Writer, records []record) error {
	c := csv.NewWriter(w)
	c.Write(csvHeader) //nolint:errcheck // Flush reports it
	f := func(v float64) string { return strconv.FormatFloat(v, 'g', -1, 64) }
	for _, r := range records {
		c.Write([]string{ //nolint:errcheck // Flush reports it
			strconv.Itoa(r.round), r.target, r.res.Mode, strconv.Itoa(r.res.Size), strconv.Itoa(r.res.QueueSize),
			strconv.Itoa(ways(r.res.Both)),
			f(r.res.Seconds), strconv.FormatUint(r.res.Sent, 10), strconv.FormatUint(r.res.Received, 10),
			strconv.FormatInt(r.res.Lost, 10), strconv.FormatUint(r.res.Bad, 10),
			strconv.FormatInt(r.res.WarmupLost, 10), f(r.res.RingFull), f(r.res.Waited), f(r.res.Mpps), f(r.res.Gbit),
			strconv.Itoa(r.res.Samples), f(r.res.P50), f(r.res.P99),
		})
	}
	c.Flush()
	return c.Error()
}
