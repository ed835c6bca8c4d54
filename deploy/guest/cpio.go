package guest

import (
	"fmt"
	"io"
)

// archive writes the "newc" form of cpio that the kernel unpacks at boot
// (Documentation/driver-api/early-userspace/buffer-format.rst in Linux).
type archive struct {
	w     io.Writer
	inode uint32
	dirs  map[string]bool
	err   error
}

// File types in the mode field, from inode(7).
const (
	modeDir     = 0o040000
	modeChar    = 0o020000
	modeFile    = 0o100000
	modeSymlink = 0o120000
)

func newArchive(w io.Writer) *archive { return &archive{w: w, dirs: map[string]bool{}} }

// file adds a regular file and the directories above it.
func (a *archive) file(name string, perm uint32, data []byte) {
	a.parents(name)
	a.entry(name, modeFile|perm, 0, 0, data)
}

func (a *archive) symlink(name, target string) {
	a.parents(name)
	a.entry(name, modeSymlink|0o777, 0, 0, []byte(target))
}

func (a *archive) charDevice(name string, perm, major, minor uint32) {
	a.parents(name)
	a.entry(name, modeChar|perm, major, minor, nil)
}

func (a *archive) parents(name string) {
	for i := 1; i < len(name); i++ {
		if name[i] != '/' || a.dirs[name[:i]] {
			continue
		}
		a.dirs[name[:i]] = true
		a.entry(name[:i], modeDir|0o755, 0, 0, nil)
	}
}

// close ends the archive and returns the first error of all writes.
func (a *archive) close() error {
	a.entry("TRAILER!!!", 0, 0, 0, nil)
	return a.err
}

// entry writes one member. Names have no leading slash; the kernel unpacks
// them below its root.
func (a *archive) entry(name string, mode, rdevMajor, rdevMinor uint32, data []byte) {
	for len(name) > 0 && name[0] == '/' {
		name = name[1:]
	}
	a.inode++
	const owner, group, links, mtime, devMajor, devMinor, check = 0, 0, 1, 0, 0, 0, 0
	a.printf("070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%s\x00",
		a.inode, mode, owner, group, links, mtime, len(data),
		devMajor, devMinor, rdevMajor, rdevMinor, len(name)+1, check, name)
	const header = 110
	a.pad(header + len(name) + 1)
	a.write(data)
	a.pad(len(data))
}

// pad fills up to the four-byte boundary that every header and body keeps.
func (a *archive) pad(n int) { a.write(make([]byte, -n&3)) }

func (a *archive) printf(format string, args ...any) { a.write(fmt.Appendf(nil, format, args...)) }

func (a *archive) write(p []byte) {
	if a.err == nil {
		_, a.err = a.w.Write(p)
	}
}
