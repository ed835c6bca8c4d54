package e2e

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/vale-vmnet/vale-vmnet/deploy/guest"
	"github.com/vale-vmnet/vale-vmnet/deploy/guest/host"
)

// TestScripts runs the command line as an administrator types it. Besides
// testscript's own commands, the scripts have
//
//	ready    wait until the agent in $VALE_VMNET_RUN_DIR serves
//	listen   hold a unix socket until the script ends, as a foreign program would
//
// and the variables $VALE_VMNET_RUN_DIR (a fresh directory's path) and $BELL (a
// control character).
func TestScripts(t *testing.T) {
	bin, err := program()
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir: filepath.Join("testdata", "script"),
		Setup: func(env *testscript.Env) error {
			// Short: a unix socket's path has at most 107 bytes.
			dir, err := os.MkdirTemp("", "vale-script-")
			if err != nil {
				return err
			}
			env.Defer(func() { os.RemoveAll(dir) })
			env.Setenv("VALE_VMNET_RUN_DIR", filepath.Join(dir, "run"))
			env.Setenv("BELL", "\a")
			env.Setenv("PATH", filepath.Dir(bin)+string(os.PathListSeparator)+env.Getenv("PATH"))
			return nil
		},
		Condition: func(cond string) (bool, error) {
			if cond != "qemu" {
				return false, errors.New("unknown condition " + cond)
			}
			err := guest.Check()
			if err != nil && os.Getenv("CI") == "true" {
				return false, err
			}
			return err == nil, nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"ready":  ready,
			"listen": listen,
		},
	})
}

func ready(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 0 {
		ts.Fatalf("usage: ready")
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for {
		err := host.Status(ctx, ts.Getenv("VALE_VMNET_RUN_DIR"))
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			ts.Fatalf("agent does not serve: %v", err)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func listen(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: listen PATH")
	}
	ts.Check(os.MkdirAll(filepath.Dir(args[0]), 0o755))
	ln, err := net.Listen("unix", args[0])
	ts.Check(err)
	ts.Defer(func() { ln.Close() })
}
