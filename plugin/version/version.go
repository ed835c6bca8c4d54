// Package version tells which vale-vmnet this is.
package version

import "runtime/debug"

// Version is set by the linker for releases, see the Makefile. Read String.
var Version string

// String gives the release, else what the Go toolchain noted about the source.
func String() string {
	if Version != "" {
		return Version
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		return v
	}
	return "devel"
}
