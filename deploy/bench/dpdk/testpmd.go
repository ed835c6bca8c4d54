package dpdk

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// ErrNoTestpmd says that dpdk-testpmd is not installed.
var ErrNoTestpmd = errors.New("dpdk-testpmd not found (Debian and Ubuntu: package dpdk-dev)")

const prompt = "testpmd> "

// Testpmd is a running interactive dpdk-testpmd.
type Testpmd struct {
	cmd   *exec.Cmd
	stdin io.WriteCloser
	done  chan struct{}

	mu   sync.Mutex
	out  bytes.Buffer  // all output so far
	more chan struct{} // closed and replaced at every write and at the end
}

// StartTestpmd starts testpmd with args behind "-- -i" and waits for its prompt.
// testpmd writes stdout through a block buffer when it is no terminal; stdbuf
// (coreutils) makes that a line buffer.
func StartTestpmd(ctx context.Context, eal EAL, args ...string) (*Testpmd, error) {
	path, err := exec.LookPath("dpdk-testpmd")
	if err != nil {
		return nil, ErrNoTestpmd
	}
	argv := append([]string{"-oL", path}, eal.Args()...)
	argv = append(append(argv, "--", "-i", "--no-mlockall"), args...)
	t := &Testpmd{cmd: exec.Command("stdbuf", argv...), done: make(chan struct{}), more: make(chan struct{})}
	t.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	t.cmd.Stdout = (*output)(t)
	t.cmd.Stderr = (*output)(t)
	if t.stdin, err = t.cmd.StdinPipe(); err != nil {
		return nil, fmt.Errorf("start testpmd: %w", err)
	}
	if err := t.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start testpmd: %w", err)
	}
	go func() {
		t.cmd.Wait() //nolint:errcheck // the output tells more than the exit status
		close(t.done)
		t.wake()
	}()
	if _, err := t.until(ctx, 0, prompt); err != nil {
		t.Close()
		return nil, fmt.Errorf("start testpmd: %w", err)
	}
	return t, nil
}

// output appends to the log of a Testpmd and wakes who waits for it.
type output Testpmd

func (o *output) Write(p []byte) (int, error) {
	t := (*Testpmd)(o)
	t.mu.Lock()
	t.out.Write(p)
	t.mu.Unlock()
	t.wake()
	return len(p), nil
}

func (t *Testpmd) wake() {
	t.mu.Lock()
	close(t.more)
	t.more = make(chan struct{})
	t.mu.Unlock()
}

// until waits for mark in the output behind position from, and returns the
// position behind it.
func (t *Testpmd) until(ctx context.Context, from int, mark string) (int, error) {
	for {
		t.mu.Lock()
		i := bytes.Index(t.out.Bytes()[from:], []byte(mark))
		more := t.more
		t.mu.Unlock()
		if i >= 0 {
			return from + i + len(mark), nil
		}
		select {
		case <-t.done:
			return 0, fmt.Errorf("testpmd ended; its last words:\n%s", tail(t.Log(), 2000))
		case <-ctx.Done():
			return 0, fmt.Errorf("wait for %q from testpmd: %w; its last words:\n%s", mark, ctx.Err(), tail(t.Log(), 2000))
		case <-more:
		}
	}
}

// Command types a line and returns what testpmd printed before its next prompt.
func (t *Testpmd) Command(ctx context.Context, line string) (string, error) {
	t.mu.Lock()
	from := t.out.Len()
	t.mu.Unlock()
	if _, err := io.WriteString(t.stdin, line+"\n"); err != nil {
		return "", fmt.Errorf("testpmd %q: %w", line, err)
	}
	start, err := t.until(ctx, from, line)
	if err != nil {
		return "", err
	}
	end, err := t.until(ctx, start, prompt)
	if err != nil {
		return "", err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.out.Bytes()[start : end-len(prompt)]), nil
}

// PortStats are the counters of one testpmd port.
type PortStats struct {
	RxPackets, RxMissed, RxBytes, RxErrors, RxNoMbuf uint64
	TxPackets, TxErrors, TxBytes                     uint64
}

// Stats reads the counters of a port.
func (t *Testpmd) Stats(ctx context.Context, port int) (PortStats, error) {
	text, err := t.Command(ctx, fmt.Sprintf("show port stats %d", port))
	if err != nil {
		return PortStats{}, err
	}
	return parseStats(text)
}

var statsLine = regexp.MustCompile(`([RT]X-[a-z]+):\s*(\d+)`)

func parseStats(text string) (PortStats, error) {
	var s PortStats
	fields := map[string]*uint64{
		"RX-packets": &s.RxPackets, "RX-missed": &s.RxMissed, "RX-bytes": &s.RxBytes, "RX-errors": &s.RxErrors,
		"RX-nombuf": &s.RxNoMbuf, "TX-packets": &s.TxPackets, "TX-errors": &s.TxErrors, "TX-bytes": &s.TxBytes,
	}
	for _, m := range statsLine.FindAllStringSubmatch(text, -1) {
		p, ok := fields[m[1]]
		if !ok {
			continue
		}
		n, err := strconv.ParseUint(m[2], 10, 64)
		if err != nil {
			return PortStats{}, fmt.Errorf("parse testpmd counter %s: %w", m[1], err)
		}
		*p = n
		delete(fields, m[1])
	}
	if len(fields) > 0 {
		return PortStats{}, fmt.Errorf("parse testpmd port stats: %d counters missing in %q", len(fields), text)
	}
	return s, nil
}

// Log returns everything testpmd has printed.
func (t *Testpmd) Log() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.out.String()
}

// Close asks testpmd to quit and kills it when it has not gone within 10 s.
func (t *Testpmd) Close() {
	io.WriteString(t.stdin, "quit\n") //nolint:errcheck // it may be gone already
	t.stdin.Close()
	select {
	case <-t.done:
		return
	case <-time.After(10 * time.Second):
	}
	syscall.Kill(-t.cmd.Process.Pid, syscall.SIGKILL) //nolint:errcheck // our own process group
	<-t.done
}

func tail(s string, n int) string {
	if len(s) > n {
		s = s[len(s)-n:]
	}
	return strings.TrimSpace(s)
}
