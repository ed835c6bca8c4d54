package qemu

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
)

// props is the value of an option: a list of properties, written either
// "type,key=value,..." (a comma in a value is doubled) or as a JSON object.
// Properties that are not set here keep their bytes.
type props struct {
	json  bool
	items []prop
}

// prop is one property. raw is its text: "key=value", or the JSON value.
type prop struct {
	key, val, raw string
}

// parseProps reads the value of an option. implied is the key of a first
// property that has no "=", such as "driver" for -device. mayJSON is for
// options that QEMU reads as JSON if they begin with a brace.
func parseProps(value, implied string, mayJSON bool) (*props, error) {
	if mayJSON && strings.HasPrefix(value, "{") {
		return parseJSONProps(value)
	}
	p := &props{}
	for i, raw := range splitCommas(value) {
		key, val, ok := strings.Cut(raw, "=")
		switch {
		case !ok && i == 0 && implied != "":
			key, val = implied, raw
		case !ok && strings.HasPrefix(key, "no") && booleanProps[key[2:]]:
			key, val = key[2:], "off"
		case !ok:
			val = "on"
		}
		p.items = append(p.items, prop{key: key, val: strings.ReplaceAll(val, ",,", ","), raw: raw})
	}
	return p, nil
}

// isImplied reports whether the property is written without its key.
func (it prop) isImplied() bool { return !strings.Contains(it.raw, "=") }

// booleanProps are those for which QEMU's old short form "nokey" matters here.
var booleanProps = wordSet("share prealloc mq")

// splitCommas splits at single commas; a doubled comma stands for itself.
func splitCommas(s string) []string {
	if s == "" {
		return nil
	}
	var parts []string
	start := 0
	for i := 0; i < len(s); i++ {
		if s[i] != ',' {
			continue
		}
		if i+1 < len(s) && s[i+1] == ',' {
			i++
			continue
		}
		parts = append(parts, s[start:i])
		start = i + 1
	}
	return append(parts, s[start:])
}

func parseJSONProps(value string) (*props, error) {
	dec := json.NewDecoder(strings.NewReader(value))
	if _, err := dec.Token(); err != nil {
		return nil, err
	}
	p := &props{json: true}
	for dec.More() {
		tok, err := dec.Token()
		if err != nil {
			return nil, err
		}
		key, ok := tok.(string)
		if !ok {
			return nil, errors.New("a JSON object has a key that is no string")
		}
		var raw json.RawMessage
		if err := dec.Decode(&raw); err != nil {
			return nil, err
		}
		p.items = append(p.items, prop{key: key, val: jsonScalar(raw), raw: string(raw)})
	}
	if _, err := dec.Token(); err != nil {
		return nil, err
	}
	if dec.More() {
		return nil, errors.New("text follows the JSON object")
	}
	return p, nil
}

// jsonScalar gives a JSON value in the spelling of the other form.
func jsonScalar(raw json.RawMessage) string {
	var s string
	switch {
	case json.Unmarshal(raw, &s) == nil:
		return s
	case string(raw) == "true":
		return "on"
	case string(raw) == "false":
		return "off"
	}
	return string(raw)
}

// get gives the value of a property; the last one counts, as in QEMU.
func (p *props) get(key string) string {
	val, _ := p.lookup(key)
	return val
}

func (p *props) has(key string) bool {
	_, ok := p.lookup(key)
	return ok
}

func (p *props) lookup(key string) (string, bool) {
	for i := len(p.items) - 1; i >= 0; i-- {
		if p.items[i].key == key {
			return p.items[i].val, true
		}
	}
	return "", false
}

// set gives a property a value: in its place if it is there, else at the end.
func (p *props) set(key, val string) {
	text, _ := json.Marshal(val)
	p.put(key, val, string(text))
}

// setBool is set for a property that is a JSON boolean.
func (p *props) setBool(key string, on bool) {
	if on {
		p.put(key, "on", "true")
	} else {
		p.put(key, "off", "false")
	}
}

// setNumber is set for a property that is a JSON number.
func (p *props) setNumber(key, val string) { p.put(key, val, val) }

func (p *props) put(key, val, jsonText string) {
	item := prop{key: key, val: val, raw: jsonText}
	if !p.json {
		item.raw = key + "=" + strings.ReplaceAll(val, ",", ",,")
	}
	done := false
	for i := len(p.items) - 1; i >= 0; i-- {
		switch {
		case p.items[i].key != key:
		case done:
			p.items = append(p.items[:i], p.items[i+1:]...)
		default:
			if i == 0 && !p.json && p.items[0].isImplied() {
				item.raw = strings.TrimPrefix(item.raw, key+"=")
			}
			p.items[i], done = item, true
		}
	}
	if !done {
		// QEMU ignores a comma at the end; one more would be an escape.
		for len(p.items) > 0 && p.items[len(p.items)-1].raw == "" {
			p.items = p.items[:len(p.items)-1]
		}
		p.items = append(p.items, item)
	}
}

// del removes a property.
func (p *props) del(key string) {
	kept := p.items[:0]
	for _, it := range p.items {
		if it.key != key {
			kept = append(kept, it)
		}
	}
	p.items = kept
}

// add appends a property in the comma form and returns p, to build values.
func (p *props) add(key, val string) *props {
	p.set(key, val)
	return p
}

// newProps begins a value in the comma form with its implied property.
func newProps(kind string) *props {
	return &props{items: []prop{{val: kind, raw: kind}}}
}

// String gives the value as QEMU reads it.
func (p *props) String() string {
	var b bytes.Buffer
	if p.json {
		b.WriteByte('{')
	}
	for i, it := range p.items {
		if i > 0 {
			b.WriteByte(',')
		}
		if p.json {
			key, _ := json.Marshal(it.key)
			b.Write(key)
			b.WriteByte(':')
		}
		b.WriteString(it.raw)
	}
	if p.json {
		b.WriteByte('}')
	}
	return b.String()
}
