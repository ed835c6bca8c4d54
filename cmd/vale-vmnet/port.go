package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/vale-vmnet/vale-vmnet/plugin/api"
	"github.com/vale-vmnet/vale-vmnet/plugin/apiclient"
)

func (c *cli) portCommand() *cobra.Command {
	return c.group("port", "Make, show, change and delete ports", c.portAdd(), c.portDel(), c.portShow(), c.portSet())
}

func (c *cli) portAdd() *cobra.Command {
	var (
		mtu          int
		mac, connect string
		ephemeral    bool
	)
	cmd := &cobra.Command{
		Use:   "add PORT",
		Short: "Make a port that stays until it is deleted",
		Long: `Make a port, and its switch if need be, and print its sockets. The port stays
until it is deleted, also over restarts of the agent. Asking for a port that is
there changes nothing but what is named.`,
		Example:           "vale-vmnet port add vale-1:a",
		Args:              nArgs("PORT"),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: c.with(func(cmd *cobra.Command, a *apiclient.Client, args []string) error {
			var spec api.PortSpec
			persistent := !ephemeral
			spec.Persistent = &persistent
			changed := cmd.Flags().Changed
			if changed("mtu") {
				spec.MTU = &mtu
			}
			if changed("mac") {
				spec.MAC = &mac
			}
			if changed("connect") {
				mode := api.ModeClient
				spec.Mode, spec.Socket = &mode, &connect
			}
			p, _, err := a.PutPort(cmd.Context(), args[0], spec)
			if err != nil {
				return err
			}
			if c.json {
				return c.printJSON(p)
			}
			return table(c.out, [][]string{{"port", p.Name}, {"vhost-user", p.Sockets.VhostUser}, {"stream", p.Sockets.Stream}})
		}),
	}
	f := cmd.Flags()
	f.IntVar(&mtu, "mtu", 0, "largest IP packet, 68 to 65535; 0: no limit (default: the agent's)")
	f.StringVar(&mac, "mac", "", "pin this address to the port")
	f.StringVar(&connect, "connect", "", "connect to this vhost-user socket, where QEMU listens, instead of listening")
	f.BoolVar(&ephemeral, "ephemeral", false, "delete the port when nobody uses it any more")
	return cmd
}

func (c *cli) portDel() *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:               "del PORT",
		Short:             "Delete a port",
		Example:           "vale-vmnet port del vale-1:a",
		Args:              nArgs("PORT"),
		ValidArgsFunction: c.completePort,
		RunE: c.with(func(cmd *cobra.Command, a *apiclient.Client, args []string) error {
			return a.DeletePort(cmd.Context(), args[0], force)
		}),
	}
	cmd.Flags().BoolVar(&force, "force", false, "also when a guest uses it; the guest loses its link")
	return cmd
}

func (c *cli) portSet() *cobra.Command {
	var (
		up, down bool
		mtu      int
	)
	cmd := &cobra.Command{
		Use:               "set PORT {--up | --down | --mtu N}",
		Short:             "Bring a port up or down, or change its MTU",
		Example:           "vale-vmnet port set vale-1:a --down",
		Args:              nArgs("PORT"),
		ValidArgsFunction: c.completePort,
		RunE: c.with(func(cmd *cobra.Command, a *apiclient.Client, args []string) error {
			var spec api.PortSpec
			changed := cmd.Flags().Changed
			switch {
			case up && down:
				return usage("port set takes --up or --down, not both")
			case up || down:
				spec.Up = &up
			case !changed("mtu"):
				return usage("port set needs --up, --down or --mtu; for example: %s", cmd.Example)
			}
			if changed("mtu") {
				spec.MTU = &mtu
			}
			p, err := a.PatchPort(cmd.Context(), args[0], spec)
			if err != nil {
				return err
			}
			if c.json {
				return c.printJSON(p)
			}
			return nil
		}),
	}
	f := cmd.Flags()
	f.BoolVar(&up, "up", false, "bring the port up")
	f.BoolVar(&down, "down", false, "bring the port down: it neither sends nor receives")
	f.IntVar(&mtu, "mtu", 0, "largest IP packet, 68 to 65535; 0: no limit")
	return cmd
}

func (c *cli) portShow() *cobra.Command {
	return &cobra.Command{
		Use:               "show PORT",
		Short:             "Show all about a port",
		Example:           "vale-vmnet port show vale-1:a",
		Args:              nArgs("PORT"),
		ValidArgsFunction: c.completePort,
		RunE: c.with(func(cmd *cobra.Command, a *apiclient.Client, args []string) error {
			p, err := a.Port(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if c.json {
				return c.printJSON(p)
			}
			return printPort(c.out, p)
		}),
	}
}

func printPort(w io.Writer, p api.Port) error {
	mtu, kept := "no limit", "while it is used"
	if p.MTU != 0 {
		mtu = strconv.Itoa(p.MTU)
	}
	switch {
	case p.Origin == api.OriginConfig:
		kept = "always (configuration)"
	case p.Persistent:
		kept = "until deleted"
	}
	macs := strings.Join(p.MACs, " ")
	if more := p.MACCount - len(p.MACs); more > 0 {
		macs += fmt.Sprintf(" and %d more (vale-vmnet fdb show %s)", more, p.Switch)
	}
	rows := [][]string{
		{"port", p.Name},
		{"stays", kept},
		{"VM", owner(p)},
		{"MACs", macs},
		{"MTU", mtu},
		{"vhost-user", p.Sockets.VhostUser + " (" + p.Sockets.Mode + ")"},
		{"stream", p.Sockets.Stream},
		{"link", strings.TrimSpace(p.Link.Kind + " " + p.Link.State + " since " + p.Link.Since.Local().Format(time.DateTime))},
		{"peer", p.Link.Peer},
	}
	if p.Link.Queues > 0 {
		rows = append(rows, []string{"queue pairs", strconv.Itoa(p.Link.Queues)})
	}
	if len(p.Link.Features) > 0 {
		rows = append(rows, []string{"features", strings.Join(p.Link.Features, " ")})
	}
	for _, name := range slices.Sorted(maps.Keys(p.Link.Details)) {
		rows = append(rows, []string{name, p.Link.Details[name]})
	}
	rows = append(rows,
		[]string{"RX (from the guest)", traffic(p.Counters.In.Frames, p.Counters.In.Bytes, p.Rates.Last1s.InFrames, p.Rates.Last10s.InFrames)},
		[]string{"RX drops", drops(p.Counters.In.Dropped, p.Counters.In.Drops)},
		[]string{"TX (to the guest)", traffic(p.Counters.Out.Frames, p.Counters.Out.Bytes, p.Rates.Last1s.OutFrames, p.Rates.Last10s.OutFrames)},
		[]string{"TX drops", drops(p.Counters.Out.Dropped, p.Counters.Out.Drops)},
	)
	return table(w, rows)
}

func traffic(frames, bytes uint64, now, tens float64) string {
	return fmt.Sprintf("%d frames, %d bytes; %s/s now, %s/s over 10 s", frames, bytes, rate(now), rate(tens))
}

func drops(total uint64, byReason map[string]uint64) string {
	var why []string
	for _, reason := range slices.Sorted(maps.Keys(byReason)) {
		why = append(why, fmt.Sprintf("%s %d", reason, byReason[reason]))
	}
	if len(why) == 0 {
		return strconv.FormatUint(total, 10)
	}
	return fmt.Sprintf("%d: %s", total, strings.Join(why, ", "))
}
