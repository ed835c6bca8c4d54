package e2e

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vale-vmnet/vale-vmnet/deploy/guest"
)

// TestTwoSwitches is the second example of the vale(4) manual page: "create two
// switches, each connected to two qemu machines on different ports". Both pairs
// use the same addresses, as two tenants may.
func TestTwoSwitches(t *testing.T) {
	s := newSite(t, 4*time.Minute)
	image := s.image(guest.Cloud)
	start := func(t *testing.T, sw, name string) *node {
		return s.start(t, name, image, "-net", "nic", "-net", fmt.Sprintf("netmap,ifname=%s:%s", sw, name))
	}
	const one, two = "10.1.0.1", "10.1.0.2"
	a, b := start(t, "vale-1", "a"), start(t, "vale-1", "b")
	c, d := start(t, "vale-2", "c"), start(t, "vale-2", "d")
	s.up(t, map[*node]string{a: one, b: two, c: one, d: two})

	t.Run("guests of one switch reach each other", func(t *testing.T) {
		for _, n := range []*node{a, c} {
			n.run(t, "ping -c 3 -i 0.2 -W 5 %s", two)
		}
		for _, n := range []*node{b, d} {
			n.run(t, "ping -c 3 -i 0.2 -W 5 %s", one)
		}
	})
	t.Run("no frame crosses between switches", func(t *testing.T) { isolation(t, []*node{a, b}, []*node{c, d}) })

	t.Run("a killed guest leaves the others alone and may come back", func(t *testing.T) {
		s.waitLink(t, "vale-1:b", "up")
		mac := b.mac
		// Rounds with an end of their own: a ping that is interrupted counts the
		// packet in flight as lost.
		c.run(t, "touch /tmp/go-on")
		ping := make(chan error, 1)
		go func() {
			_, err := c.Run(s.ctx, "while [ -e /tmp/go-on ]; do ping -c 5 -i 0.1 -W 5 "+two+" > /tmp/ping; grep -q ' 0% packet loss' /tmp/ping || { cat /tmp/ping; exit 1; }; done")
			ping <- err
		}()
		b.Kill()
		s.waitLink(t, "vale-1:b", "down")
		if _, err := a.Run(s.ctx, "ping -c 1 -W 1 "+two); err == nil {
			t.Error("a killed guest answers ping")
		}
		s.waitLink(t, "vale-1:a", "up")

		b = start(t, "vale-1", "b")
		s.up(t, map[*node]string{b: two})
		s.waitLink(t, "vale-1:b", "up")
		if b.mac != mac {
			t.Errorf("guest came back with address %s, had %s", b.mac, mac)
		}
		a.reaches(t, two)
		c.run(t, "rm /tmp/go-on")
		if err := <-ping; err != nil {
			t.Errorf("the other switch lost packets meanwhile: %v", err)
		}
	})

	for _, way := range []string{"stopped", "killed"} {
		t.Run("guests survive the agent being "+way, func(t *testing.T) {
			bin := s.agent.Bin
			if way == "killed" {
				s.agent.Kill()
			} else if err := s.agent.Stop(s.ctx); err != nil {
				t.Fatal(err)
			}
			if _, err := a.Run(s.ctx, "ping -c 1 -W 1 "+two); err == nil {
				t.Error("guests reach each other without an agent: they are not connected through it")
			}
			s.startAgent(t, bin)
			a.reaches(t, two)
			d.reaches(t, one)
			for _, name := range []string{"vale-1:a", "vale-1:b", "vale-2:c", "vale-2:d"} {
				s.waitLink(t, name, "up")
			}
			isolation(t, []*node{a, b}, []*node{c, d})
		})
	}
}

// isolation watches every guest's wire while all guests send what a careless
// switch would let through: broadcasts, frames to unknown addresses and to the
// addresses of the other switch's guests.
func isolation(t *testing.T, groups ...[]*node) {
	t.Helper()
	all := slices.Concat(groups...)
	s := all[0].site
	for _, n := range all {
		n.run(t, "guestd watch eth0 > /tmp/seen 2>&1 & echo $! > /tmp/watch.pid")
		s.eventually(t, "watch starts in guest "+n.name, func() error { return n.saw("watching eth0") })
	}
	for _, n := range all {
		n.run(t, "guestd send eth0 ff:ff:ff:ff:ff:ff 50; guestd send eth0 02:00:00:00:00:99 50")
		for _, other := range all {
			if other != n {
				n.run(t, "guestd send eth0 %s 50", other.mac)
			}
		}
	}
	// A frame that strays is queued before the last one that belongs: when that
	// is seen, the stray one has been.
	for _, group := range groups {
		for _, n := range group {
			for _, mate := range group {
				if mate != n {
					s.eventually(t, "guest "+n.name+" sees guest "+mate.name, func() error {
						mate.run(t, "guestd send eth0 ff:ff:ff:ff:ff:ff 1")
						return n.saw(mate.mac + " 0x88b5")
					})
				}
			}
		}
	}
	for _, group := range groups {
		for _, n := range group {
			seen := n.run(t, "kill $(cat /tmp/watch.pid); cat /tmp/seen")
			for line := range strings.Lines(seen) {
				mac, _, _ := strings.Cut(strings.TrimSpace(line), " ")
				belongs := mac == "watching" || slices.ContainsFunc(group, func(m *node) bool { return m.mac == mac })
				if !belongs {
					t.Errorf("guest %s saw a frame of another switch: %s", n.name, line)
				}
			}
		}
	}
}

// saw is nil when the guest's watch has printed text.
func (n *node) saw(text string) error {
	out, err := n.Run(n.site.ctx, "cat /tmp/seen")
	if err == nil && !strings.Contains(out, text) {
		err = errors.New("seen so far: " + out)
	}
	return err
}
