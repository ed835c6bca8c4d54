package main

import (
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/vale-vmnet/vale-vmnet/plugin/apiclient"
)

func (c *cli) fdbCommand() *cobra.Command {
	return c.group("fdb", "Show and change which MAC address is on which port", c.fdbShow(), c.fdbFlush(), c.fdbAdd(), c.fdbDel())
}

func (c *cli) fdbShow() *cobra.Command {
	return &cobra.Command{
		Use:               "show SWITCH",
		Short:             "List the stations that a switch knows",
		Example:           "vale-vmnet fdb show vale-1",
		Args:              nArgs("SWITCH"),
		ValidArgsFunction: c.completeSwitch,
		RunE: c.with(func(cmd *cobra.Command, a *apiclient.Client, args []string) error {
			list, err := a.FDB(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if c.json {
				return c.printJSON(list)
			}
			rows := [][]string{{"MAC", "PORT", "AGE"}}
			for _, e := range list.Entries {
				age := strconv.Itoa(e.Age) + " s"
				if e.Static {
					age = "static"
				}
				rows = append(rows, []string{e.MAC, e.Port, age})
			}
			return table(c.out, rows)
		}),
	}
}

func (c *cli) fdbFlush() *cobra.Command {
	return &cobra.Command{
		Use:               "flush SWITCH",
		Short:             "Forget the stations that a switch has learned",
		Example:           "vale-vmnet fdb flush vale-1",
		Args:              nArgs("SWITCH"),
		ValidArgsFunction: c.completeSwitch,
		RunE: c.with(func(cmd *cobra.Command, a *apiclient.Client, args []string) error {
			f, err := a.FlushFDB(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if c.json {
				return c.printJSON(f)
			}
			_, err = fmt.Fprintf(c.out, "%d forgotten\n", f.Entries)
			return err
		}),
	}
}

func (c *cli) fdbAdd() *cobra.Command {
	return &cobra.Command{
		Use:               "add SWITCH MAC PORT",
		Short:             "Pin a MAC address to a port, whoever else claims it",
		Example:           "vale-vmnet fdb add vale-1 52:54:00:00:00:01 vale-1:a",
		Args:              nArgs("SWITCH", "MAC", "PORT"),
		ValidArgsFunction: c.completeSwitch,
		RunE: c.with(func(cmd *cobra.Command, a *apiclient.Client, args []string) error {
			return a.AddStatic(cmd.Context(), args[0], args[1], args[2])
		}),
	}
}

func (c *cli) fdbDel() *cobra.Command {
	return &cobra.Command{
		Use:               "del SWITCH MAC",
		Short:             "Forget one station, pinned or learned",
		Example:           "vale-vmnet fdb del vale-1 52:54:00:00:00:01",
		Args:              nArgs("SWITCH", "MAC"),
		ValidArgsFunction: c.completeSwitch,
		RunE: c.with(func(cmd *cobra.Command, a *apiclient.Client, args []string) error {
			return a.RemoveFDB(cmd.Context(), args[0], args[1])
		}),
	}
}
