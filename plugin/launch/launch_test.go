package launch

import (
	"context"
	"os/exec"
	"strings"
	"testing"
)

func TestQuoteIsReadBackByAShell(t *testing.T) {
	words := []string{"", "plain", "a b", "it's", "$HOME", "`id`", "a\nb", "*", `\`, "-netdev", "x=1,y=2", "~", "#c", "é", "{a,b}", "!"}
	p := Plan{Args: append([]string{"printf", `%s\0`}, words...)}
	out, err := exec.Command("sh", "-c", p.String()).Output()
	if err != nil {
		t.Fatal(err)
	}
	if want := strings.Join(words, "\x00") + "\x00"; string(out) != want {
		t.Errorf("the shell reads %q, want %q", out, want)
	}
}

func TestNewRefusesWhatIsNoQEMU(t *testing.T) {
	for _, tt := range []struct {
		args []string
		says string
	}{
		{nil, "no program given"},
		{[]string{"no-such-qemu-here"}, "no-such-qemu-here"},
		{[]string{"true", "-net", "nic"}, "probe QEMU"},
	} {
		if _, err := New(context.Background(), Options{Args: tt.args}); err == nil || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("New(%q) gives %v, want %q", tt.args, err, tt.says)
		}
	}
}
