package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"vale-vmnet": main})
}

// TestScripts runs the command line as people type it. Besides testscript's own
// commands, scripts have
//
//	until PATTERN PROGRAM ARGS...   run the program until its output matches
//
// and the variable $VALE_VMNET_RUN_DIR, a fresh directory for an agent.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: filepath.Join("testdata", "script"),
		Setup: func(env *testscript.Env) error {
			// Short: a unix socket's path has at most 107 bytes.
			dir, err := os.MkdirTemp("", "vsc")
			if err != nil {
				return err
			}
			env.Defer(func() {
				endDaemon(filepath.Join(env.WorkDir, "pid"))
				os.RemoveAll(dir)
			})
			env.Setenv("VALE_VMNET_RUN_DIR", filepath.Join(dir, "run"))
			env.Setenv("VALE_VMNET_CONFIG", os.DevNull) // not this host's
			return nil
		},
		Condition: func(cond string) (bool, error) {
			if cond != "qemu" {
				return false, errors.New("unknown condition " + cond)
			}
			_, err := exec.LookPath("qemu-system-x86_64")
			if err != nil && os.Getenv("CI") == "true" {
				return false, err
			}
			return err == nil, nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"until": until},
	})
}

// endDaemon ends the process that a script left in its pid file, when it failed
// half-way.
func endDaemon(pidFile string) {
	text, err := os.ReadFile(pidFile)
	if err != nil {
		return
	}
	if pid, err := strconv.Atoi(strings.TrimSpace(string(text))); err == nil && pid > 1 {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
}

func until(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: until PATTERN PROGRAM ARGS...")
	}
	pattern, err := regexp.Compile("(?m)" + args[0])
	ts.Check(err)
	program, err := exec.LookPath(args[1])
	ts.Check(err)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for {
		var out bytes.Buffer
		cmd := exec.CommandContext(ctx, program, args[2:]...)
		cmd.Dir = ts.Getenv("WORK")
		cmd.Env = append(os.Environ(), "VALE_VMNET_RUN_DIR="+ts.Getenv("VALE_VMNET_RUN_DIR"))
		cmd.Stdout, cmd.Stderr = &out, &out
		_ = cmd.Run() // what it says is what counts
		if pattern.Match(out.Bytes()) {
			return
		}
		select {
		case <-ctx.Done():
			ts.Fatalf("never matched %q; last output:\n%s", args[0], &out)
		case <-time.After(10 * time.Millisecond):
		}
	}
}
