package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/vale-vmnet/vale-vmnet/plugin/api"
)

// completeTimeout keeps a shell's Tab key responsive.
const completeTimeout = time.Second

// completePort offers the names of the agent's ports as the first argument.
func (c *cli) completePort(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return c.complete(cmd, func(sw api.Switch) (names []string) {
		for _, p := range sw.Ports {
			names = append(names, p.Name)
		}
		return names
	})
}

// completeSwitch offers the names of the agent's switches as the first
// argument.
func (c *cli) completeSwitch(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return c.complete(cmd, func(sw api.Switch) []string { return []string{sw.Name} })
}

func (c *cli) complete(cmd *cobra.Command, names func(api.Switch) []string) ([]string, cobra.ShellCompDirective) {
	client, err := c.client()
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(cmd.Context(), completeTimeout)
	defer cancel()
	list, err := client.Switches(ctx)
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	var all []string
	for _, sw := range list.Switches {
		all = append(all, names(sw)...)
	}
	return all, cobra.ShellCompDirectiveNoFileComp
}
