package configs

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// file is the text of a configuration file and where in it the keys are, which
// viper does not keep.
type file struct {
	name  string // empty: there is none
	text  []byte
	lines map[string]int // by key: "log.level", "ports[0].mac"
}

// at names the place of a key for an error, or that of what it belongs to.
func (f *file) at(key string) string {
	for key != "" {
		if line := f.lines[key]; line > 0 {
			return f.name + ":" + strconv.Itoa(line)
		}
		key = key[:max(0, strings.LastIndexAny(key, ".["))]
	}
	return cmp.Or(f.name, "configuration")
}

// index finds the keys and refuses those that do not exist.
func (f *file) index() error {
	f.lines = make(map[string]int)
	var doc yaml.Node
	if err := yaml.Unmarshal(f.text, &doc); err != nil {
		return fmt.Errorf("%s: %w", f.name, err)
	}
	if len(doc.Content) == 0 {
		return nil
	}
	root := doc.Content[0]
	if root.Kind != yaml.MappingNode {
		return fmt.Errorf("%s:%d: this is no list of keys; write lines like \"workers: 2\"", f.name, root.Line)
	}
	return f.mapping(root, "")
}

// mapping indexes the keys of one mapping.
func (f *file) mapping(n *yaml.Node, prefix string) error {
	known := childNames(prefix)
	for i := 0; i+1 < len(n.Content); i += 2 {
		name, value := n.Content[i], n.Content[i+1]
		path := prefix + name.Value
		f.lines[path] = name.Line
		if !slices.Contains(known, name.Value) {
			return &Error{Where: f.at(path), Key: path, Reason: "is not a key" + suggest(name.Value, known)}
		}
		switch sub := childNames(path + "."); {
		case value.Kind == yaml.SequenceNode:
			if err := f.sequence(value, path); err != nil {
				return err
			}
		case value.Kind == yaml.MappingNode && sub != nil:
			if err := f.mapping(value, path+"."); err != nil {
				return err
			}
		case sub != nil && value.Tag != "!!null":
			return &Error{Where: f.at(path), Key: path, Value: strconv.Quote(value.Value), Reason: "is no value for a group of keys; it has " + strings.Join(sub, " and ")}
		}
	}
	return nil
}

// sequence indexes the mappings in a list.
func (f *file) sequence(n *yaml.Node, path string) error {
	for i, item := range n.Content {
		at := fmt.Sprintf("%s[%d]", path, i)
		f.lines[at] = item.Line
		if item.Kind != yaml.MappingNode {
			continue
		}
		for j := 0; j+1 < len(item.Content); j += 2 {
			name := item.Content[j]
			f.lines[at+"."+name.Value] = name.Line
			if known := itemKeys[path]; !slices.Contains(known, name.Value) {
				return &Error{Where: f.at(at + "." + name.Value), Key: at + "." + name.Value, Reason: "is not a key" + suggest(name.Value, known)}
			}
		}
	}
	return nil
}

// childNames lists the keys below a prefix ("" or "log.").
func childNames(prefix string) []string {
	var names []string
	for _, k := range keys {
		rest, ok := strings.CutPrefix(k.name, prefix)
		if !ok {
			continue
		}
		rest, _, _ = strings.Cut(rest, ".")
		if !slices.Contains(names, rest) {
			names = append(names, rest)
		}
	}
	return names
}

// suggest names the known word nearest to a wrong one, if one is near.
func suggest(word string, known []string) string {
	best, bestDist := "", len(word)/2+2
	for _, k := range known {
		if d := distance(word, k); d < bestDist {
			best, bestDist = k, d
		}
	}
	if best == "" {
		sorted := slices.Sorted(slices.Values(known))
		return "; known keys are " + strings.Join(sorted, ", ")
	}
	return "; did you mean " + best + "?"
}

// distance is the number of single-byte edits between two words.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			edit := diagonal
			if a[i] != b[j] {
				edit++
			}
			diagonal = row[j+1]
			row[j+1] = min(edit, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
