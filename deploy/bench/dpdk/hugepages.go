// Package dpdk runs DPDK programs beside the project: it reserves the huge
// pages they live on, knows the EAL options that make virtio-user and net_vhost
// work without a device or a hugetlbfs mount, and drives dpdk-testpmd through
// its console.
//
// Benchmarks use DPDK as the yardstick, end-to-end tests use it as a vhost-user
// front end that somebody else wrote.
package dpdk

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// ErrNoHugepages says that the machine has too few free 2 MiB huge pages and
// that this process could not add them.
var ErrNoHugepages = errors.New("too few free 2 MiB huge pages")

const nrHugepages = "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages"

// ReserveHugepages adds n 2 MiB huge pages to the machine's pool and returns
// the function that takes them out again. Several processes may do so at the
// same time: each adds and removes its own share. Without the privilege to
// change the pool, n free pages already there will do.
func ReserveHugepages(n int) (release func() error, err error) {
	if addErr := addHugepages(n); addErr != nil {
		free, err := readCount(strings.Replace(nrHugepages, "nr_", "free_", 1))
		if err == nil && free >= n {
			return func() error { return nil }, nil
		}
		return nil, fmt.Errorf("reserve %d huge pages: %w (%w); run as root, or as root: sysctl vm.nr_hugepages=%d",
			n, ErrNoHugepages, addErr, n)
	}
	return func() error { return addHugepages(-n) }, nil
}

// addHugepages changes the size of the pool by delta under a lock on the file,
// and puts the old size back if memory is too fragmented for the new one.
func addHugepages(delta int) error {
	f, err := os.OpenFile(nrHugepages, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		return fmt.Errorf("lock %s: %w", nrHugepages, err)
	}
	old, err := readCount(nrHugepages)
	if err != nil {
		return err
	}
	want := max(old+delta, 0)
	if err := writeCount(f, want); err != nil {
		return err
	}
	got, err := readCount(nrHugepages)
	if err != nil {
		return err
	}
	if got < want {
		return errors.Join(fmt.Errorf("kernel gave %d of %d huge pages: memory is full or fragmented", got, want),
			writeCount(f, old))
	}
	return nil
}

func writeCount(f *os.File, n int) error {
	_, err := f.WriteAt([]byte(strconv.Itoa(n)), 0)
	return err
}

func readCount(path string) (int, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	n, err := strconv.Atoi(string(bytes.TrimSpace(b)))
	if err != nil {
		return 0, fmt.Errorf("read %s: %w", path, err)
	}
	return n, nil
}
