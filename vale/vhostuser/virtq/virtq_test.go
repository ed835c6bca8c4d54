package virtq

import (
	"testing"

	"github.com/vale-vmnet/vale-vmnet/vale"
	"github.com/vale-vmnet/vale-vmnet/vale/frame"
)

var vnet0 frame.VnetHdr

// testLink is a link over one queue.
type testLink struct{ q *Queue }

func (l *testLink) Deliver(b *vale.Batch, list []uint16, t *vale.Tally) {
	if !l.q.Deliver(b, list, t) {
		t.Drop(vale.DropLinkDown, len(list))
	}
}
func (l *testLink) Info() vale.LinkInfo { return vale.LinkInfo{Kind: "test"} }
func (l *testLink) Close() error        { return nil }

func attach(tb testing.TB, f *vale.Fabric, name string, q *Queue) *vale.Port {
	tb.Helper()
	p, _, err := f.Open(vale.Name{Switch: "vale-1", Port: name})
	if err != nil {
		tb.Fatal(err)
	}
	l := &testLink{q}
	if err := p.Attach(l); err != nil {
		tb.Fatal(err)
	}
	p.SetLinkState(l, vale.LinkState{Ready: true})
	return p
}
