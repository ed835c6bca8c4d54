package qemu

import (
	"encoding/binary"
	"encoding/json"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestRealQEMU gives rewritten command lines to the QEMU of this machine and
// asks it what it understood. The guest's processor never starts.
func TestRealQEMU(t *testing.T) {
	path := needQEMU(t)
	version, backends, err := Probe(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	if !backends["vhost-user"] || !backends["stream"] {
		t.Fatalf("QEMU %s lacks the back ends vhost-user and stream: install QEMU 7.2 or later", version)
	}
	const vhost, stream = "type=vhost-user", "type=stream"
	for _, tc := range []struct {
		name, in string
		keepNIC  bool
		want     []string // lines of `info network`, see normalise
		shared   []string // ids of memory back ends that have to be shared
	}{
		{name: "manual page", in: "-net nic -net netmap,ifname=vale-1:a -m 64",
			want: []string{"nic virtio-net-pci", "vale0 " + vhost}, shared: []string{"vale-mem"}},
		{name: "keep NIC", in: "-net nic -net netmap,ifname=vale-1:a -m 64", keepNIC: true,
			want: []string{"nic e1000", "vale0 " + stream}},
		{name: "two pairs", in: "-M q35 -m 64 -net nic,model=virtio -net netmap,ifname=vale-1:a -net nic,model=e1000 -net netmap,ifname=vale-2:a",
			want: []string{"nic virtio-net-pci", "vale0 " + vhost, "nic e1000", "vale1 " + stream}, shared: []string{"vale-mem"}},
		{name: "vlan", in: "-m 64 -net nic,vlan=1,model=e1000 -net netmap,vlan=1,ifname=vale-1:a",
			want: []string{"nic e1000", "vale0 " + stream}},
		{name: "hub", in: "-m 64 -net nic,model=e1000 -net user -net netmap,ifname=vale-1:a",
			want: []string{"hub", "hubport user", "hubport nic e1000", "hubport vale0 " + stream}},
		{name: "queues", in: "-m 64 -netdev netmap,id=n0,ifname=vale-1:a,queues=2 -device virtio-net-pci,netdev=n0",
			want: []string{"nic virtio-net-pci", "n0 " + vhost, "nic", "n0 " + vhost}, shared: []string{"vale-mem"}},
		{name: "nic option", in: "-m 64 -nic netmap,ifname=vale-1:a",
			want: []string{"nic virtio-net-pci", "vale0 " + vhost}, shared: []string{"vale-mem"}},
		{name: "JSON", in: `-m 64 -netdev {"type":"netmap","id":"n0","ifname":"vale-1:a"} -device {"driver":"virtio-net-pci","netdev":"n0"} ` +
			`-object {"qom-type":"memory-backend-ram","id":"pc.ram","size":67108864} -machine pc,memory-backend=pc.ram`,
			want: []string{"nic virtio-net-pci", "n0 " + vhost}, shared: []string{"pc.ram"}},
		{name: "memory path", in: "-m 64 -mem-path MEMPATH -net nic -net netmap,ifname=vale-1:a",
			want: []string{"nic virtio-net-pci", "vale0 " + vhost}, shared: []string{"vale-mem"}},
		{name: "NUMA", in: "-m 64 -object memory-backend-ram,id=m0,size=32M -object memory-backend-file,id=m1,size=32M,mem-path=MEMPATH " +
			"-numa node,memdev=m0 -numa node,memdev=m1 -net nic -net netmap,ifname=vale-1:a",
			want: []string{"nic virtio-net-pci", "vale0 " + vhost}, shared: []string{"m0", "m1"}},
		{name: "no -m", in: "-net nic -net netmap,ifname=vale-1:a",
			want: []string{"nic virtio-net-pci", "vale0 " + vhost}, shared: []string{"vale-mem"}},
		{name: "old names", in: "-m 64 -netdev netmap,id=n0,ifname=vale-1:a -device virtio-net,netdev=n0",
			want: []string{"nic virtio-net-pci", "n0 " + vhost}, shared: []string{"vale-mem"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := shortTempDir(t)
			in := append([]string{path}, strings.Fields(strings.ReplaceAll(tc.in, "MEMPATH", dir))...)
			res, err := Rewrite(in, Env{Version: version, Backends: backends, KeepNIC: tc.keepNIC, Resolve: listenResolve(t, dir)})
			if err != nil {
				t.Fatal(err)
			}
			q := startQEMU(t, res.Args)
			var lines []string
			for line := range strings.Lines(q.monitor("info network")) {
				lines = append(lines, normalise(line))
			}
			if got, want := strings.Join(lines, "\n"), strings.Join(tc.want, "\n"); got != want {
				t.Errorf("QEMU has the network\n%s\nwant\n%s\nfrom %q", got, want, res.Args)
			}
			shared := q.sharedMemory()
			for _, id := range tc.shared {
				if !shared[id] {
					t.Errorf("memory back end %s is not shared", id)
				}
			}
			for _, nic := range res.VM.NICs {
				if !strings.Contains(q.monitor("info network"), "macaddr="+nic.MAC.String()) {
					t.Errorf("QEMU has no NIC with the address %s", nic.MAC)
				}
			}
			q.quit()
		})
	}
}

// normalise reduces a line of `info network` to what matters here.
func normalise(line string) string {
	line = strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(line), `\`))
	fields := strings.FieldsFunc(line, func(r rune) bool { return r == ' ' || r == ',' })
	val := func(key string) string {
		for _, f := range fields {
			if v, ok := strings.CutPrefix(f, key+"="); ok {
				return v
			}
		}
		return ""
	}
	prefix := ""
	if strings.HasPrefix(line, "hub0port") || strings.Contains(line, "-hub: ") {
		prefix = "hubport "
		_, line, _ = strings.Cut(line, ": ")
	}
	name, _, _ := strings.Cut(line, ":")
	switch kind := val("type"); {
	case kind == "":
		return "hub"
	case kind == "nic":
		return strings.TrimSpace(prefix + "nic " + val("model")) // further queues have no model
	case kind == "user":
		return prefix + "user"
	default:
		return prefix + name + " type=" + kind
	}
}

// shortTempDir is a directory whose sockets have paths that fit sun_path.
func shortTempDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "vale")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// listenResolve listens on the sockets of every port that is asked for.
func listenResolve(t *testing.T, dir string) func(string) (Endpoint, error) {
	return func(ifname string) (Endpoint, error) {
		end, err := testResolve(ifname)
		if err != nil {
			return end, err
		}
		end.VhostUser = filepath.Join(dir, filepath.Base(end.VhostUser))
		end.Stream = filepath.Join(dir, filepath.Base(end.Stream))
		listen(t, end.VhostUser, answerVhostUser)
		listen(t, end.Stream, func(c net.Conn) { io.Copy(io.Discard, c) })
		return end, nil
	}
}

func listen(t *testing.T, path string, serve func(net.Conn)) {
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				serve(c)
			}()
		}
	}()
}

// answerVhostUser is as much of a vhost-user back end as QEMU wants to see
// before the guest runs: it answers the questions about features and queues.
// File descriptors that come along are dropped by the kernel.
func answerVhostUser(c net.Conn) {
	const getFeatures, getProtocolFeatures, getQueueNum = 1, 15, 17
	answers := map[uint32]uint64{
		getFeatures:         1<<30 | 1<<32 | 1<<22, // PROTOCOL_FEATURES, VERSION_1, MQ
		getProtocolFeatures: 1,                     // MQ
		getQueueNum:         MaxQueues,
	}
	head := make([]byte, 12)
	for {
		if _, err := io.ReadFull(c, head); err != nil {
			return
		}
		size := binary.NativeEndian.Uint32(head[8:])
		if _, err := io.CopyN(io.Discard, c, int64(size)); err != nil {
			return
		}
		answer, ok := answers[binary.NativeEndian.Uint32(head)]
		if !ok {
			continue
		}
		binary.NativeEndian.PutUint32(head[4:], 1|1<<2) // version 1, reply
		binary.NativeEndian.PutUint32(head[8:], 8)
		if _, err := c.Write(binary.NativeEndian.AppendUint64(head[:12:12], answer)); err != nil {
			return
		}
	}
}

// process is a running QEMU with a QMP monitor on its standard streams.
type process struct {
	t      *testing.T
	cmd    *exec.Cmd
	in     io.WriteCloser
	dec    *json.Decoder
	stderr *strings.Builder
}

func startQEMU(t *testing.T, args []string) *process {
	t.Helper()
	args = append(args[1:len(args):len(args)], "-S", "-display", "none", "-accel", "tcg", "-qmp", "stdio")
	cmd := exec.CommandContext(t.Context(), needQEMU(t), args...)
	q := &process{t: t, cmd: cmd, stderr: &strings.Builder{}}
	cmd.Stderr = q.stderr
	var err error
	if q.in, err = cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	q.dec = json.NewDecoder(out)
	q.command("qmp_capabilities", nil)
	return q
}

// command runs a QMP command and gives what it returns.
func (q *process) command(name string, args map[string]string) json.RawMessage {
	q.t.Helper()
	msg := map[string]any{"execute": name}
	if args != nil {
		msg["arguments"] = args
	}
	text, _ := json.Marshal(msg)
	if _, err := q.in.Write(append(text, '\n')); err != nil {
		q.t.Fatalf("QMP %s: %v: %s (%q)", name, err, q.stderr, q.cmd.Args)
	}
	for {
		var answer struct {
			Return, Error json.RawMessage
		}
		if err := q.dec.Decode(&answer); err != nil {
			q.cmd.Wait()
			q.t.Fatalf("QMP %s: %v: %s (%q)", name, err, q.stderr, q.cmd.Args)
		}
		switch {
		case answer.Error != nil:
			q.t.Fatalf("QMP %s: %s", name, answer.Error)
		case answer.Return != nil:
			return answer.Return
		}
	}
}

func (q *process) monitor(line string) string {
	q.t.Helper()
	var text string
	if err := json.Unmarshal(q.command("human-monitor-command", map[string]string{"command-line": line}), &text); err != nil {
		q.t.Fatal(err)
	}
	return strings.ReplaceAll(text, "\r", "")
}

// sharedMemory gives the ids of the memory back ends that are shared.
func (q *process) sharedMemory() map[string]bool {
	q.t.Helper()
	var list []struct {
		ID    string
		Share bool
	}
	if err := json.Unmarshal(q.command("query-memdev", nil), &list); err != nil {
		q.t.Fatal(err)
	}
	shared := map[string]bool{}
	for _, m := range list {
		shared[m.ID] = m.Share
	}
	return shared
}

func (q *process) quit() {
	q.t.Helper()
	q.command("quit", nil)
	if err := q.cmd.Wait(); err != nil {
		q.t.Errorf("QEMU ends with %v: %s", err, q.stderr)
	}
}
