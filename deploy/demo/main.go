// Command demo shows two guests talking over one switch: it starts a private
// agent, boots two tiny Linux guests with the command lines of the vale(4)
// manual page, measures between them and leaves nothing behind.
//
//	go run ./deploy/demo          measure and go
//	go run ./deploy/demo -keep    keep the guests up until Enter or Ctrl-C
//
// "make demo" and "make demo KEEP=1" do the same, and install what is missing.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/vale-vmnet/vale-vmnet/deploy/guest"
)

func main() {
	keep := flag.Bool("keep", false, "keep the guests up until Enter or Ctrl-C")
	bin := flag.String("bin", "", "the vale-vmnet program (default: compile it)")
	seconds := flag.Int("seconds", 4, "length of each throughput measurement")
	socket := flag.String("console", "", "connect this terminal to a kept guest's console `socket`; leave with Ctrl-]")
	limit := flag.Duration("timeout", 5*time.Minute, "give up after this long (downloads included)")
	flag.Parse()
	if *socket != "" {
		if err := console(*socket); err != nil {
			fmt.Fprintln(os.Stderr, "demo:", err)
			os.Exit(1)
		}
		return
	}

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	d := &demo{begin: time.Now(), bin: *bin, seconds: *seconds}
	timed, cancel := context.WithTimeout(ctx, *limit)
	err := d.run(timed)
	cancel()
	if err == nil && *keep {
		d.waitForUser(ctx)
	}
	if err != nil && ctx.Err() == nil {
		d.explain(err)
	}
	d.clean()
	switch {
	case ctx.Err() != nil && !*keep:
		fmt.Println("interrupted; everything is cleaned up")
		os.Exit(130)
	case err != nil:
		os.Exit(1)
	}
	d.step("done: no process, socket or file of the demonstration is left")
}

// explain tells a failure with what the agent and the guests said last.
func (d *demo) explain(err error) {
	fmt.Fprintf(os.Stderr, "\ndemo failed: %v\n", err)
	var missing *guest.MissingError
	if errors.As(err, &missing) {
		return // the error says what to install
	}
	if d.log != "" {
		fmt.Fprintf(os.Stderr, "\nlast lines of the agent:\n%s\n", guest.Tail(d.log, 15))
	}
	for _, name := range names {
		if g := d.guests[name]; g != nil {
			fmt.Fprintf(os.Stderr, "\nguest %s:\n%s\n", name, g.Logs())
		}
	}
	fmt.Fprintln(os.Stderr, "\nWhat usually helps: deploy/deps.sh demo (installs or names missing packages);"+
		"\nVALE_ACCEL=tcg (where /dev/kvm does not work); an empty cache, VALE_CACHE=$(mktemp -d) (where a download broke).")
}

// waitForUser returns on Enter, Ctrl-C or the end of standard input's terminal.
func (d *demo) waitForUser(ctx context.Context) {
	fmt.Println("\nThe guests stay up. Their consoles (a root shell; press Enter there; leave with Ctrl-]):")
	for _, name := range names {
		fmt.Printf("  guest %s: go run ./deploy/demo -console %s\n", name, d.guests[name].VM().ConsoleSocket())
	}
	fmt.Printf("The switch:\n  %s ls --run-dir %s\n", d.bin, d.agent.RunDir)
	fmt.Println("Press Enter or Ctrl-C to end.")
	enter := make(chan struct{})
	go func() {
		// End of file is no key press: without a terminal only a signal ends it.
		if n, err := os.Stdin.Read(make([]byte, 1)); n > 0 && err == nil {
			close(enter)
		}
	}()
	select {
	case <-enter:
	case <-ctx.Done():
		fmt.Println()
	}
}
