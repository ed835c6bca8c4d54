package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/vale-vmnet/vale-vmnet/deploy/bench/dpdk"
)

//go:embed gen/gen.c
var genSource []byte

// Memory of each side. Two sides and the allocator's slack fit in hugepages.
const (
	targetMemoryMB = 256
	genMemoryMB    = 128
	hugepages      = 384 // of 2 MiB
)

// cacheDir is where built programs stay between runs.
func cacheDir() (string, error) {
	dir := os.Getenv("VALE_CACHE")
	if dir == "" {
		user, err := os.UserCacheDir()
		if err != nil {
			return "", fmt.Errorf("find the cache directory: %w; set VALE_CACHE", err)
		}
		dir = filepath.Join(user, "vale-vmnet")
	}
	return dir, os.MkdirAll(dir, 0o755)
}

// buildGenerator compiles gen.c against the installed DPDK, once per source and
// DPDK version, and returns the program's path.
func buildGenerator(ctx context.Context, dir string) (string, error) {
	if m := needPrograms("Debian and Ubuntu: packages gcc pkg-config libdpdk-dev", "gcc", "pkg-config"); m != "" {
		return "", errors.New("build the generator: " + m)
	}
	version, err := exec.CommandContext(ctx, "pkg-config", "--modversion", "libdpdk").Output()
	if err != nil {
		return "", fmt.Errorf("build the generator: libdpdk not found by pkg-config (Debian and Ubuntu: package libdpdk-dev): %w", err)
	}
	flags, err := exec.CommandContext(ctx, "pkg-config", "--cflags", "--libs", "libdpdk").Output()
	if err != nil {
		return "", fmt.Errorf("build the generator: %w", err)
	}
	sum := sha256.Sum256(append(append([]byte{}, genSource...), version...))
	program := filepath.Join(dir, "gen-"+hex.EncodeToString(sum[:8]))
	if _, err := os.Stat(program); err == nil {
		return program, nil
	}
	source, fresh := program+".c", fmt.Sprintf("%s.%d", program, os.Getpid())
	if err := os.WriteFile(source, genSource, 0o644); err != nil {
		return "", fmt.Errorf("build the generator: %w", err)
	}
	args := append([]string{"-O3", "-march=native", "-Wall", "-o", fresh, source}, strings.Fields(string(flags))...)
	if out, err := exec.CommandContext(ctx, "gcc", args...).CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the generator: %w: %s", err, out)
	}
	return program, os.Rename(fresh, program)
}

// A measure is one run of the generator.
type measure struct {
	Mode      string // throughput, latency, count
	Size      int    // bytes without FCS
	QueueSize int
	Seconds   float64
	Both      bool
	Spread    bool // see the flags of the same name
	Touch     bool
	Count     uint64
	Window    int
}

// A result is what the generator prints. Fields of other modes are zero.
type result struct {
	Mode       string  `json:"mode"`
	Size       int     `json:"size"`
	QueueSize  int     `json:"queue_size"`
	Both       bool    `json:"both"` // both directions at once; figures are sums
	Seconds    float64 `json:"seconds"`
	Sent       uint64  `json:"sent"`
	Received   uint64  `json:"received"`
	Lost       int64   `json:"lost"`
	Bad        uint64  `json:"bad"` // wrong length, order or content
	WarmupLost int64   `json:"warmup_lost"`
	RingFull   float64 `json:"ring_full"` // share of offered frames that the ring refused
	Waited     float64 `json:"waited"`    // share of the time that the generator or the target wanted a CPU and had none
	Mpps       float64 `json:"mpps"`
	Gbit       float64 `json:"gbit"`
	Samples    int     `json:"samples"`
	P50        float64 `json:"p50_ns"`
	P99        float64 `json:"p99_ns"`
}

type generator struct {
	program string
	core    int
	dir     string
}

// run measures a started target. The generator's exit status says whether every
// frame was accounted for in count mode; the result is returned either way.
func (g generator) run(ctx context.Context, r *running, m measure) (result, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute+time.Duration(m.Seconds*float64(time.Second)))
	defer cancel()
	eal := dpdk.EAL{Cores: fmt.Sprintf("0@%d", g.core), MemoryMB: genMemoryMB, Prefix: "vale-bench-gen"}
	for i, socket := range r.sockets {
		eal.Vdevs = append(eal.Vdevs, dpdk.VirtioUser{
			Socket: socket, Listen: r.connects, QueueSize: m.QueueSize,
			MAC: net.HardwareAddr{0x02, 0, 0, 0, 0xbe, byte(i)},
		}.Vdev(i))
	}
	argv := append([]string{"-c", strconv.Itoa(g.core), g.program}, eal.Args()...)
	argv = append(append(argv, "--"), m.args()...)
	cmd := exec.CommandContext(ctx, "taskset", argv...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	var out, log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &log
	before, began := r.waited(), time.Now()
	runErr := cmd.Run()
	targetWaited := float64(r.waited()-before) / float64(time.Since(began))
	for line := range bytes.Lines(out.Bytes()) {
		if !bytes.HasPrefix(line, []byte("{")) {
			continue
		}
		var res result
		if err := json.Unmarshal(line, &res); err != nil {
			return result{}, fmt.Errorf("read the generator's result %q: %w", line, err)
		}
		res.Waited = max(res.Waited, targetWaited)
		if runErr != nil {
			return res, fmt.Errorf("generator %v: %w: %s", m.args(), runErr, bytes.TrimSpace(line))
		}
		return res, nil
	}
	return result{}, fmt.Errorf("generator %v gave no result: %w: %s\n%s", m.args(), runErr, lastLines(log.String()), r.log())
}

func (m measure) args() []string {
	args := []string{
		"--mode", m.Mode, "--size", strconv.Itoa(m.Size), "--queue-size", strconv.Itoa(m.QueueSize),
	}
	if m.Mode == "count" {
		args = append(args, "--count", strconv.FormatUint(m.Count, 10), "--window", strconv.Itoa(m.Window))
	} else {
		args = append(args, "--seconds", fmt.Sprint(m.Seconds), "--warmup", fmt.Sprint(m.Seconds/4))
	}
	if m.Both {
		args = append(args, "--both")
	}
	if m.Spread {
		args = append(args, "--spread")
	}
	if m.Touch {
		args = append(args, "--touch")
	}
	return args
}

func lastLines(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return strings.Join(lines[max(0, len(lines)-8):], "\n")
}
