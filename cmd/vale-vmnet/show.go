package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/vale-vmnet/vale-vmnet/plugin/api"
	"github.com/vale-vmnet/vale-vmnet/plugin/apiclient"
)

func (c *cli) lsCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "ls",
		Short: "List switches, ports and who is there",
		Long: `List switches, ports and who is there.

RX is what a guest sent into the switch, TX what the switch delivered to it, in
frames a second over the last second. DROPS are copies of frames that were
dropped since the port came up; "port show" has the reasons.`,
		Args: c.noArgs,
		RunE: c.with(func(cmd *cobra.Command, a *apiclient.Client, _ []string) error {
			list, err := a.Switches(cmd.Context())
			if err != nil {
				return err
			}
			if c.json {
				return c.printJSON(list)
			}
			return printPorts(c.out, list)
		}),
	}
}

func (c *cli) vmCommand() *cobra.Command {
	ls := &cobra.Command{
		Use:   "ls",
		Short: "List the VMs that have registered",
		Args:  c.noArgs,
		RunE: c.with(func(cmd *cobra.Command, a *apiclient.Client, _ []string) error {
			list, err := a.VMs(cmd.Context())
			if err != nil {
				return err
			}
			if c.json {
				return c.printJSON(list)
			}
			return printVMs(c.out, list)
		}),
	}
	return c.group("vm", "Virtual machines", ls)
}

func (c *cli) statusCommand() *cobra.Command {
	var wait time.Duration
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Tell how the agent does",
		Args:  c.noArgs,
		RunE: c.with(func(cmd *cobra.Command, a *apiclient.Client, _ []string) error {
			s, err := a.WaitStatus(cmd.Context(), wait)
			if err != nil {
				return err
			}
			if c.json {
				return c.printJSON(s)
			}
			return printStatus(c.out, s)
		}),
	}
	cmd.Flags().DurationVar(&wait, "wait", 0, "wait so long for an agent that does not answer yet")
	return cmd
}

// table writes aligned columns; empty cells become a dash.
func table(w io.Writer, rows [][]string) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		for i, cell := range row {
			if cell == "" {
				row[i] = "-"
			}
			row[i] = printable(row[i])
		}
		fmt.Fprintln(t, strings.Join(row, "\t"))
	}
	return t.Flush()
}

// printable keeps what guests and users chose from moving the cursor.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if strconv.IsPrint(r) {
			return r
		}
		return '?'
	}, s)
}

func printPorts(w io.Writer, list api.SwitchList) error {
	rows := [][]string{{"SWITCH", "PORT", "VM", "MAC", "LINK", "STATE", "RX/s", "TX/s", "RX bit/s", "TX bit/s", "DROPS"}}
	for _, sw := range list.Switches {
		for _, p := range sw.Ports {
			r := p.Rates.Last1s
			rows = append(rows, []string{
				p.Switch, p.Name, owner(p), addresses(p), p.Link.Kind, p.Link.State,
				rate(r.InFrames), rate(r.OutFrames), rate(r.InBits), rate(r.OutBits),
				strconv.FormatUint(p.Counters.In.Dropped+p.Counters.Out.Dropped, 10),
			})
		}
	}
	return table(w, rows)
}

// owner names the VM on a port, or the process when no VM registered.
func owner(p api.Port) string {
	if p.VM == "" && p.Link.PID != 0 {
		return fmt.Sprintf("(process %d)", p.Link.PID)
	}
	return p.VM
}

// addresses gives the first address and how many more there are.
func addresses(p api.Port) string {
	switch {
	case len(p.MACs) == 0:
		return ""
	case p.MACCount > 1:
		return fmt.Sprintf("%s +%d", p.MACs[0], p.MACCount-1)
	}
	return p.MACs[0]
}

// rate writes a figure with three digits and a unit.
func rate(v float64) string {
	for _, u := range []struct {
		scale float64
		name  string
	}{{1e9, "G"}, {1e6, "M"}, {1e3, "k"}} {
		if v >= u.scale {
			return strconv.FormatFloat(v/u.scale, 'g', 3, 64) + u.name
		}
	}
	return strconv.FormatFloat(v, 'f', 0, 64)
}

func printVMs(w io.Writer, list api.VMList) error {
	rows := [][]string{{"VM", "UUID", "PID", "PORT", "MAC", "MODEL", "LINK"}}
	for _, vm := range list.VMs {
		first := []string{vm.Name, vm.UUID, strconv.Itoa(vm.PID)}
		if len(vm.NICs) == 0 {
			rows = append(rows, append(first, "", "", "", ""))
		}
		for _, nic := range vm.NICs {
			rows = append(rows, append(first[:3:3], nic.Port, nic.MAC, nic.Model, nic.Link))
		}
	}
	return table(w, rows)
}

func printStatus(w io.Writer, s api.Status) error {
	cpus := strings.Trim(fmt.Sprint(s.CPUs), "[]")
	if cpus == "" {
		cpus = "any"
	}
	config := s.ConfigFile
	if config == "" {
		config = "built-in defaults"
	}
	return table(w, [][]string{
		{"version", s.Version},
		{"process", strconv.Itoa(s.PID)},
		{"up", (time.Duration(s.Uptime) * time.Second).String()},
		{"run dir", s.RunDir},
		{"configuration", config},
		{"workers", fmt.Sprintf("%d on CPUs: %s", s.Workers, cpus)},
		{"switches", strconv.Itoa(s.Switches)},
		{"ports", strconv.Itoa(s.Ports)},
		{"VMs", strconv.Itoa(s.VMs)},
	})
}
