// Package repo holds the tests of the repository's own rules: who may import
// whom, and where unsafe may stand.
package repo

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/vale-vmnet/vale-vmnet/"

// rules say for the packages below a directory which of our directories they
// may import besides their own. The first rule that matches counts.
var rules = []struct {
	dir     string
	imports []string
}{
	{"vale", nil},
	{"hypervisor", nil},
	{"configs", []string{"vale"}}, // port names
	{"plugin", []string{"vale", "hypervisor", "configs"}},
	{"cmd", []string{"plugin", "configs"}},
	// Benchmarks, guests and end-to-end tests drive everything from outside.
	{"deploy", []string{"vale", "hypervisor", "plugin", "configs"}},
}

// pureAPI are packages that clients import: wire types and a client, without
// the agent behind them.
var pureAPI = map[string][]string{
	"plugin/api":       nil,
	"plugin/apiclient": {"plugin/api"},
}

type source struct {
	file    string // slash-separated, relative to the repository
	imports []string
}

func sources(t *testing.T) (all []source) {
	t.Helper()
	err := filepath.WalkDir(".", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && p != "." && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata") {
			return filepath.SkipDir
		}
		if d.IsDir() || filepath.Ext(p) != ".go" {
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), p, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		s := source{file: filepath.ToSlash(p)}
		for _, i := range f.Imports {
			name, err := strconv.Unquote(i.Path.Value)
			if err != nil {
				return err
			}
			s.imports = append(s.imports, name)
		}
		all = append(all, s)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 20 {
		t.Fatalf("found only %d Go files; the test runs in the wrong directory", len(all))
	}
	return all
}

func under(p, dir string) bool { return p == dir || strings.HasPrefix(p, dir+"/") }

func TestImportMap(t *testing.T) {
	for _, s := range sources(t) {
		dir := path.Dir(s.file)
		for _, imp := range s.imports {
			target, ours := strings.CutPrefix(imp, module)
			if !ours {
				continue
			}
			if allowed, ok := pureAPI[dir]; ok && !strings.HasSuffix(s.file, "_test.go") {
				if !contains(allowed, target) {
					t.Errorf("%s imports %s: %s may import %v of ours", s.file, target, dir, allowed)
				}
				continue
			}
			for _, r := range rules {
				if !under(dir, r.dir) {
					continue
				}
				if !under(target, r.dir) && !contains(r.imports, target) {
					t.Errorf("%s imports %s: packages below %s/ may import only %v of ours", s.file, target, r.dir, append([]string{r.dir}, r.imports...))
				}
				break
			}
		}
	}
}

func contains(dirs []string, target string) bool {
	for _, d := range dirs {
		if under(target, d) {
			return true
		}
	}
	return false
}

func TestUnsafeOnlyInItsFiles(t *testing.T) {
	for _, s := range sources(t) {
		if strings.HasSuffix(s.file, "_unsafe.go") || strings.HasSuffix(s.file, "_unsafe_test.go") {
			continue
		}
		for _, imp := range s.imports {
			if imp == "unsafe" {
				t.Errorf("%s imports unsafe: only files named *_unsafe.go may", s.file)
			}
		}
	}
}
