// Command idle measures what an agent costs while nothing happens: 64 guests
// are plugged in, have exchanged frames, and fall silent.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/vale-vmnet/vale-vmnet/deploy/guest/host"
	"github.com/vale-vmnet/vale-vmnet/vale/vhostuser/vhosttest"
)

func main() {
	guests := flag.Int("guests", 64, "guests to plug in")
	length := flag.Duration("time", 10*time.Second, "how long to watch")
	flag.Parse()
	if err := run(*guests, *length); err != nil {
		fmt.Fprintln(os.Stderr, "idle:", err)
		os.Exit(1)
	}
}

func run(guests int, length time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute+length)
	defer cancel()
	dir, err := os.MkdirTemp("", "vale-idle-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	bin, err := host.Build(ctx, dir)
	if err != nil {
		return err
	}
	var config strings.Builder
	config.WriteString("ports:\n")
	for i := range guests {
		fmt.Fprintf(&config, "  - vale-1:g%d\n", i)
	}
	file := filepath.Join(dir, "vale-vmnet.yaml")
	if err := os.WriteFile(file, []byte(config.String()), 0o600); err != nil {
		return err
	}
	runDir := filepath.Join(dir, "run")
	agent, err := host.StartAgent(ctx, bin, runDir, filepath.Join(dir, "agent.log"), "--config", file)
	if err != nil {
		return err
	}
	defer agent.Kill()
	for i := range guests {
		g, err := vhosttest.Dial(filepath.Join(runDir, fmt.Sprintf("vale-1:g%d.sock", i)), vhosttest.Config{RegionSize: 16 << 20})
		if err != nil {
			return fmt.Errorf("plug in guest %d: %w", i, err)
		}
		defer g.Close()
		if err := g.Start(); err != nil {
			return fmt.Errorf("start guest %d: %w", i, err)
		}
		hello := make([]byte, 60)
		copy(hello, []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, byte(i)})
		if err := g.Tx[0].SendAll(10*time.Second, vhosttest.Frame{Data: hello}); err != nil {
			return fmt.Errorf("send from guest %d: %w", i, err)
		}
	}
	used, err := cpu(agent.PID())
	if err != nil {
		return err
	}
	began := time.Now()
	time.Sleep(length)
	after, err := cpu(agent.PID())
	if err != nil {
		return err
	}
	memory, err := statusKiB(agent.PID(), "RssAnon", "RssFile")
	if err != nil {
		return err
	}
	fmt.Printf("idle agent, %d idle guests: %.2f %% of a core, %.1f MiB of its own memory\n",
		guests, 100*(after-used).Seconds()/time.Since(began).Seconds(), float64(memory)/1024)
	return nil
}

// cpu reads the processor time that a process has used, in its run queue's
// nanoseconds rather than in clock ticks.
func cpu(pid int) (total time.Duration, err error) {
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	if err != nil || len(tasks) == 0 {
		return 0, fmt.Errorf("read the processor time of %d: no tasks (%w)", pid, err)
	}
	for _, t := range tasks {
		text, err := os.ReadFile(t)
		if os.IsNotExist(err) {
			continue // the thread ended
		}
		if err != nil {
			return 0, err
		}
		ns, _, _ := strings.Cut(string(text), " ")
		n, err := strconv.ParseInt(ns, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("read %s: %w", t, err)
		}
		total += time.Duration(n)
	}
	return total, nil
}

// statusKiB adds up fields of /proc/PID/status. Guest memory, which is mapped
// and shared, is in none of those asked for.
func statusKiB(pid int, fields ...string) (sum int, err error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(line, ":")
		for _, f := range fields {
			if name == f {
				n, err := strconv.Atoi(strings.Fields(value)[0])
				if err != nil {
					return 0, fmt.Errorf("read %s of %d: %w", name, pid, err)
				}
				sum += n
			}
		}
	}
	return sum, nil
}
