package porttest

import (
	"errors"

	"github.com/vale-vmnet/vale-vmnet/vale"
)

func checkUnicast(r *rig) {
	r.learn()
	for from := range r.peers {
		for to := range r.peers {
			if to == from {
				continue
			}
			f := r.frame(to, from, 100)
			r.send(from, f)
			r.expect(to, f)
		}
	}
	// Nobody has received anything else.
	r.learn()
}

func checkFlood(r *rig) {
	// Station 1 has not spoken, so what is for it goes everywhere but back.
	unknown := r.frame(1, 0, 64)
	r.send(0, unknown)
	r.expect(1, unknown)
	r.expect(2, unknown)
	group := r.frame(everybody, 0, 64)
	copy(group, []byte{0x33, 0x33, 0, 0, 0, 1})
	r.send(0, group)
	r.expect(1, group)
	r.expect(2, group)
	r.mark(1)
	c := r.settled([]int{2, 1, 0})
	if c[0].InCopies != 4 || c[0].InMulticast != 1 {
		r.Errorf("two flooded frames, one of them multicast, were counted as %d copies and %d multicast", c[0].InCopies, c[0].InMulticast)
	}
}

func checkOrder(r *rig) {
	r.learn()
	const rounds = 50
	for range rounds {
		burst := make([][]byte, r.kind.Burst)
		for k := range burst {
			burst[k] = r.frame(1, 0, 60+k)
			if k%5 == 0 {
				copy(burst[k], address(everybody)) // unicast and flooded do not overtake each other
			}
		}
		r.send(0, burst...)
		r.expect(1, burst...)
	}
	n := rounds*r.kind.Burst + 1
	c := r.settled([]int{n, 1})
	if c[1].OutFrames != uint64(n) {
		r.Errorf("%d frames out, want %d", c[1].OutFrames, n)
	}
}

func checkSizes(r *rig) {
	r.learn()
	sent, bytes := 1, 60
	for _, size := range []int{14, 15, 46, 59, 60, 61, 63, 64, 65, 127, 128, 1500, 1514, 2047, 2048, 2049, 4095, 4096, 4097, 9000, 9014, 16384, 32768, 65535, r.kind.MaxLen} {
		if size > r.kind.MaxLen {
			continue
		}
		for range 3 {
			f := r.frame(1, 0, size)
			r.send(0, f)
			r.expect(1, f)
			sent++
			bytes += size
		}
	}
	c := r.settled([]int{sent, 1})
	if c[0].InBytes != uint64(bytes) || c[1].OutBytes != uint64(bytes) {
		r.Errorf("%d bytes were counted in and %d out, want %d", c[0].InBytes, c[1].OutBytes, bytes)
	}
}

func checkRunt(r *rig) {
	r.learn()
	f := r.frame(1, 0, 60)
	r.send(0, []byte{1}, address(1), r.frame(1, 0, 13), f)
	r.expect(1, f)
	c := r.settled([]int{5, 1})
	if c[0].InDrops[vale.DropRunt] != 3 {
		r.Errorf("%d runts were counted, want 3", c[0].InDrops[vale.DropRunt])
	}
}

func checkMTU(r *rig) {
	r.learn()
	if err := r.ports[0].SetMTU(1500); err != nil {
		r.Fatal(err)
	}
	for from, to := range []int{1, 0} {
		fits := r.frame(to, from, 1514)
		r.send(from, r.frame(to, from, 1515), fits, r.frame(to, from, 1515))
		r.expect(to, fits)
	}
	c := r.settled([]int{4, 4})
	if got := c[0].InDrops[vale.DropTooLong]; got != 2 {
		r.Errorf("%d frames too long for their own port, want 2", got)
	}
	if got := c[0].OutDrops[vale.DropTooLong]; got != 2 {
		r.Errorf("%d frames too long for the receiving port, want 2", got)
	}
	if err := r.ports[0].SetMTU(0); err != nil {
		r.Fatal(err)
	}
	f := r.frame(1, 0, 1515)
	r.send(0, f)
	r.expect(1, f)
}

func checkUpDown(r *rig) {
	r.learn()
	r.ports[0].SetUp(false)
	r.send(0, r.frame(1, 0, 60))
	r.until("a frame from the port that is down is dropped", func() bool {
		return r.ports[0].Counters().InDrops[vale.DropPortDown] == 1
	})
	// Station 0 is forgotten: this floods, but not to the port that is down.
	f := r.frame(0, 1, 60)
	r.send(1, f)
	r.expect(2, f)
	r.ports[0].SetUp(true)
	r.learn()
	f = r.frame(0, 1, 60)
	r.send(1, f)
	r.expect(0, f)
	r.settled([]int{3, 4, 2})
}

func checkBusy(r *rig) {
	r.learn()
	if _, err := r.ports[0].Connect(vale.ClientConfig{}); !errors.Is(err, vale.ErrBusy) {
		r.Fatalf("connect to a port that has a link: %v, want %v", err, vale.ErrBusy)
	}
	r.learn()
}

func checkAgain(r *rig) {
	for k := range 20 {
		r.disconnect(0)
		r.send(1, r.frame(0, 1, 60))
		r.until("the frame for nobody is dropped", func() bool {
			return r.ports[1].Counters().InDrops[vale.DropNoReceiver] == uint64(k+1)
		})
		r.connect(0)
		r.learn()
		f := r.frame(0, 1, 1514)
		r.send(1, f)
		r.expect(0, f)
	}
}
