package configs_test

import (
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"

	"github.com/vale-vmnet/vale-vmnet/configs"
	"github.com/vale-vmnet/vale-vmnet/vale"
)

func load(t *testing.T, text string, env ...string) (configs.Config, error) {
	t.Helper()
	name := filepath.Join(t.TempDir(), "conf.yaml")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return configs.Load(configs.Source{File: name, Environ: env})
}

func TestCommentedFileIsTheDefault(t *testing.T) {
	got, err := load(t, string(configs.Commented))
	if err != nil {
		t.Fatal(err)
	}
	got.File = ""
	want := configs.Default()
	// An empty list in the file and no list are the same.
	if len(got.CPUs)+len(got.Ports)+len(got.FDB) != 0 {
		t.Fatalf("the commented file declares something: %+v", got)
	}
	got.CPUs, got.Ports, got.FDB = nil, nil, nil
	if !reflect.DeepEqual(got, want) {
		t.Errorf("commented file gives\n%+v, want the defaults\n%+v", got, want)
	}
}

// The examples in the comments must be as good as the rest.
func TestCommentedExamplesLoad(t *testing.T) {
	var text strings.Builder
	for line := range strings.Lines(string(configs.Commented)) {
		switch {
		case strings.HasPrefix(line, "ports: []"), strings.HasPrefix(line, "fdb: []"):
		case strings.HasPrefix(line, "#   - name:"):
			text.WriteString("ports:\n" + line[1:])
		case strings.HasPrefix(line, "#   - mac:"):
			text.WriteString("fdb:\n" + line[1:])
		case strings.HasPrefix(line, "#     mode: server"):
			text.WriteString("     mode: client\n") // so that socket may stand beside it
		case strings.HasPrefix(line, "#     ") && strings.Contains(line, ": "):
			text.WriteString(line[1:])
		}
	}
	c, err := load(t, text.String())
	if err != nil {
		t.Fatalf("%v in\n%s", err, &text)
	}
	if len(c.Ports) != 1 || len(c.FDB) != 1 {
		t.Errorf("examples give %d ports and %d entries, want 1 and 1", len(c.Ports), len(c.FDB))
	}
}

func TestLoadValues(t *testing.T) {
	mac := net.HardwareAddr{0x52, 0x54, 0, 0, 0, 1}
	tests := []struct {
		name, text string
		env        []string
		want       func(c *configs.Config)
	}{
		{name: "empty", want: func(*configs.Config) {}},
		{name: "scalars", text: "workers: 3\nlog:\n  level: debug\n  format: json\nmac_age: 5m\nbusy_poll: 0\n", want: func(c *configs.Config) {
			c.Workers, c.Log, c.MACAge, c.BusyPoll = 3, configs.Log{Level: slog.LevelDebug, Format: "json"}, 5*time.Minute, 0
		}},
		{name: "modes", text: "sockets: {mode: 0666, group: kvm}\napi: {mode: \"0600\"}\n", want: func(c *configs.Config) {
			c.Sockets, c.API = configs.Access{Mode: 0o666, Group: "kvm"}, configs.Access{Mode: 0o600}
		}},
		{name: "cpus", text: "cpus: [2, 3]", want: func(c *configs.Config) { c.CPUs = []int{2, 3} }},
		{name: "environment wins", text: "workers: 3", env: []string{"VALE_VMNET_WORKERS=5", "VALE_VMNET_CPUS=0,2-4", "VALE_VMNET_LOG_LEVEL=WARN", "VALE_VMNET_MTU="},
			want: func(c *configs.Config) { c.Workers, c.CPUs, c.Log.Level = 5, []int{0, 2, 3, 4}, slog.LevelWarn }},
		{name: "ports by environment", text: "ports: [vale-9:z]", env: []string{"VALE_VMNET_PORTS=vale-1:a,vale1:b"}, want: func(c *configs.Config) {
			c.Ports = []configs.Port{
				{Name: vale.Name{Switch: "vale-1", Port: "a"}, Mode: configs.ModeServer, Persistent: true},
				{Name: vale.Name{Switch: "vale-1", Port: "b"}, Mode: configs.ModeServer, Persistent: true},
			}
		}},
		{name: "ports", text: "mtu: 9000\nports:\n- vale1:a\n- {name: vale-1:b, mac: 52:54:00:00:00:01, mtu: 1500, mode: client, socket: /x/b, persistent: false}\nfdb:\n- {mac: 52-54-00-00-00-01, port: vale2:c}\n",
			want: func(c *configs.Config) {
				c.MTU = 9000
				c.Ports = []configs.Port{
					{Name: vale.Name{Switch: "vale-1", Port: "a"}, MTU: 9000, Mode: configs.ModeServer, Persistent: true},
					{Name: vale.Name{Switch: "vale-1", Port: "b"}, MAC: mac, MTU: 1500, Mode: configs.ModeClient, Socket: "/x/b"},
				}
				c.FDB = []configs.StaticEntry{{MAC: mac, Port: vale.Name{Switch: "vale-2", Port: "c"}}}
			}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := load(t, tt.text, tt.env...)
			if err != nil {
				t.Fatal(err)
			}
			want := configs.Default()
			want.File = got.File
			tt.want(&want)
			if !reflect.DeepEqual(got, want) {
				t.Errorf("got\n%+v, want\n%+v", got, want)
			}
		})
	}
}

func TestLoadRefuses(t *testing.T) {
	tests := []struct {
		name, text string
		env        string
		want       string // what follows the directory of the file
	}{
		{"unknown key", "run_dir: /x\nworker: 2\n", "", "conf.yaml:2: key worker: is not a key; did you mean workers?"},
		{"unknown in a group", "log:\n  levle: info\n", "", "conf.yaml:2: key log.levle: is not a key; did you mean level?"},
		{"hopeless key", "zzzzzzzzzzzzz: 2\n", "", "conf.yaml:1: key zzzzzzzzzzzzz: is not a key; known keys are api, busy_poll, cpus, fdb, log, mac_age, macs, macs_per_port, max_ports, max_switches, mtu, ports, run_dir, sockets, workers"},
		{"empty unknown group", "logs: {}\n", "", "conf.yaml:1: key logs: is not a key; did you mean log?"},
		{"group as value", "log: debug\n", "", `conf.yaml:1: key log: "debug" is no value for a group of keys; it has level and format`},
		{"no mapping", "- a\n", "", "conf.yaml:1: this is no list of keys"},
		{"yaml syntax", "a: [1\n", "", "conf.yaml: yaml: line "},
		{"key twice", "workers: 1\nworkers: 2\n", "", "conf.yaml: While parsing config: yaml: unmarshal errors:\n  line 2: mapping key \"workers\" already defined at line 1"},
		{"text for number", "workers: two\n", "", `conf.yaml:1: key workers: "two" is no number from 0 to 1024`},
		{"bool for number", "workers: yes\n", "", `conf.yaml:1: key workers: "yes" is no number from 0 to 1024`},
		{"true for number", "workers: true\n", "", `conf.yaml:1: key workers: true is no number from 0 to 1024`},
		{"list for number", "workers: [1]\n", "", `conf.yaml:1: key workers: [1] is no number from 0 to 1024`},
		{"range", "max_ports: 0\n", "", `conf.yaml:1: key max_ports: 0 is no number from 1 to 65000`},
		{"duration without unit", "mac_age: 300\n", "", `conf.yaml:1: key mac_age: 300 has no unit; write it like 50us, 10ms or 300s`},
		{"duration out of range", "mac_age: 1ms\n", "", `conf.yaml:1: key mac_age: "1ms" is out of range; it may be 1s to 24h0m0s`},
		{"level", "log: {level: loud}\n", "", `conf.yaml:1: key log.level: "loud" is unknown; write one of debug, info, warn, error`},
		{"mode", "api:\n  mode: rw\n", "", `conf.yaml:2: key api.mode: "rw" is no octal permission`},
		{"decimal mode", "api:\n  mode: 660\n", "", `conf.yaml:2: key api.mode: 660 is no permission of a socket`},
		{"mtu", "mtu: 20\n", "", `conf.yaml:1: key mtu: 20 is no MTU; it may be 68 to 65535, or 0 for no limit`},
		{"relative run dir", "run_dir: ''\n", "", `conf.yaml:1: key run_dir: "" is no directory; write an absolute path`},
		{"per port", "macs: 100\nmacs_per_port: 200\n", "", `conf.yaml:2: key macs_per_port: 200 is more than the whole table has (macs: 100)`},
		{"port name", "ports:\n- vale-1:a\n- vale-:b\n", "", `conf.yaml:3: key ports[1]: "vale-:b" is refused: port "vale-:b": bad VALE name: switch "vale-" has a dash but no id`},
		{"port key", "ports:\n- name: vale-1:a\n  mca: x\n", "", `conf.yaml:3: key ports[0].mca: is not a key; did you mean mac?`},
		{"port without name", "ports:\n- mtu: 1500\n", "", `conf.yaml:2: key ports[0]: has no name; add one like "name: vale-1:a"`},
		{"port mac", "ports:\n- name: vale-1:a\n  mac: nonsense\n", "", `conf.yaml:3: key ports[0].mac: "nonsense" is no MAC address`},
		{"group mac", "ports:\n- {name: 'vale-1:a', mac: '01:00:5e:00:00:01'}\n", "", `conf.yaml:2: key ports[0].mac: "01:00:5e:00:00:01" is a group address`},
		{"client without socket", "ports:\n- {name: 'vale-1:a', mode: client}\n", "", `conf.yaml:2: key ports[0].socket: must be the absolute path of QEMU's socket, because mode is client`},
		{"server with socket", "ports:\n- {name: 'vale-1:a', socket: /x}\n", "", `conf.yaml:2: key ports[0].socket: /x is only for mode client`},
		{"port twice", "ports: ['vale-1:a', 'vale1:a']\n", "", `conf.yaml:1: key ports[1]: vale-1:a is declared twice; ports[0] is the same port`},
		{"mac twice", "fdb:\n- {mac: '52:54:00:00:00:01', port: 'vale-1:a'}\n- {mac: '52:54:00:00:00:01', port: 'vale-1:b'}\n", "", `conf.yaml:3: key fdb[1].mac: 52:54:00:00:00:01 is pinned to vale-1:a already`},
		{"fdb without port", "fdb:\n- {mac: '52:54:00:00:00:01'}\n", "", `conf.yaml:2: key fdb[0]: needs both mac and port`},
		{"environment value", "", "VALE_VMNET_MTU=big", `environment variable VALE_VMNET_MTU: key mtu: "big" is no MTU`},
		{"environment key", "", "VALE_VMNET_WORKER=1", `environment variable VALE_VMNET_WORKER: key VALE_VMNET_WORKER: is not a key; did you mean VALE_VMNET_WORKERS?`},
		{"environment list", "", "VALE_VMNET_PORTS=vale-1:a,b", `environment variable VALE_VMNET_PORTS: key ports[1]: "b" is refused`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var env []string
			if tt.env != "" {
				env = []string{tt.env}
			}
			_, err := load(t, tt.text, env...)
			if err == nil {
				t.Fatal("accepted")
			}
			got := err.Error()
			if tt.env == "" {
				_, got, _ = strings.Cut(got, "/001/")
			}
			if !strings.HasPrefix(got, tt.want) {
				t.Errorf("error is\n%s, want it to start with\n%s", got, tt.want)
			}
		})
	}
}

func TestFlagsWin(t *testing.T) {
	flags := pflag.NewFlagSet("agent", pflag.ContinueOnError)
	flags.String("run-dir", configs.DefaultRunDir, "")
	flags.Int("workers", 0, "")
	flags.String("busy-poll", "", "")
	if err := flags.Parse([]string{"--run-dir=/tmp/x", "--busy-poll=soon"}); err != nil {
		t.Fatal(err)
	}
	_, err := configs.Load(configs.Source{File: os.DevNull, Flags: flags, Environ: []string{"VALE_VMNET_BUSY_POLL=1ms"}})
	var refused *configs.Error
	if !errors.As(err, &refused) || refused.Where != "flag --busy-poll" || refused.Key != "busy_poll" {
		t.Fatalf("bad flag gives %v", err)
	}
	if err := flags.Set("busy-poll", "2ms"); err != nil {
		t.Fatal(err)
	}
	c, err := configs.Load(configs.Source{File: os.DevNull, Flags: flags, Environ: []string{"VALE_VMNET_RUN_DIR=/tmp/y", "VALE_VMNET_WORKERS=4"}})
	if err != nil {
		t.Fatal(err)
	}
	if c.RunDir != "/tmp/x" || c.Workers != 4 || c.BusyPoll != 2*time.Millisecond {
		t.Errorf("run dir %s, workers %d, busy poll %v; want the flag's, the environment's, the flag's", c.RunDir, c.Workers, c.BusyPoll)
	}
}

func TestNamedFileMustExist(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "missing.yaml")
	for _, src := range []configs.Source{{File: missing}, {Environ: []string{configs.EnvFile + "=" + missing}}} {
		if _, err := configs.Load(src); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Load(%+v) gives %v, want a missing file", src, err)
		}
	}
}

func FuzzLoad(f *testing.F) {
	f.Add([]byte("ports: [vale-1:a]"))
	f.Add([]byte("ports:\n- {name: vale-1:b, mac: '52:54:00:00:00:01', mode: client, socket: /x}"))
	f.Add([]byte("a: &a [*a]"))
	f.Add([]byte("log: {level: info}\nfdb: [{mac: 1, port: 2}]"))
	f.Add(configs.Commented)
	name := filepath.Join(f.TempDir(), "conf.yaml")
	f.Fuzz(func(t *testing.T, text []byte) {
		if err := os.WriteFile(name, text, 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := configs.Load(configs.Source{File: name})
		if err == nil && (c.MaxPorts < 1 || c.MACs < 1 || !filepath.IsAbs(c.RunDir)) {
			t.Errorf("accepted %+v", c)
		}
	})
}
