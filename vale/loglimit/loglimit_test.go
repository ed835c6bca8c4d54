package loglimit

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"
)

func TestLimit(t *testing.T) {
	var out bytes.Buffer
	log := New(slog.New(slog.NewTextHandler(&out, nil))).With("port", "vale-1:a")
	other := log.WithGroup("session")
	now := time.Unix(1_000_000, 0)
	write := func(l *slog.Logger, n int) (lines []string) {
		t.Helper()
		out.Reset()
		for range n {
			if err := l.Handler().Handle(context.Background(), slog.NewRecord(now, slog.LevelInfo, "hello", 0)); err != nil {
				t.Fatal(err)
			}
		}
		return strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
	}
	if n := len(write(log, 1000)); n != burst {
		t.Errorf("%d of 1000 records passed, want %d", n, burst)
	}
	if lines := write(other, 5); lines[0] != "" {
		t.Errorf("a derived logger has a limit of its own: %q", lines)
	}
	now = now.Add(every)
	lines := write(log, 5)
	if len(lines) != 1 || !strings.Contains(lines[0], "suppressed=945") || !strings.Contains(lines[0], "port=vale-1:a") {
		t.Errorf("after the pause: %q", lines)
	}
	// Time that is not worth a whole record is not lost.
	passed := 0
	for range 10 {
		now = now.Add(every / 2)
		if lines := write(log, 1); lines[0] != "" {
			passed++
		}
	}
	if passed != 5 {
		t.Errorf("%d records passed in the time of 5", passed)
	}
	now = now.Add(time.Hour)
	if n := len(write(log, 1000)); n != burst {
		t.Errorf("after an hour %d records passed, want %d", n, burst)
	}
	now = now.Add(-time.Hour) // a clock that was set
	if lines := write(log, 1); lines[0] != "" {
		t.Errorf("a clock that goes back makes room: %q", lines)
	}
}
