package porttest

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"

	"github.com/vale-vmnet/vale-vmnet/vale"
)

// checkPeerVanishes takes a receiver away in the middle of its traffic.
func checkPeerVanishes(r *rig) {
	r.learn()
	const bursts = 300
	begun := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for k := range bursts {
			burst := make([][]byte, 16)
			for j := range burst {
				burst[j] = stamped(1, 0, 1000, uint32(k*16+j))
			}
			if err := r.peers[0].Send(burst...); err != nil {
				r.Errorf("send while the receiver vanishes: %v", err)
				break
			}
			if k == bursts/10 {
				close(begun)
			}
		}
	})
	<-begun
	r.disconnect(1)
	wg.Wait()
	r.settled([]int{bursts*16 + 1, 1, 1})
	// With its receiver gone the traffic was flooded to the third port.
	n := int(r.ports[2].Counters().OutFrames) - 2
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for range n {
		f, err := r.peers[2].Recv(ctx)
		if err != nil {
			r.Fatalf("receive flooded frames: %v", err)
		}
		if _, _, err := stampOf(f); err != nil {
			r.Fatal(err)
		}
	}
	r.connect(1)
	r.learn()
}

// checkNobodyReads overruns everybody. What was delivered is there when they
// read at last, all else was counted as dropped.
func checkNobodyReads(r *rig) {
	r.learn()
	const frames = 3000
	var wg sync.WaitGroup
	for from := range r.peers {
		rnd := rand.New(rand.NewPCG(uint64(from), 7))
		wg.Go(func() {
			for k := 0; k < frames; k += 20 {
				burst := make([][]byte, 20)
				for j := range burst {
					to := rnd.IntN(len(r.peers)+1) - 1
					burst[j] = stamped(to, from, minStamped+rnd.IntN(1500), uint32(k+j))
				}
				if err := r.peers[from].Send(burst...); err != nil {
					r.Errorf("send from peer %d while nobody reads: %v", from, err)
					return
				}
			}
		})
	}
	wg.Wait()
	sent := make([]int, len(r.peers))
	for i := range sent {
		sent[i] = frames + 1
	}
	counters := r.settled(sent)
	for i, c := range counters {
		if d := vale.Sum(c.InDrops); d != c.InDrops[vale.DropRingFull]+c.InDrops[vale.DropHairpin] {
			r.Errorf("port %d dropped for other reasons than full rings and frames to itself: %v", i, c.InDrops)
		}
		r.receive(i, int(c.OutFrames)-(len(r.peers)-1))
	}
	// And not one more.
	r.learn()
}

// receive takes n frames at peer i and checks that each is whole, not its own,
// and after those that its sender sent before.
func (r *rig) receive(i, n int) {
	r.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	o := newOrder(r, i)
	for k := range n {
		f, err := r.peers[i].Recv(ctx)
		if err != nil {
			r.Fatalf("receive frame %d of %d at peer %d: %v", k+1, n, i, err)
		}
		o.check(f)
	}
}

// order watches the frames that one peer receives.
type order struct {
	*rig
	at   int
	next []int64 // by sender: the least number that may come
}

func newOrder(r *rig, at int) *order { return &order{r, at, make([]int64, len(r.peers))} }

func (o *order) check(f []byte) {
	from, seq, err := stampOf(f)
	switch {
	case err != nil:
		o.Errorf("receive at peer %d: %v", o.at, err)
	case from < 0 || from >= len(o.next) || from == o.at:
		o.Errorf("peer %d received a frame of peer %d", o.at, from)
	case int64(seq) < o.next[from]:
		o.Errorf("peer %d received frame %d of peer %d after frame %d", o.at, seq, from, o.next[from]-1)
	default:
		o.next[from] = int64(seq) + 1
	}
}

// checkManySenders has all others send to one peer that reads along.
func checkManySenders(r *rig) {
	r.learn()
	const frames = 4000
	var received atomic.Int64
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var reader, senders sync.WaitGroup
	reader.Go(func() {
		for o := newOrder(r, 0); ; received.Add(1) {
			f, err := r.peers[0].Recv(ctx)
			if err != nil {
				if !errors.Is(err, context.Canceled) {
					r.Errorf("receive from many senders: %v", err)
				}
				return
			}
			o.check(f)
		}
	})
	sent := []int{1}
	for from := 1; from < len(r.peers); from++ {
		sent = append(sent, frames+1)
		senders.Go(func() {
			for k := 0; k < frames; k += 10 {
				burst := make([][]byte, 10)
				for j := range burst {
					burst[j] = stamped(0, from, minStamped+(k+j)%1400, uint32(k+j))
				}
				if err := r.peers[from].Send(burst...); err != nil {
					r.Errorf("send from peer %d: %v", from, err)
					return
				}
			}
		})
	}
	senders.Wait()
	c := r.settled(sent)
	want := int64(c[0].OutFrames) - int64(len(r.peers)-1)
	r.until("the receiver has what was delivered to it", func() bool { return received.Load() >= want })
	cancel()
	reader.Wait()
	if got := received.Load(); got != want {
		r.Errorf("received %d frames; the switch delivered %d", got, want)
	}
	r.learn()
}
