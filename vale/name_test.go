package vale_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/vale-vmnet/vale-vmnet/vale"
)

func TestParseName(t *testing.T) {
	for _, c := range []struct{ in, want, says string }{
		{in: "vale-1:a", want: "vale-1:a"},
		{in: "vale1:a", want: "vale-1:a"},
		{in: "vale:a", want: "vale:a"},
		{in: "vale0:1", want: "vale-0:1"},
		{in: "vale-web.lan_2:eth0-x", want: "vale-web.lan_2:eth0-x"},
		{in: "vale--1:a", want: "vale--1:a"},
		{in: "vale-1234567890:123456789012345", want: "vale-1234567890:123456789012345"},
		{in: "vale1234567890:a", want: "vale-1234567890:a"},
		{in: "", says: "no port part"},
		{in: "vale-1", says: "no port part"},
		{in: "vale-:a", says: "no id"},
		{in: "vale-1:", says: "port part is empty"},
		{in: ":a", says: "does not start"},
		{in: "Vale-1:a", says: "does not start"},
		{in: "br0:a", says: "does not start"},
		{in: "vale-1:a:b", says: "not allowed"},
		{in: "vale-1:a b", says: "not allowed"},
		{in: "vale-1:a/b", says: "not allowed"},
		{in: "vale-1:a\n", says: `'\n'`},
		{in: "vale-1:\x00", says: `'\x00'`},
		{in: "vale-1:é", says: "not allowed"},
		{in: "vale-\x7f:a", says: "not allowed"},
		{in: "vale-/:a", says: "not allowed"},
		{in: "vale-1:.", says: "may not be"},
		{in: "vale-1:..", says: "may not be"},
		{in: "vale-1:1234567890123456", says: "at most 15"},
		{in: "vale-12345678901:a", says: "at most 15"},
		{in: "vale12345678901:a", says: "too long"},
	} {
		n, err := vale.ParseName(c.in)
		switch {
		case c.says == "" && (err != nil || n.String() != c.want):
			t.Errorf("ParseName(%q) = %q, %v; want %q", c.in, n, err, c.want)
		case c.says != "" && !errors.Is(err, vale.ErrName):
			t.Errorf("ParseName(%q) = %q, %v; want an ErrName", c.in, n, err)
		case c.says != "" && !strings.Contains(err.Error(), c.says):
			t.Errorf("ParseName(%q): %v; want it to say %q", c.in, err, c.says)
		}
	}
}

func FuzzParseName(f *testing.F) {
	for _, s := range []string{"vale-1:a", "vale1:a", "vale:a", "vale-:a", "vale-1:", "vale-1:..", "vale--:-", "vale-1:\x00", "vale12345678901:a"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n, err := vale.ParseName(s)
		if err != nil {
			if !errors.Is(err, vale.ErrName) {
				t.Errorf("ParseName(%q): %v is no ErrName", s, err)
			}
			return
		}
		if len(n.Switch) > vale.MaxNameLen || len(n.Port) > vale.MaxNameLen || n.Port == "" {
			t.Errorf("ParseName(%q) = %q: a part is empty or too long", s, n)
		}
		if strings.ContainsAny(n.String(), "/ \x00\n\r\t") {
			t.Errorf("ParseName(%q) = %q: no file name", s, n)
		}
		if again, err := vale.ParseName(n.String()); err != nil || again != n {
			t.Errorf("ParseName(%q) = %q, which parses to %q, %v", s, n, again, err)
		}
	})
}
