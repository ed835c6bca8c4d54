package qemu

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
)

var update = flag.Bool("update", false, "write the results into testdata/rewrite")

// debianBackends are those of Debian 12's QEMU 7.2.
const debianBackends = "socket stream dgram hubport tap user l2tpv3 vde bridge vhost-user vhost-vdpa"

var errName = errors.New("not a port name")

var testPortName = regexp.MustCompile(`^vale-?([A-Za-z0-9_]{1,15}):([A-Za-z0-9_.-]{1,15})$`)

// testResolve stands for the switch's own name rules, which tests of the
// plugin hold.
func testResolve(ifname string) (Endpoint, error) {
	m := testPortName.FindStringSubmatch(ifname)
	if m == nil {
		return Endpoint{}, fmt.Errorf("parse port name %q: %w", ifname, errName)
	}
	port := "vale-" + m[1] + ":" + m[2]
	return Endpoint{
		Port:      port,
		Netmap:    "vale" + m[1] + ":" + m[2],
		VhostUser: "/run/vale-vmnet/" + port + ".sock",
		Stream:    "/run/vale-vmnet/" + port + ".stream",
	}, nil
}

func testEnv() Env {
	return Env{Version: Version{7, 2, 22}, Backends: backendSet(debianBackends), Resolve: testResolve}
}

func backendSet(words string) Backends { return Backends(wordSet(words)) }

// sentinels are the names of error kinds in the test cases.
var sentinels = map[string]error{
	"ErrSyntax": ErrSyntax, "ErrBadPort": ErrBadPort, "ErrPortTwice": ErrPortTwice, "ErrQueues": ErrQueues,
	"ErrNoBackend": ErrNoBackend, "ErrNotShared": ErrNotShared, "ErrLoop": ErrLoop, "ErrUnsupported": ErrUnsupported,
}

// TestRewrite runs the cases of testdata/rewrite, which read as documentation:
// what the user writes (in), on which machine (env), and what comes out.
func TestRewrite(t *testing.T) {
	for _, file := range caseFiles(t) {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			ar, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			in := splitWords(t, section(ar, "in"))
			before := slices.Clone(in)
			res, err := Rewrite(in, parseEnv(t, section(ar, "env")))
			if !slices.Equal(in, before) {
				t.Errorf("the given command line was changed to %q", in)
			}
			got := &txtar.Archive{Comment: ar.Comment}
			for _, name := range []string{"env", "in"} {
				if text := section(ar, name); text != "" {
					got.Files = append(got.Files, txtar.File{Name: name, Data: []byte(text)})
				}
			}
			got.Files = append(got.Files, describe(res, err)...)
			if *update {
				if err := os.WriteFile(file, txtar.Format(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if a, b := string(txtar.Format(got)), string(txtar.Format(ar)); a != b {
				t.Errorf("got\n%s\nwant\n%s", a, b)
			}
		})
	}
}

func caseFiles(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("testdata/rewrite/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no test cases in testdata/rewrite (%v)", err)
	}
	return files
}

func section(ar *txtar.Archive, name string) string {
	for _, f := range ar.Files {
		if f.Name == name {
			return string(f.Data)
		}
	}
	return ""
}

// parseEnv reads the env section: one setting per line.
func parseEnv(t *testing.T, text string) Env {
	t.Helper()
	env := testEnv()
	for line := range strings.Lines(text) {
		key, val, _ := strings.Cut(strings.TrimSpace(line), "=")
		switch key {
		case "qemu":
			v, err := ParseVersion("QEMU emulator version " + val)
			if err != nil {
				t.Fatal(err)
			}
			env.Version = v
		case "backends":
			env.Backends = backendSet(val)
		case "netmap-served":
			env.NetmapServed = true
		case "kvm":
			env.KVMUsable = true
		case "keep-nic":
			env.KeepNIC = true
		default:
			t.Fatalf("unknown setting %q", key)
		}
	}
	return env
}

// splitWords splits like a shell, with single quotes.
func splitWords(t *testing.T, text string) []string {
	t.Helper()
	var words []string
	for rest := strings.TrimSpace(text); rest != ""; rest = strings.TrimLeft(rest, " \n") {
		word := ""
		for rest != "" && rest[0] != ' ' && rest[0] != '\n' {
			if rest[0] != '\'' {
				word, rest = word+rest[:1], rest[1:]
				continue
			}
			quoted, after, ok := strings.Cut(rest[1:], "'")
			if !ok {
				t.Fatal("a quote is not closed")
			}
			word, rest = word+quoted, after
		}
		words = append(words, word)
	}
	return words
}

// joinWords is the inverse of splitWords, with one option a line.
func joinWords(words []string) string {
	var b strings.Builder
	for i, w := range words {
		if i > 0 && strings.HasPrefix(w, "-") {
			b.WriteByte('\n')
		} else if i > 0 {
			b.WriteByte(' ')
		}
		if w == "" || strings.ContainsAny(w, " {}\"") {
			w = "'" + w + "'"
		}
		b.WriteString(w)
	}
	b.WriteByte('\n')
	return b.String()
}

func describe(res Result, err error) []txtar.File {
	if err != nil {
		text := err.Error() + "\n"
		for name, kind := range sentinels {
			if errors.Is(err, kind) {
				text = name + ": " + text
			}
		}
		return []txtar.File{{Name: "error", Data: []byte(text)}}
	}
	files := []txtar.File{{Name: "out", Data: []byte(joinWords(res.Args))}}
	if len(res.Notices) > 0 {
		files = append(files, txtar.File{Name: "notices", Data: []byte(strings.Join(res.Notices, "\n") + "\n")})
	}
	if len(res.VM.NICs) > 0 {
		files = append(files, txtar.File{Name: "vm", Data: []byte(describeVM(res))})
	}
	return files
}

func describeVM(res Result) string {
	vm := res.VM
	text := fmt.Sprintf("name=%q uuid=%q accel=%s memory=%s\n", vm.Name, vm.UUID, vm.Accel, formatSize(vm.MemoryBytes))
	for i, n := range vm.NICs {
		text += fmt.Sprintf("%s as %s: %s model=%q mac=%s id=%q alias=%q queues=%d mtu=%d\n",
			res.Actions[i].Port, n.Port, n.Link, n.Model, n.MAC, n.ID, n.Alias, n.Queues, n.MTU)
	}
	return text
}
