package main

import (
	"io"
	"log/slog"
	"os"

	"github.com/spf13/cobra"

	"github.com/vale-vmnet/vale-vmnet/configs"
	"github.com/vale-vmnet/vale-vmnet/plugin/agent"
)

func (c *cli) agentCommand() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "agent",
		Short: "Run the switches",
		Long: `Run the switches until SIGTERM or SIGINT.

Configuration: flags, then VALE_VMNET_* in the environment, then the file. The
file in the source tree, configs/vale-vmnet.yaml, explains every key.`,
		Args: c.noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := configs.Load(configs.Source{File: file, Environ: os.Environ(), Flags: cmd.Flags()})
			if err != nil {
				return err
			}
			a, err := agent.New(cfg, newLog(cfg.Log, c.err))
			if err != nil {
				return err
			}
			return a.Run(cmd.Context())
		},
	}
	d := configs.Default()
	f := cmd.Flags()
	f.StringVar(&file, "config", "", "configuration file (environment: "+configs.EnvFile+"; default "+configs.DefaultFile+" if it exists)")
	f.String("log-level", "info", "debug, info, warn or error")
	f.String("log-format", d.Log.Format, "text or json")
	f.String("workers", "0", "forwarding threads; 0: one for every two CPUs")
	f.String("cpus", "", "CPUs to pin them to, like 2,3 or 4-7")
	f.String("busy-poll", d.BusyPoll.String(), "how long a thread looks for frames before it sleeps")
	f.String("ports", "", "ports that exist from the start, like vale-1:a,vale-1:b")
	return cmd
}

func newLog(cfg configs.Log, w io.Writer) *slog.Logger {
	o := &slog.HandlerOptions{Level: cfg.Level}
	if cfg.Format == "json" {
		return slog.New(slog.NewJSONHandler(w, o))
	}
	return slog.New(slog.NewTextHandler(w, o))
}
