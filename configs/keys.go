package configs

import (
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"time"
)

// key is one key of the configuration and the meaning of its value.
type key struct {
	name string
	set  func(c *Config, v any) error
}

// env gives the environment variable that overrides the key.
func (k key) env() string {
	return EnvPrefix + strings.ToUpper(strings.ReplaceAll(k.name, ".", "_"))
}

// flag gives the name of the key's flag.
func (k key) flag() string {
	return strings.NewReplacer(".", "-", "_", "-").Replace(k.name)
}

// keys lists every key. A setter's error starts with the value at fault.
var keys = []key{
	{"run_dir", func(c *Config, v any) error { return setRunDir(&c.RunDir, v) }},
	{"log.level", func(c *Config, v any) error { return setLevel(&c.Log.Level, v) }},
	{"log.format", func(c *Config, v any) error { return setOneOf(&c.Log.Format, v, "text", "json") }},
	{"workers", func(c *Config, v any) error { return setInt(&c.Workers, v, 0, 1024) }},
	{"cpus", func(c *Config, v any) error { return setCPUs(&c.CPUs, v) }},
	{"busy_poll", func(c *Config, v any) error { return setDuration(&c.BusyPoll, v, 0, time.Second) }},
	{"max_switches", func(c *Config, v any) error { return setInt(&c.MaxSwitches, v, 1, 65536) }},
	{"max_ports", func(c *Config, v any) error { return setInt(&c.MaxPorts, v, 1, 65000) }},
	{"macs", func(c *Config, v any) error { return setInt(&c.MACs, v, 16, 1<<22) }},
	{"macs_per_port", func(c *Config, v any) error { return setInt(&c.MACsPerPort, v, 1, 1<<22) }},
	{"mac_age", func(c *Config, v any) error { return setDuration(&c.MACAge, v, time.Second, 24*time.Hour) }},
	{"mtu", func(c *Config, v any) error { return setMTU(&c.MTU, v) }},
	{"sockets.mode", func(c *Config, v any) error { return setMode(&c.Sockets.Mode, v) }},
	{"sockets.group", func(c *Config, v any) error { return setString(&c.Sockets.Group, v) }},
	{"api.mode", func(c *Config, v any) error { return setMode(&c.API.Mode, v) }},
	{"api.group", func(c *Config, v any) error { return setString(&c.API.Group, v) }},
	{"ports", setPorts},
	{"fdb", setFDB},
}

// itemKeys lists the keys of the items of each list.
var itemKeys = map[string][]string{
	"ports": {"name", "mac", "mtu", "mode", "socket", "persistent"},
	"fdb":   {"mac", "port"},
}

func envNames() []string {
	names := []string{EnvFile}
	for _, k := range keys {
		names = append(names, k.env())
	}
	return names
}

// check looks at what single keys cannot know.
func (c *Config) check(f *file) error {
	if c.MACsPerPort > c.MACs {
		return &Error{Where: f.at("macs_per_port"), Key: "macs_per_port", Value: fmt.Sprint(c.MACsPerPort),
			Reason: fmt.Sprintf("is more than the whole table has (macs: %d)", c.MACs)}
	}
	seen := make(map[string]int)
	for i, p := range c.Ports {
		at := fmt.Sprintf("ports[%d]", i)
		if j, twice := seen[p.Name.String()]; twice {
			return &Error{Where: f.at(at), Key: at, Value: p.Name.String(), Reason: fmt.Sprintf("is declared twice; ports[%d] is the same port", j)}
		}
		seen[p.Name.String()] = i
	}
	return c.checkStatic(f)
}

// checkStatic refuses an address that is pinned to two ports of a switch.
func (c *Config) checkStatic(f *file) error {
	type station struct{ sw, mac string }
	where := make(map[station]string)
	claim := func(sw, port, mac, at string) error {
		s := station{sw, mac}
		if other, ok := where[s]; ok && other != port {
			return &Error{Where: f.at(at), Key: at, Value: mac, Reason: "is pinned to " + other + " already"}
		}
		where[s] = port
		return nil
	}
	for i, p := range c.Ports {
		if p.MAC == nil {
			continue
		}
		if err := claim(p.Name.Switch, p.Name.String(), p.MAC.String(), fmt.Sprintf("ports[%d].mac", i)); err != nil {
			return err
		}
	}
	for i, e := range c.FDB {
		if err := claim(e.Port.Switch, e.Port.String(), e.MAC.String(), fmt.Sprintf("fdb[%d].mac", i)); err != nil {
			return err
		}
	}
	return nil
}

func setRunDir(dst *string, v any) error {
	var s string
	if err := setString(&s, v); err != nil {
		return err
	}
	if !filepath.IsAbs(s) {
		abs, err := filepath.Abs(s)
		if err != nil || s == "" {
			return bad(v, "is no directory; write an absolute path")
		}
		s = abs
	}
	*dst = filepath.Clean(s)
	return nil
}

func setLevel(dst *slog.Level, v any) error {
	var s string
	if err := setOneOf(&s, v, "debug", "info", "warn", "error"); err != nil {
		return err
	}
	return dst.UnmarshalText([]byte(s))
}
