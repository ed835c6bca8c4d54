package vale

import (
	"errors"
	"fmt"
	"strings"
)

// MaxNameLen is the longest switch part and the longest port part of a port
// name, in bytes: netmap keeps both in 16-byte fields with a final NUL.
const MaxNameLen = 15

// ErrName is wrapped by every error about a malformed port or switch name.
var ErrName = errors.New("bad VALE name")

// Name is the canonical name of a port: switch "vale-1", port "a". Compare
// Names with ==; both spellings of a switch parse to the same Name.
type Name struct {
	Switch string // "vale-1"; "vale" for the switch without an id
	Port   string // "a"
}

// String gives the canonical spelling, "vale-1:a".
func (n Name) String() string { return n.Switch + ":" + n.Port }

// ParseName reads a port name. vale-1:a and vale1:a name the same port. Both
// parts are at most MaxNameLen bytes of letters, digits, '_', '-' and '.';
// a port name also serves as a file name in the runtime directory, so '/',
// blanks and control characters are refused.
func ParseName(s string) (Name, error) {
	sw, port, ok := strings.Cut(s, ":")
	if !ok {
		return Name{}, fmt.Errorf("%w %q: no port part; write it as vale-1:a", ErrName, s)
	}
	canonical, err := ParseSwitchName(sw)
	if err != nil {
		return Name{}, fmt.Errorf("port %q: %w", s, err)
	}
	if port == "" {
		return Name{}, fmt.Errorf("%w %q: the port part is empty; write it as vale-1:a", ErrName, s)
	}
	if len(port) > MaxNameLen {
		return Name{}, fmt.Errorf("%w %q: the port part has %d bytes; at most %d are allowed", ErrName, s, len(port), MaxNameLen)
	}
	if i := badByte(port); i >= 0 {
		return Name{}, fmt.Errorf("%w %q: %q is not allowed in the port part; use letters, digits, '_', '-' and '.'", ErrName, s, port[i])
	}
	if port == "." || port == ".." {
		return Name{}, fmt.Errorf("%w %q: the port part may not be %q", ErrName, s, port)
	}
	return Name{canonical, port}, nil
}

// ParseSwitchName reads the name of a switch and gives its canonical
// spelling: vale1 becomes vale-1.
func ParseSwitchName(s string) (string, error) {
	id, ok := strings.CutPrefix(s, "vale")
	if !ok {
		return "", fmt.Errorf("%w: switch %q does not start with \"vale\"", ErrName, s)
	}
	if len(s) > MaxNameLen {
		return "", fmt.Errorf("%w: switch %q has %d bytes; at most %d are allowed", ErrName, s, len(s), MaxNameLen)
	}
	if id == "" {
		return s, nil
	}
	id = strings.TrimPrefix(id, "-")
	if id == "" {
		return "", fmt.Errorf("%w: switch %q has a dash but no id; write it as vale-1", ErrName, s)
	}
	if i := badByte(id); i >= 0 {
		return "", fmt.Errorf("%w: %q is not allowed in switch %q; use letters, digits, '_', '-' and '.'", ErrName, id[i], s)
	}
	if len(id) > MaxNameLen-len("vale-") {
		return "", fmt.Errorf("%w: switch %q is too long; its id may have %d bytes", ErrName, s, MaxNameLen-len("vale-"))
	}
	return "vale-" + id, nil
}

// badByte gives the index of the first byte that a name may not hold, or -1.
func badByte(s string) int {
	for i := range len(s) {
		c := s[i]
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '_', c == '-', c == '.':
		default:
			return i
		}
	}
	return -1
}
