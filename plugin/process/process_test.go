package process

import (
	"errors"
	"os"
	"os/exec"
	"testing"
)

// sleeper starts a process that does nothing until it is killed.
func sleeper(t *testing.T) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("sleep", "600")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return cmd
}

func TestDoneWhenProcessEnds(t *testing.T) {
	cmd := sleeper(t)
	h, err := Open(cmd.Process.Pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	if !h.Alive() || h.PID() != cmd.Process.Pid {
		t.Fatalf("handle of %d: alive %v, pid %d", cmd.Process.Pid, h.Alive(), h.PID())
	}
	select {
	case <-h.Done():
		t.Fatal("done while the process runs")
	default:
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-h.Done() // nobody has waited for it: a zombie is gone too
	if h.Alive() {
		t.Error("ended process is alive")
	}
	if _, err := Open(cmd.Process.Pid, h.StartTime()); !errors.Is(err, ErrGone) {
		t.Errorf("open a zombie: %v, want ErrGone", err)
	}
}

func TestOpenRefuses(t *testing.T) {
	pid := os.Getpid()
	start, err := StartTime(pid)
	if err != nil {
		t.Fatal(err)
	}
	ended := exec.Command("true")
	if err := ended.Run(); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name  string
		pid   int
		start uint64
		gone  bool
	}{
		{"another process's start time", pid, start + 1, true},
		{"ended", ended.Process.Pid, 0, true},
		{"no id", 0, 0, false},
		{"negative", -1, 0, false},
	}
	for _, tt := range tests {
		h, err := Open(tt.pid, tt.start)
		if err == nil {
			h.Close()
			t.Errorf("%s: accepted", tt.name)
		} else if errors.Is(err, ErrGone) != tt.gone {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
	h, err := Open(pid, start)
	if err != nil {
		t.Fatal(err)
	}
	h.Close()
	<-h.Done() // closing ends the watcher
}

func TestHandlesDoNotLeak(t *testing.T) {
	count := func() int {
		entries, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(entries)
	}
	open := func() {
		h, err := Open(os.Getpid(), 0)
		if err != nil {
			t.Fatal(err)
		}
		h.Close()
		<-h.Done()
	}
	open() // the runtime's poller takes descriptors of its own
	before := count()
	for range 200 {
		open()
	}
	if after := count(); after > before {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
}

func TestParseStat(t *testing.T) {
	const tail = " S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4711 20"
	for _, tt := range []struct {
		text string
		want uint64
		ok   bool
	}{
		{"1 (init)" + tail, 4711, true},
		{"7 (a) b) (c)" + tail, 4711, true},
		{"7 (short) S 1", 0, false},
		{"", 0, false},
		{"no parenthesis" + tail, 0, false},
	} {
		got, err := parseStat(tt.text)
		if got != tt.want || (err == nil) != tt.ok {
			t.Errorf("parseStat(%q) = %d, %v", tt.text, got, err)
		}
	}
}
