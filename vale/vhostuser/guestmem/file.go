package guestmem

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// fileInfo is what mapRegion must know of a file before it maps it.
type fileInfo struct {
	size         uint64
	pageSize     uint64
	shrinkSealed bool
}

// localFilesystems hold files whose pages come from this kernel. Guest memory
// on a file system served by a process or another host (FUSE, NFS, 9p...)
// would let that process stop a forwarding thread in a page fault for as long
// as it likes.
var localFilesystems = []string{"ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs", "zfs", "bcachefs", "ramfs", "overlay"}

// inspect decides whether fd may be guest memory. None of its system calls
// can be made to wait by whoever owns the file.
func inspect(fd int) (fileInfo, error) {
	var st unix.Statx_t
	// AT_STATX_DONT_SYNC: fstat would ask the server of a FUSE file.
	err := unix.Statx(fd, "", unix.AT_EMPTY_PATH|unix.AT_STATX_DONT_SYNC, unix.STATX_TYPE|unix.STATX_SIZE, &st)
	if err != nil {
		return fileInfo{}, fmt.Errorf("stat memory file: %w", err)
	}
	if kind := st.Mode & unix.S_IFMT; kind != unix.S_IFREG {
		return fileInfo{}, fmt.Errorf("%w: it is %s, not a regular file", ErrNotMemory, kindName(kind))
	}
	info := fileInfo{size: st.Size, pageSize: pageSize}
	// Only tmpfs and hugetlbfs know seals, memfd or not: a question to the
	// inode alone.
	seals, err := unix.FcntlInt(uintptr(fd), unix.F_GET_SEALS, 0)
	if err != nil {
		if !errors.Is(err, unix.EINVAL) {
			return fileInfo{}, fmt.Errorf("get seals of memory file: %w", err)
		}
		return info, checkLocal(fd)
	}
	info.shrinkSealed = seals&unix.F_SEAL_SHRINK != 0
	var fs unix.Statfs_t
	if err := unix.Fstatfs(fd, &fs); err != nil {
		return fileInfo{}, fmt.Errorf("stat file system of memory file: %w", err)
	}
	if uint32(fs.Type) == unix.HUGETLBFS_MAGIC {
		info.pageSize = uint64(fs.Bsize)
	}
	return info, nil
}

func kindName(kind uint16) string {
	switch kind {
	case unix.S_IFDIR:
		return "a directory"
	case unix.S_IFCHR:
		return "a character device"
	case unix.S_IFBLK:
		return "a block device"
	case unix.S_IFIFO:
		return "a pipe"
	case unix.S_IFSOCK:
		return "a socket"
	case 0:
		return "an anonymous kernel file"
	}
	return "a file of kind " + strconv.FormatUint(uint64(kind), 8)
}

// checkLocal looks the mount of fd up by its number in the kernel's tables,
// because statfs(2) would ask the server of a FUSE or NFS file.
func checkLocal(fd int) error {
	mount, err := mountOf(fd)
	if err != nil {
		return fmt.Errorf("find mount of memory file: %w", err)
	}
	fsType, err := mountType(mount)
	if err != nil {
		return fmt.Errorf("find mount of memory file: %w", err)
	}
	if !slices.Contains(localFilesystems, fsType) {
		return fmt.Errorf("%w: it lies on %s; use a memfd, tmpfs, hugetlbfs or a local disk", ErrNotMemory, fsType)
	}
	return nil
}

func mountOf(fd int) (string, error) {
	text, err := os.ReadFile("/proc/self/fdinfo/" + strconv.Itoa(fd))
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(text)) {
		if id, ok := strings.CutPrefix(line, "mnt_id:"); ok {
			return strings.TrimSpace(id), nil
		}
	}
	return "", errors.New("fdinfo has no mnt_id")
}

// mountType returns the file system type of a mount of our namespace
// (proc(5), mountinfo: the type follows the lone dash).
func mountType(mount string) (string, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return "", err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		before, after, ok := strings.Cut(lines.Text(), " - ")
		if id, _, _ := strings.Cut(before, " "); !ok || id != mount {
			continue
		}
		fsType, _, _ := strings.Cut(after, " ")
		return fsType, nil
	}
	if err := lines.Err(); err != nil {
		return "", err
	}
	return "a mount that this process does not see", nil
}
