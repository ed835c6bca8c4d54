package main

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// leave is Ctrl-], telnet's way out: Ctrl-C belongs to the guest's shell.
const leave = 0x1d

// console joins this terminal and a guest's console until either ends.
func console(socket string) error {
	conn, err := net.Dial("unix", socket)
	if err != nil {
		return fmt.Errorf("connect to console: %w", err)
	}
	defer conn.Close()
	restore, err := rawTerminal()
	if err != nil {
		return err
	}
	defer restore()
	ended := make(chan error, 2)
	go func() {
		_, err := io.Copy(os.Stdout, conn)
		ended <- err
	}()
	go func() {
		buf := make([]byte, 256)
		for {
			n, err := os.Stdin.Read(buf)
			at := bytes.IndexByte(buf[:n], leave)
			if at >= 0 {
				n = at
			}
			if _, werr := conn.Write(buf[:n]); werr != nil || err == io.EOF || at >= 0 {
				ended <- werr
				return
			}
		}
	}()
	return <-ended
}

// rawTerminal passes every key on unchanged. Without a terminal (a pipe) there
// is nothing to set.
func rawTerminal() (restore func(), err error) {
	const fd = 0
	old, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return func() {}, nil
	}
	raw := *old
	raw.Iflag &^= unix.ICRNL | unix.IXON
	raw.Lflag &^= unix.ECHO | unix.ICANON | unix.ISIG | unix.IEXTEN
	raw.Cc[unix.VMIN], raw.Cc[unix.VTIME] = 1, 0
	if err := unix.IoctlSetTermios(fd, unix.TCSETS, &raw); err != nil {
		return nil, fmt.Errorf("set terminal raw: %w", err)
	}
	return func() { _ = unix.IoctlSetTermios(fd, unix.TCSETS, old) }, nil
}
