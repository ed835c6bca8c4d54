package configs

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
)

// setPorts reads the declared ports: names, or mappings. As text it is a list
// of names, "vale-1:a,vale-1:b", which replaces the file's.
func setPorts(c *Config, v any) error {
	var items []any
	switch list := v.(type) {
	case []any:
		items = list
	case string:
		for name := range strings.SplitSeq(list, ",") {
			items = append(items, strings.TrimSpace(name))
		}
	default:
		return bad(v, "is no list of ports")
	}
	ports := make([]Port, len(items))
	for i, item := range items {
		ports[i] = Port{MTU: c.MTU, Mode: ModeServer, Persistent: true}
		if err := setPort(&ports[i], item); err != nil {
			return inItem(err, i)
		}
	}
	c.Ports = ports
	return nil
}

func setPort(p *Port, v any) error {
	fields, ok := v.(map[string]any)
	if !ok {
		return setName(&p.Name, v)
	}
	err := setFields(fields, map[string]func(any) error{
		"name": func(v any) error { return setName(&p.Name, v) },
		"mac":  func(v any) error { return setMAC(&p.MAC, v) },
		"mtu":  func(v any) error { return setMTU(&p.MTU, v) },
		"mode": func(v any) error {
			var s string
			if err := setOneOf(&s, v, string(ModeServer), string(ModeClient)); err != nil {
				return err
			}
			p.Mode = Mode(s)
			return nil
		},
		"socket":     func(v any) error { return setString(&p.Socket, v) },
		"persistent": func(v any) error { return setBool(&p.Persistent, v) },
	})
	switch {
	case err != nil:
		return err
	case p.Name.Port == "":
		return &Error{Reason: "has no name; add one like \"name: vale-1:a\""}
	case p.Mode == ModeClient && !filepath.IsAbs(p.Socket):
		return &Error{Key: ".socket", Reason: "must be the absolute path of QEMU's socket, because mode is client"}
	case p.Mode == ModeServer && p.Socket != "":
		return &Error{Key: ".socket", Value: p.Socket, Reason: "is only for mode client; with mode server we listen on <run_dir>/" + p.Name.String() + ".sock"}
	}
	return nil
}

func setFDB(c *Config, v any) error {
	list, ok := v.([]any)
	if !ok {
		return bad(v, "is no list of entries; write them in the configuration file")
	}
	entries := make([]StaticEntry, len(list))
	for i, item := range list {
		e := &entries[i]
		fields, ok := item.(map[string]any)
		if !ok {
			return inItem(bad(item, "is no entry; it has mac and port"), i)
		}
		err := setFields(fields, map[string]func(any) error{
			"mac":  func(v any) error { return setMAC(&e.MAC, v) },
			"port": func(v any) error { return setName(&e.Port, v) },
		})
		if err == nil && (e.MAC == nil || e.Port.Port == "") {
			err = &Error{Reason: "needs both mac and port"}
		}
		if err != nil {
			return inItem(err, i)
		}
	}
	c.FDB = entries
	return nil
}

// setFields hands the values of a mapping to their setters, in fixed order.
func setFields(fields map[string]any, set map[string]func(any) error) error {
	for _, name := range sortedKeys(fields) {
		f := set[name]
		if f == nil {
			known := slices.Clone(sortedKeys(set))
			return &Error{Key: "." + name, Reason: "is not a key" + suggest(name, known)}
		}
		if fields[name] == nil {
			continue
		}
		if err := f(fields[name]); err != nil {
			var e *Error
			if errors.As(err, &e) {
				e.Key = "." + name + e.Key
			}
			return err
		}
	}
	return nil
}

// inItem adds an item's number to the key of an error.
func inItem(err error, i int) error {
	var e *Error
	if errors.As(err, &e) {
		e.Key = fmt.Sprintf("[%d]%s", i, e.Key)
	}
	return err
}
