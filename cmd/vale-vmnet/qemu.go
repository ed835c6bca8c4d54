package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/vale-vmnet/vale-vmnet/plugin/launch"
)

// launchTimeout bounds everything before QEMU starts.
const launchTimeout = 30 * time.Second

func (c *cli) qemuCommand() *cobra.Command {
	var (
		o         launch.Options
		printOnly bool
	)
	cmd := &cobra.Command{
		Use:   "qemu [flags] -- QEMU ARGS...",
		Short: "Start a QEMU on ports of a switch",
		Long: `Start a QEMU whose command line names ports in one of netmap's classic forms:

  -net nic[,model=..,macaddr=..] -net netmap,ifname=vale-1:a
  -netdev netmap,id=n0,ifname=vale-1:a -device virtio-net-pci,netdev=n0

The QEMU need not know netmap: virtio NICs are plugged in by vhost-user, others
by a stream socket. A NIC without a model becomes virtio, unless --keep-nic.
This process becomes QEMU; signals and exit status are QEMU's.`,
		Example: "vale-vmnet qemu -- qemu-system-x86_64 -m 1G -net nic -net netmap,ifname=vale-1:a disk.img",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usage("qemu needs QEMU's command line behind --; for example: %s", cmd.Example)
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			dir, err := c.dir()
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), launchTimeout)
			defer cancel()
			o.Args, o.Dir, o.Notices = args, dir, c.err
			plan, err := launch.New(ctx, o)
			if err != nil {
				return err
			}
			if printOnly {
				if c.json {
					return c.printJSON(plan.Args)
				}
				_, err := fmt.Fprintln(c.out, plan)
				return err
			}
			client, err := c.client()
			if err != nil {
				return err
			}
			if err := plan.Register(ctx, client); err != nil {
				return err
			}
			client.Close()
			return plan.Exec()
		},
	}
	f := cmd.Flags()
	f.SetInterspersed(false)
	f.BoolVar(&printOnly, "print", false, "print the command line instead of running it")
	f.BoolVar(&o.KeepNIC, "keep-nic", false, "leave a NIC without a model to QEMU's default (often e1000) instead of virtio")
	f.StringVar(&o.Name, "name", "", "name of the VM in listings (default: QEMU's -name)")
	return cmd
}
