package main

import (
	"encoding/binary"
	"fmt"
	"net"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/vale-vmnet/vale-vmnet/deploy/guest/control"
)

// watch sees what a network analyser would: every frame, also those for others.
func watch(name string) error {
	fd, nic, err := packetSocket(name, unix.ETH_P_ALL)
	if err != nil {
		return err
	}
	promisc := unix.PacketMreq{Ifindex: int32(nic.Index), Type: unix.PACKET_MR_PROMISC}
	if err := unix.SetsockoptPacketMreq(fd, unix.SOL_PACKET, unix.PACKET_ADD_MEMBERSHIP, &promisc); err != nil {
		return fmt.Errorf("make %s promiscuous: %w", name, err)
	}
	fmt.Println("watching", name)
	type sight struct {
		mac  [6]byte
		kind uint16
	}
	seen := map[sight]bool{}
	buf := make([]byte, 1<<16)
	for {
		n, from, err := unix.Recvfrom(fd, buf, 0)
		if err != nil {
			return fmt.Errorf("receive on %s: %w", name, err)
		}
		if ll, ok := from.(*unix.SockaddrLinklayer); ok && ll.Pkttype == unix.PACKET_OUTGOING || n < 14 {
			continue
		}
		s := sight{[6]byte(buf[6:12]), binary.BigEndian.Uint16(buf[12:14])}
		if !seen[s] {
			seen[s] = true
			fmt.Printf("%s %#04x\n", net.HardwareAddr(s.mac[:]), s.kind)
		}
	}
}

// send makes frames that no kernel makes by itself.
func send(name, to, times string) error {
	dst, err := net.ParseMAC(to)
	if err != nil || len(dst) != 6 {
		return fmt.Errorf("parse destination %q: want a MAC address", to)
	}
	count, err := strconv.Atoi(times)
	if err != nil {
		return fmt.Errorf("parse count %q: want a number", times)
	}
	fd, nic, err := packetSocket(name, 0)
	if err != nil {
		return err
	}
	frame := make([]byte, 60)
	copy(frame, dst)
	copy(frame[6:], nic.HardwareAddr)
	binary.BigEndian.PutUint16(frame[12:], control.EtherType)
	for i := range count {
		binary.BigEndian.PutUint32(frame[14:], uint32(i))
		if _, err := unix.Write(fd, frame); err != nil {
			return fmt.Errorf("send frame %d on %s: %w", i, name, err)
		}
	}
	return nil
}

// packetSocket opens a raw socket on one card. Protocol 0 receives nothing.
func packetSocket(name string, protocol uint16) (int, *net.Interface, error) {
	nic, err := net.InterfaceByName(name)
	if err != nil {
		return -1, nil, fmt.Errorf("find network card %s: %w", name, err)
	}
	wire := protocol<<8 | protocol>>8 // packet(7) wants network order
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, int(wire))
	if err != nil {
		return -1, nil, fmt.Errorf("open raw socket: %w", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: wire, Ifindex: nic.Index}); err != nil {
		return -1, nil, fmt.Errorf("bind raw socket to %s: %w", name, err)
	}
	return fd, nic, nil
}
