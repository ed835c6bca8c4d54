package configs

import (
	"fmt"
	"io/fs"
	"math"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/vale-vmnet/vale-vmnet/vale"
)

// Values come from YAML, typed, or from environment and flags, as text. Each
// setter takes both, and no other type: "workers: yes" is a mistake, not 1.

// bad is an error about a value; key and place are added by the caller.
func bad(v any, format string, args ...any) error {
	text := fmt.Sprint(v)
	if s, ok := v.(string); ok {
		text = strconv.Quote(s)
	}
	return &Error{Value: text, Reason: fmt.Sprintf(format, args...)}
}

func setString(dst *string, v any) error {
	switch s := v.(type) {
	case string:
		*dst = s
	case int:
		*dst = strconv.Itoa(s)
	default:
		return bad(v, "is no text; quote it")
	}
	return nil
}

func setOneOf(dst *string, v any, known ...string) error {
	s, ok := v.(string)
	s = strings.ToLower(s)
	if !ok || !slices.Contains(known, s) {
		return bad(v, "is unknown; write one of %s", strings.Join(known, ", "))
	}
	*dst = s
	return nil
}

func setInt(dst *int, v any, lo, hi int) error {
	n, err := toInt(v)
	if err != nil || n < lo || n > hi {
		return bad(v, "is no number from %d to %d", lo, hi)
	}
	*dst = n
	return nil
}

func toInt(v any) (int, error) {
	switch n := v.(type) {
	case int:
		return n, nil
	case int64:
		return int(n), nil
	case uint64:
		return int(min(n, math.MaxInt)), nil
	case string:
		return strconv.Atoi(strings.TrimSpace(n))
	}
	return 0, strconv.ErrSyntax
}

func setBool(dst *bool, v any) error {
	b, ok := v.(bool)
	if !ok {
		return bad(v, "is neither true nor false")
	}
	*dst = b
	return nil
}

func setDuration(dst *time.Duration, v any, lo, hi time.Duration) error {
	s, ok := v.(string)
	if n, err := toInt(v); err == nil && n == 0 {
		s, ok = "0s", true
	}
	if !ok {
		return bad(v, "has no unit; write it like 50us, 10ms or 300s")
	}
	d, err := time.ParseDuration(s)
	if err != nil {
		return bad(v, "is no duration; write it like 50us, 10ms or 300s")
	}
	if d < lo || d > hi {
		return bad(v, "is out of range; it may be %v to %v", lo, hi)
	}
	*dst = d
	return nil
}

func setMTU(dst *int, v any) error {
	n, err := toInt(v)
	if err != nil || n != 0 && (n < 68 || n > 65535) {
		return bad(v, "is no MTU; it may be 68 to 65535, or 0 for no limit")
	}
	*dst = n
	return nil
}

// setMode reads permissions. YAML's 0660 is an octal number already.
func setMode(dst *fs.FileMode, v any) error {
	var n uint64
	switch m := v.(type) {
	case int:
		n = uint64(m)
	case string:
		var err error
		if n, err = strconv.ParseUint(strings.TrimPrefix(m, "0o"), 8, 32); err != nil {
			return bad(v, "is no octal permission; write it like \"0660\"")
		}
	default:
		return bad(v, "is no octal permission; write it like \"0660\"")
	}
	if n > 0o777 || n&0o600 != 0o600 {
		return bad(v, "is no permission of a socket; write it like \"0660\"; the owner must keep read and write")
	}
	*dst = fs.FileMode(n)
	return nil
}

// setCPUs reads a list of CPUs; as text, "0,2-3".
func setCPUs(dst *[]int, v any) error {
	var cpus []int
	switch list := v.(type) {
	case []any:
		for _, item := range list {
			var n int
			if err := setInt(&n, item, 0, 8191); err != nil {
				return bad(item, "is no CPU number")
			}
			cpus = append(cpus, n)
		}
	case string:
		for part := range strings.SplitSeq(list, ",") {
			lo, hi, isRange := strings.Cut(part, "-")
			if !isRange {
				hi = lo
			}
			var a, b int
			if setInt(&a, lo, 0, 8191) != nil || setInt(&b, hi, 0, 8191) != nil || b < a {
				return bad(v, "is no list of CPUs; write it like 0,2-3")
			}
			for n := a; n <= b; n++ {
				cpus = append(cpus, n)
			}
		}
	default:
		return bad(v, "is no list of CPUs; write it like [2, 3]")
	}
	*dst = cpus
	return nil
}

func setMAC(dst *net.HardwareAddr, v any) error {
	s, _ := v.(string)
	mac, err := net.ParseMAC(s)
	if err != nil || len(mac) != 6 {
		return bad(v, "is no MAC address; write it like 52:54:00:00:00:01")
	}
	if mac[0]&1 != 0 {
		return bad(v, "is a group address; no single port has it")
	}
	*dst = mac
	return nil
}

func setName(dst *vale.Name, v any) error {
	s, ok := v.(string)
	if !ok {
		return bad(v, "is no port name; write it like vale-1:a")
	}
	name, err := vale.ParseName(s)
	if err != nil {
		return bad(v, "is refused: %v", err)
	}
	*dst = name
	return nil
}
