package qemu

import (
	"encoding/json"
	"testing"

	"pgregory.net/rapid"
)

func TestPropsEdit(t *testing.T) {
	for _, tc := range []struct {
		name, in, implied, want string
		edit                    func(*props)
	}{
		{"unchanged", "netmap,id=a,,b,x=,y", "type", "netmap,id=a,,b,x=,y", func(*props) {}},
		{"append", "nic", "type", "nic,model=virtio", func(p *props) { p.set("model", "virtio") }},
		{"replace in place", "nic,model=e1000,macaddr=x", "type", "nic,model=virtio,macaddr=x", func(p *props) { p.set("model", "virtio") }},
		{"replace the implied", "memory-backend-ram,id=m", "qom-type", "memory-backend-memfd,id=m", func(p *props) { p.set("qom-type", "memory-backend-memfd") }},
		{"replace duplicates", "a,k=1,k=2", "type", "a,k=3", func(p *props) { p.set("k", "3") }},
		{"escape", "a", "type", "a,path=/x,,y", func(p *props) { p.set("path", "/x,y") }},
		{"append behind a comma", "nic,", "type", "nic,model=virtio", func(p *props) { p.set("model", "virtio") }},
		{"delete", "a,k=1,l=2,k=3", "type", "a,l=2", func(p *props) { p.del("k") }},
		{"JSON unchanged", `{"driver": "e1000", "addr": {"a": [1, 2]}}`, "driver", `{"driver":"e1000","addr":{"a": [1, 2]}}`, func(*props) {}},
		{"JSON set", `{"driver":"x","share":false}`, "driver", `{"driver":"x","share":true,"vectors":0,"mac":"a"}`, func(p *props) {
			p.setBool("share", true)
			p.setNumber("vectors", "0")
			p.set("mac", "a")
		}},
	} {
		p, err := parseProps(tc.in, tc.implied, true)
		if err != nil {
			t.Errorf("%s: %v", tc.name, err)
			continue
		}
		tc.edit(p)
		if got := p.String(); got != tc.want {
			t.Errorf("%s: %q becomes %q, want %q", tc.name, tc.in, got, tc.want)
		}
	}
}

func TestPropsGet(t *testing.T) {
	for _, tc := range []struct{ in, key, want string }{
		{"netmap,ifname=vale-1:a", "type", "netmap"},
		{"type=netmap,ifname=a", "type", "netmap"},
		{"netmap,ifname=a,,b", "ifname", "a,b"},
		{"a,k=1,k=2", "k", "2"},
		{"a,share", "share", "on"},
		{"a,noshare", "share", "off"},
		{"a,nofoo", "nofoo", "on"},
		{`{"share":true,"n":3,"s":"x,y"}`, "share", "on"},
		{`{"share":true,"n":3,"s":"x,y"}`, "n", "3"},
		{`{"share":true,"n":3,"s":"x,y"}`, "s", "x,y"},
		{"", "type", ""},
	} {
		p, err := parseProps(tc.in, "type", true)
		if err != nil || p.get(tc.key) != tc.want {
			t.Errorf("%q: %s is %q (%v), want %q", tc.in, tc.key, p.get(tc.key), err, tc.want)
		}
	}
	for _, bad := range []string{"{", "{}x", `{"a":}`, `{"a" 1}`} {
		if p, err := parseProps(bad, "type", true); err == nil {
			t.Errorf("%q is read as %v", bad, p)
		}
	}
}

// Property: what is not edited keeps its bytes, and what is set reads back.
func TestPropsRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringMatching(`[a-z=,]{0,30}`).Draw(t, "text")
		p, err := parseProps(text, "type", true)
		if err != nil {
			t.Fatal(err)
		}
		if p.String() != text {
			t.Fatalf("%q becomes %q", text, p.String())
		}
		val := rapid.StringMatching(`[a-z,=/]{0,10}`).Draw(t, "val")
		p.set("key", val)
		q, err := parseProps(p.String(), "type", true)
		if err != nil || q.get("key") != val {
			t.Fatalf("key=%q reads back as %q from %q (%v)", val, q.get("key"), p, err)
		}
	})
}

func FuzzParseProps(f *testing.F) {
	for _, s := range []string{"nic,model=virtio", `{"a":{"b":[1]},"c":"d"}`, "a,,b=c,,", ",", "{", "=x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		p, err := parseProps(text, "type", true)
		if err != nil {
			return
		}
		if !p.json && p.String() != text {
			t.Fatalf("%q becomes %q", text, p)
		}
		if p.json && !json.Valid([]byte(p.String())) {
			t.Fatalf("%q becomes %q, which is not JSON", text, p)
		}
	})
}

func TestParseSize(t *testing.T) {
	for _, tc := range []struct {
		in   string
		def  byte
		want uint64
	}{
		{"512", 'M', 512 << 20}, {"512", 'B', 512}, {"512M", 'M', 512 << 20}, {"2g", 'M', 2 << 30}, {"1.5G", 'M', 1536 << 20},
		{"65536k", 'M', 64 << 20}, {"1T", 'M', 1 << 40}, {"4096b", 'M', 4096}, {"0x40", 'M', 64 << 20}, {"0", 'M', 0}, {".5G", 'M', 512 << 20},
	} {
		if got, err := parseSize(tc.in, tc.def); err != nil || got != tc.want {
			t.Errorf("parseSize(%q, %c) = %d, %v; want %d", tc.in, tc.def, got, err, tc.want)
		}
	}
	for _, bad := range []string{"", "M", "x", "-1", "+1", "1e9", "1/2", "1.2.3", "1Z", "9999999999T", "0xZ", "1 G", "\x00", "1_0"} {
		if got, err := parseSize(bad, 'M'); err == nil {
			t.Errorf("parseSize(%q) = %d, want an error", bad, got)
		}
	}
}

func TestFormatSizeRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.Uint64Range(0, 1<<62).Draw(t, "n") &^ (1<<rapid.IntRange(0, 40).Draw(t, "zeros") - 1)
		if got, err := parseSize(formatSize(n), 'B'); err != nil || got != n {
			t.Fatalf("%d is written %q and read %d (%v)", n, formatSize(n), got, err)
		}
	})
}
