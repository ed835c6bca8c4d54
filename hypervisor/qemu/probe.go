package qemu

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
)

// Probe asks a QEMU for its version and its network back ends. path is a path
// or a name to look up in PATH.
func Probe(ctx context.Context, path string) (Version, Backends, error) {
	text, err := ask(ctx, path, "-version")
	if err != nil {
		return Version{}, nil, err
	}
	version, err := ParseVersion(text)
	if err != nil {
		return Version{}, nil, fmt.Errorf("probe %s: %w", path, err)
	}
	// Boards without a default machine answer only if they are given one.
	text, err = ask(ctx, path, "-machine", "none", "-display", "none", "-netdev", "help")
	if err != nil {
		return Version{}, nil, err
	}
	backends, err := ParseBackends(text)
	if err != nil {
		return Version{}, nil, fmt.Errorf("probe %s: %w", path, err)
	}
	return version, backends, nil
}

// ask runs QEMU for an answer on its standard output.
func ask(ctx context.Context, path string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, path, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		if errors.Is(err, exec.ErrNotFound) {
			return "", fmt.Errorf("probe %s: %w (install QEMU or give its path)", path, err)
		}
		why, _, _ := strings.Cut(strings.TrimSpace(stderr.String()), "\n")
		return "", fmt.Errorf("probe %s %s: %w: %w: %s", path, strings.Join(args, " "), ErrProbe, err, why)
	}
	return stdout.String(), nil
}

var versionLine = regexp.MustCompile(`(?m)^QEMU (?:PC )?emulator version (\d{1,4})\.(\d{1,4})(?:\.(\d{1,4}))?`)

// ParseVersion reads the answer to `-version`.
func ParseVersion(text string) (Version, error) {
	m := versionLine.FindStringSubmatch(text)
	if m == nil {
		return Version{}, fmt.Errorf("read QEMU's version: %w: -version says %q", ErrProbe, firstLine(text))
	}
	var v Version
	for i, part := range []*int{&v.Major, &v.Minor, &v.Micro} {
		*part, _ = strconv.Atoi(m[i+1]) // digits, or empty for no micro version
	}
	return v, nil
}

// ParseBackends reads the answer to `-netdev help`: a heading that ends in a
// colon, then one type per line.
func ParseBackends(text string) (Backends, error) {
	set := Backends{}
	for sc := bufio.NewScanner(strings.NewReader(text)); sc.Scan(); {
		line := strings.TrimSpace(sc.Text())
		if line != "" && !strings.ContainsAny(line, " \t:") {
			set[line] = true
		}
	}
	// Every QEMU has hubport, whatever it is built with.
	if !set["hubport"] {
		return nil, fmt.Errorf("read QEMU's network back ends: %w: -netdev help says %q", ErrProbe, firstLine(text))
	}
	return set, nil
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(text), "\n")
	return line
}
