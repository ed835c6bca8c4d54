package dpdk

import (
	"context"
	"errors"
	"net"
	"os"
	"strings"
	"testing"
	"time"
)

const statsText = `
  ######################## NIC statistics for port 1  ########################
  RX-packets: 1000064    RX-missed: 3          RX-bytes:  64004096
  RX-errors: 1
  RX-nombuf:  2         
  TX-packets: 1000096    TX-errors: 0          TX-bytes:  64006144

  Throughput (since last show)
  Rx-pps:            0          Rx-bps:            0
  Tx-pps:            0          Tx-bps:            0
  ############################################################################
`

func TestParseStats(t *testing.T) {
	got, err := parseStats(statsText)
	if err != nil {
		t.Fatal(err)
	}
	want := PortStats{
		RxPackets: 1000064, RxMissed: 3, RxBytes: 64004096, RxErrors: 1, RxNoMbuf: 2,
		TxPackets: 1000096, TxBytes: 64006144,
	}
	if got != want {
		t.Errorf("parseStats = %+v, want %+v", got, want)
	}
}

func TestParseStatsRefuses(t *testing.T) {
	for _, text := range []string{
		"",
		"Invalid port 7",
		strings.Replace(statsText, "TX-errors", "TX-oops", 1),
		strings.Replace(statsText, "1000064", "99999999999999999999999", 1),
	} {
		if s, err := parseStats(text); err == nil {
			t.Errorf("parseStats(%q) = %+v, want an error", text, s)
		}
	}
}

func TestEALArgs(t *testing.T) {
	u := VirtioUser{Socket: "/run/x.sock", QueueSize: 256, MAC: net.HardwareAddr{2, 0, 0, 0, 0, 1}}
	args := strings.Join(EAL{Cores: "0@1", MemoryMB: 64, Prefix: "p", Vdevs: []string{u.Vdev(0)}}.Args(), " ")
	want := "--lcores 0@1 --main-lcore 0 -m 64 --no-pci --no-telemetry --file-prefix p --in-memory --single-file-segments" +
		" --vdev net_virtio_user0,path=/run/x.sock,queues=1,queue_size=256,mac=02:00:00:00:00:01"
	if args != want {
		t.Errorf("args\n%s\nwant\n%s", args, want)
	}
	u.Listen = true
	if v := u.Vdev(1); !strings.HasSuffix(v, ",server=1") || !strings.HasPrefix(v, "net_virtio_user1,") {
		t.Errorf("listening vdev %q", v)
	}
}

func TestConsole(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	pmd, err := StartTestpmd(ctx, EAL{
		Cores: "0@0,1@0", MemoryMB: 64, NoHuge: true, Prefix: "vale-console-test",
		Vdevs: []string{"net_null0,no-rx=1", "net_null1,no-rx=1"},
	}, "--total-num-mbufs=2048")
	if errors.Is(err, ErrNoTestpmd) && os.Getenv("CI") != "true" {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer pmd.Close()
	for _, c := range []struct{ command, answer string }{
		{"set fwd rxonly", "Set rxonly packet forwarding mode"},
		{"no such command", "Command not found"},
	} {
		got, err := pmd.Command(ctx, c.command)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(got, c.answer) {
			t.Errorf("%q answered %q, want %q in it", c.command, got, c.answer)
		}
	}
	// 3 bursts of 32 from each port into nowhere: counted once each.
	for _, command := range []string{"start tx_first 3", "stop"} {
		if _, err := pmd.Command(ctx, command); err != nil {
			t.Fatal(err)
		}
	}
	s, err := pmd.Stats(ctx, 1)
	if err != nil {
		t.Fatal(err)
	}
	if s.TxPackets != 96 || s.RxPackets != 0 {
		t.Errorf("stats %+v, want 96 frames sent and none received", s)
	}
}

func TestConsoleReportsDeath(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	pmd, err := StartTestpmd(ctx, EAL{
		Cores: "0@0", MemoryMB: 64, NoHuge: true, Prefix: "vale-death-test",
		Vdevs: []string{"net_virtio_user0,path=/nonexistent/socket"},
	})
	if errors.Is(err, ErrNoTestpmd) && os.Getenv("CI") != "true" {
		t.Skip(err)
	}
	if err == nil {
		pmd.Close()
		t.Fatal("testpmd started on a socket that is not there")
	}
	if !strings.Contains(err.Error(), "/nonexistent/socket") {
		t.Errorf("error %q does not name the socket", err)
	}
}
