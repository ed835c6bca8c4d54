package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/vale-vmnet/vale-vmnet/configs"
	"github.com/vale-vmnet/vale-vmnet/plugin/apiclient"
	"github.com/vale-vmnet/vale-vmnet/plugin/rundir"
	"github.com/vale-vmnet/vale-vmnet/plugin/version"
)

// cli is what all commands share.
type cli struct {
	out, err io.Writer
	runDir   string
	json     bool
}

func newRoot(out, errOut io.Writer) *cobra.Command {
	c := &cli{out: out, err: errOut}
	root := &cobra.Command{
		Use:   "vale-vmnet",
		Short: "VALE switches for QEMU guests",
		Long: `VALE switches for QEMU guests, in user space.

  vale-vmnet agent                                    run the switches
  vale-vmnet qemu -- qemu-system-x86_64 -net nic -net netmap,ifname=vale-1:a ...
  vale-vmnet ls                                       who is where

A port is named vale-N:name; vale1:a and vale-1:a are the same port.`,
		Args:                       c.noArgs,
		SilenceErrors:              true,
		SilenceUsage:               true,
		SuggestionsMinimumDistance: 2,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return cmd.Help()
		},
	}
	root.SetOut(out)
	root.SetErr(errOut)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usage("%w; \"%s --help\" lists the flags", err, cmd.CommandPath())
	})
	flags := root.PersistentFlags()
	flags.StringVar(&c.runDir, "run-dir", cmp.Or(os.Getenv(configs.EnvPrefix+"RUN_DIR"), configs.DefaultRunDir),
		"runtime directory of the agent (environment: "+configs.EnvPrefix+"RUN_DIR)")
	flags.Lookup("run-dir").DefValue = configs.DefaultRunDir
	flags.BoolVar(&c.json, "json", false, "write JSON, as the API gives it")
	root.AddCommand(c.agentCommand(), c.qemuCommand(), c.lsCommand(), c.portCommand(), c.fdbCommand(), c.vmCommand(), c.statusCommand(), c.versionCommand())
	return root
}

func usage(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// noArgs refuses words that no command takes. Below a command with children
// such a word is a mistyped child.
func (c *cli) noArgs(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	if !cmd.HasSubCommands() {
		return usage("%s takes no argument, got %q", cmd.CommandPath(), args[0])
	}
	text := fmt.Sprintf("unknown command %q for %q", args[0], cmd.CommandPath())
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		return usage("%s; did you mean %s?", text, strings.Join(near, " or "))
	}
	return usage("%s; \"%s --help\" lists them", text, cmd.CommandPath())
}

// nArgs wants exactly the named arguments.
func nArgs(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) < len(names):
			return usage("%s needs %s; for example: %s", cmd.CommandPath(), names[len(args)], cmd.Example)
		case len(args) > len(names):
			return usage("%s takes %s, got also %q", cmd.CommandPath(), strings.Join(names, " and "), args[len(names)])
		}
		return nil
	}
}

// group is a command that only has children.
func (c *cli) group(name, short string, children ...*cobra.Command) *cobra.Command {
	g := &cobra.Command{
		Use:                        name,
		Short:                      short,
		Args:                       c.noArgs,
		SuggestionsMinimumDistance: 2,
		RunE:                       func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	g.AddCommand(children...)
	return g
}

// dir gives the agent's runtime directory.
func (c *cli) dir() (rundir.Dir, error) {
	abs, err := filepath.Abs(c.runDir)
	if err != nil || c.runDir == "" {
		return "", usage("run directory %q is malformed", c.runDir)
	}
	return rundir.Dir(abs), nil
}

// client gives a client of the agent.
func (c *cli) client() (*apiclient.Client, error) {
	dir, err := c.dir()
	if err != nil {
		return nil, err
	}
	return apiclient.New(dir.API()), nil
}

// with makes a command's action out of a function that asks the agent.
func (c *cli) with(f func(cmd *cobra.Command, a *apiclient.Client, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		client, err := c.client()
		if err != nil {
			return err
		}
		defer client.Close()
		return f(cmd, client, args)
	}
}

// printJSON writes v as the API would.
func (c *cli) printJSON(v any) error {
	e := json.NewEncoder(c.out)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

func (c *cli) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version of this program",
		Args:  c.noArgs,
		RunE: func(*cobra.Command, []string) error {
			if c.json {
				return c.printJSON(map[string]string{"version": version.String()})
			}
			_, err := fmt.Fprintln(c.out, "vale-vmnet", version.String())
			return err
		},
	}
}
