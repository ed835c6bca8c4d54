package qemu

import (
	"errors"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestParseArgs(t *testing.T) {
	for _, tc := range []struct {
		in   string
		want string // option=value pairs; a lone word is positional
	}{
		{"-m 512 disk.img", "m=512 disk.img"},
		{"--m 512 --enable-kvm disk.img", "m=512 enable-kvm= disk.img"},
		{"-append -net -S", "append=-net S="},
		{"-new-flag -net nic", "new-flag= net=nic"},
		{"-new-option value -net nic", "new-option=value net=nic"},
		{"-", "="},
		{"-new-flag", "new-flag="},
	} {
		args, err := parseArgs(strings.Fields(tc.in))
		if err != nil {
			t.Errorf("parseArgs(%q): %v", tc.in, err)
			continue
		}
		var got []string
		for _, a := range args {
			if strings.HasPrefix(a.out[0], "-") {
				got = append(got, a.opt+"="+a.val)
			} else {
				got = append(got, a.val)
			}
		}
		if s := strings.Join(got, " "); s != tc.want {
			t.Errorf("parseArgs(%q) = %q, want %q", tc.in, s, tc.want)
		}
	}
	if _, err := parseArgs([]string{"-S", "-net"}); !errors.Is(err, ErrSyntax) {
		t.Errorf("an option without its value gives %v, want ErrSyntax", err)
	}
}

// TestOptionTablesReal compares the tables with the help text of the QEMU of
// this machine: "-option value ..." against "-option<tab>what it does".
func TestOptionTablesReal(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), needQEMU(t), "-display", "none", "-help").Output()
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for line := range strings.Lines(string(out)) {
		if !strings.HasPrefix(line, "-") {
			continue
		}
		first := strings.Fields(line)[0]
		for name := range strings.SplitSeq(first, "/") {
			name = strings.TrimLeft(name, "-")
			seen++
			if flagOptions[name] == valueOptions[name] {
				t.Errorf("option -%s is in neither table, or in both: %s", name, line)
			}
		}
	}
	if seen < 50 {
		t.Errorf("only %d options were found in QEMU's help text", seen)
	}
}

// Property: a command line that names no port comes back word for word.
func TestRewritePassesThrough(t *testing.T) {
	word := rapid.OneOf(
		rapid.SampledFrom([]string{"-net", "--net", "nic", "user", "-m", "512", "-device", "e1000,netdev=x", "-netdev", "user,id=x",
			"-append", "-S", "-machine", "q35,,x=,", "-M", "-object", "memory-backend-ram,id=m", "-name", "a,b", "-nic", "", "-", "--", "-xyz"}),
		rapid.StringMatching(`-?[a-z{},=:"]{0,12}`),
	)
	rapid.Check(t, func(t *rapid.T) {
		in := append([]string{"qemu"}, rapid.SliceOf(word).Draw(t, "words")...)
		if slices.ContainsFunc(in, func(w string) bool { return strings.Contains(w, "netmap") }) {
			return
		}
		res, err := Rewrite(in, testEnv())
		if err != nil {
			if !errors.Is(err, ErrSyntax) {
				t.Fatalf("Rewrite(%q): %v", in, err)
			}
			return
		}
		if !slices.Equal(res.Args, in) || len(res.Notices) != 0 || len(res.VM.NICs) != 0 {
			t.Fatalf("Rewrite(%q) = %q, notices %q", in, res.Args, res.Notices)
		}
	})
}

// Property: rewriting what has been rewritten changes nothing, and the same
// input gives the same output.
func TestRewriteIsStable(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := []string{"qemu-system-x86_64", "-m", rapid.SampledFrom([]string{"64", "1G", "1.5g"}).Draw(t, "m")}
		n := rapid.IntRange(1, 5).Draw(t, "nics")
		for i := range n {
			port := "vale-" + string(rune('1'+i%2)) + ":p" + string(rune('a'+i))
			id := "n" + string(rune('0'+i))
			model := rapid.SampledFrom([]string{"e1000", "virtio-net-pci", "rtl8139"}).Draw(t, "model")
			if rapid.Bool().Draw(t, "legacy") {
				in = append(in, "-net", "nic,model="+model, "-net", "netmap,ifname="+port)
			} else {
				in = append(in, "-device", model+",netdev="+id, "-netdev", "netmap,id="+id+",ifname="+port)
			}
		}
		env := testEnv()
		env.KVMUsable = rapid.Bool().Draw(t, "kvm")
		one, err := Rewrite(in, env)
		if err != nil {
			t.Fatalf("Rewrite(%q): %v", in, err)
		}
		two, err := Rewrite(in, env)
		if err != nil || !slices.Equal(one.Args, two.Args) {
			t.Fatalf("the second run gives %q, %v; the first %q", two.Args, err, one.Args)
		}
		again, err := Rewrite(one.Args, env)
		if err != nil || !slices.Equal(one.Args, again.Args) {
			t.Fatalf("rewriting %q again gives %q, %v", one.Args, again.Args, err)
		}
		if len(one.VM.NICs) != n {
			t.Fatalf("%d NICs are described, want %d", len(one.VM.NICs), n)
		}
		macs := map[string]bool{}
		for _, nic := range one.VM.NICs {
			macs[nic.MAC.String()] = true
		}
		if len(macs) != n {
			t.Fatalf("%d NICs have %d MAC addresses", n, len(macs))
		}
	})
}

func TestPortMAC(t *testing.T) {
	seen := map[string]string{}
	for _, port := range []string{"vale-1:a", "vale-1:b", "vale-2:a", "vale-2:b"} {
		for n := range 4 {
			mac := PortMAC(port, n)
			if mac[0]&1 != 0 || mac[0]&2 == 0 {
				t.Errorf("PortMAC(%s, %d) = %s is not a locally administered unicast address", port, n, mac)
			}
			if mac.String() != PortMAC(port, n).String() {
				t.Errorf("PortMAC(%s, %d) changes", port, n)
			}
			if other := seen[mac.String()]; other != "" {
				t.Errorf("PortMAC(%s, %d) = %s, as for %s", port, n, mac, other)
			}
			seen[mac.String()] = port
		}
	}
}

func FuzzRewrite(f *testing.F) {
	f.Add("-net\nnic\n-net\nnetmap,ifname=vale-1:a")
	f.Add("-netdev\n{\"type\":\"netmap\",\"id\":\"n\",\"ifname\":\"vale-1:a\"}\n-device\n{\"driver\":\"e1000\",\"netdev\":\"n\"}")
	f.Add("-nic\nnetmap,ifname=vale-1:a,,b,queues=3\n-m\n1.5G\n-mem-path\n/x")
	f.Add("-net\nnic,vlan=1\n-net\nnetmap,vlan=1,ifname=vale-2:x\n-object\nmemory-backend-ram,id=m\n-M\nmemory-backend=m")
	f.Add("-numa\nnode,memdev=m\n-object\nmemory-backend-file,id=m,noshare\n-device\nvirtio-net,netdev=n\n-netdev\nnetmap,ifname=vale:a,id=n")
	f.Fuzz(func(t *testing.T, text string) {
		in := append([]string{"qemu"}, strings.Split(text, "\n")...)
		before := slices.Clone(in)
		res, err := Rewrite(in, testEnv())
		if !slices.Equal(in, before) {
			t.Fatal("the given command line was changed")
		}
		if err != nil {
			if oe := (*OptionError)(nil); !errors.As(err, &oe) || oe.Reason == "" || oe.Remedy == "" {
				t.Fatalf("error %v is no complete OptionError", err)
			}
			return
		}
		if len(res.VM.NICs) != len(res.Actions) {
			t.Fatalf("%d NICs, %d actions", len(res.VM.NICs), len(res.Actions))
		}
		if len(res.Actions) == 0 && !slices.Equal(res.Args, in) {
			t.Fatalf("%q became %q although it names no port", in, res.Args)
		}
		again, err := Rewrite(res.Args, testEnv())
		if err != nil || !slices.Equal(again.Args, res.Args) {
			t.Fatalf("rewriting %q again gives %q, %v", res.Args, again.Args, err)
		}
	})
}
