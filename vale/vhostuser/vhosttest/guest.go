package vhosttest

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/vale-vmnet/vale-vmnet/vale/vhostuser/guestmem"
	"github.com/vale-vmnet/vale-vmnet/vale/vhostuser/vhostproto"
)

// Config shapes a Guest. The zero value is a guest like a plain Linux one.
type Config struct {
	// Features and Protocol are what the guest and the front end take of
	// what is offered; 0 takes everything.
	Features vhostproto.Features
	Protocol vhostproto.ProtocolFeatures

	Pairs      int    // queue pairs, default 1
	RingSize   int    // descriptors of a ring, default 256
	Regions    int    // memory regions, default 1
	RegionSize uint64 // bytes of each, default 512 MiB; untouched pages cost nothing
	BufSize    int    // bytes of a transmit buffer, default 2048
	RxBufSize  int    // bytes of a receive buffer; default 2048, without MRG_RXBUF as much as an offload may bring
	RxSegs     int    // descriptors of a receive buffer, default 1
	MTU        int    // sent by NET_SET_MTU, 0: not sent

	// NoAck never asks for REPLY_ACK, as some front ends do.
	NoAck bool
	// Timeout bounds the wait for an answer, default 10 s.
	Timeout time.Duration
}

func (c Config) withDefaults() Config {
	c.Features = cmp.Or(c.Features, ^vhostproto.Features(0))
	c.Protocol = cmp.Or(c.Protocol, ^vhostproto.ProtocolFeatures(0))
	c.Pairs = cmp.Or(c.Pairs, 1)
	c.RingSize = cmp.Or(c.RingSize, 256)
	c.Regions = cmp.Or(c.Regions, 1)
	c.RegionSize = cmp.Or(c.RegionSize, 512<<20)
	c.BufSize = cmp.Or(c.BufSize, 2048)
	c.RxSegs = cmp.Or(c.RxSegs, 1)
	c.Timeout = cmp.Or(c.Timeout, 10*time.Second)
	return c
}

// protocolKnown is what this front end can do.
const protocolKnown = vhostproto.ProtocolFMQ | vhostproto.ProtocolFRARP | vhostproto.ProtocolFReplyAck |
	vhostproto.ProtocolFMTU | vhostproto.ProtocolFConfigureMemSlots | vhostproto.ProtocolFStatus

// featuresKnown is what the guest's driver can do: no packed ring, no IOMMU,
// no control queue (which QEMU handles itself), no dirty log.
const featuresKnown = vhostproto.NetFCsum | vhostproto.NetFGuestCsum | vhostproto.NetFMTU | vhostproto.NetFGSO |
	vhostproto.NetFGuestTSO4 | vhostproto.NetFGuestTSO6 | vhostproto.NetFGuestECN | vhostproto.NetFGuestUFO |
	vhostproto.NetFHostTSO4 | vhostproto.NetFHostTSO6 | vhostproto.NetFHostECN | vhostproto.NetFHostUFO |
	vhostproto.NetFMrgRxbuf | vhostproto.NetFStatus | vhostproto.NetFGuestAnnounce | vhostproto.NetFMQ |
	vhostproto.NetFGuestUSO4 | vhostproto.NetFGuestUSO6 | vhostproto.NetFHostUSO |
	vhostproto.FAnyLayout | vhostproto.FRingIndirectDesc | vhostproto.FRingEventIdx |
	vhostproto.FProtocolFeatures | vhostproto.FVersion1

// Guest is a front end with a guest behind it.
type Guest struct {
	Rx []*Rx // receive rings, one of each pair
	Tx []*Tx // transmit rings

	// What was offered, and what of it is in use after the handshake.
	Offered         vhostproto.Features
	Features        vhostproto.Features
	OfferedProtocol vhostproto.ProtocolFeatures
	Protocol        vhostproto.ProtocolFeatures
	MaxPairs        int // GET_QUEUE_NUM
	MaxMemSlots     int // GET_MAX_MEM_SLOTS

	cfg  Config
	conn *vhostproto.Conn
	mem  memory
}

// Dial connects to a back end that listens, and shakes hands.
func Dial(path string, cfg Config) (*Guest, error) {
	sock, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("connect to back end: %w", err)
	}
	return New(sock, cfg)
}

// Accept waits for a back end that connects, and shakes hands.
func Accept(l *net.UnixListener, cfg Config) (*Guest, error) {
	sock, err := l.AcceptUnix()
	if err != nil {
		return nil, fmt.Errorf("accept back end: %w", err)
	}
	return New(sock, cfg)
}

// New shakes hands over a connection, which it owns from now on, and prepares
// memory and rings. Start sets the rings going.
func New(sock *net.UnixConn, cfg Config) (*Guest, error) {
	g := &Guest{cfg: cfg.withDefaults(), conn: vhostproto.NewConn(sock)}
	if err := g.prepare(); err != nil {
		return nil, errors.Join(err, g.Close())
	}
	return g, nil
}

func (g *Guest) prepare() error {
	if err := g.handshake(); err != nil {
		return err
	}
	for range g.cfg.Regions {
		if _, err := g.mem.add(g.cfg.RegionSize); err != nil {
			return err
		}
	}
	for i := range g.cfg.Pairs {
		rx, err := newRx(g, 2*i)
		if err != nil {
			return err
		}
		g.Rx = append(g.Rx, rx)
		tx, err := newTx(g, 2*i+1)
		if err != nil {
			return err
		}
		g.Tx = append(g.Tx, tx)
	}
	for _, r := range g.rings() {
		r.eventIdx = g.Features.Has(vhostproto.FRingEventIdx)
		r.indirect = g.Features.Has(vhostproto.FRingIndirectDesc)
	}
	for _, rx := range g.Rx {
		if err := rx.fill(); err != nil {
			return err
		}
	}
	return nil
}

// rings lists all rings by index.
func (g *Guest) rings() []*Ring {
	var list []*Ring
	for i := range g.Tx {
		list = append(list, g.Rx[i].Ring, g.Tx[i].Ring)
	}
	return list
}

// HdrLen is the size of the virtio-net header in the rings (virtio 1.2,
// 5.1.6.1: legacy devices have num_buffers only with MRG_RXBUF).
func (g *Guest) HdrLen() int {
	if g.Features&(vhostproto.FVersion1|vhostproto.NetFMrgRxbuf) != 0 {
		return 12
	}
	return 10
}

// rxBufSize is what virtio 1.2, 5.1.6.3.1 asks of a driver.
func (g *Guest) rxBufSize() int {
	const big = vhostproto.NetFGuestTSO4 | vhostproto.NetFGuestTSO6 | vhostproto.NetFGuestUFO |
		vhostproto.NetFGuestUSO4 | vhostproto.NetFGuestUSO6
	switch {
	case g.cfg.RxBufSize != 0:
		return g.cfg.RxBufSize
	case g.Features.Has(vhostproto.NetFMrgRxbuf) || g.Features&big == 0:
		return 2048
	}
	return 64<<10 + 64
}

// Start tells the back end memory and rings, enables the rings, and returns
// when the back end has heard it all.
func (g *Guest) Start() error {
	if err := g.shareMemory(); err != nil {
		return err
	}
	if g.cfg.MTU != 0 && g.Protocol.Has(vhostproto.ProtocolFMTU) {
		if err := g.Do(vhostproto.NetSetMTU, vhostproto.U64(g.cfg.MTU)); err != nil {
			return err
		}
	}
	for _, r := range g.rings() {
		if err := g.startRing(r); err != nil {
			return err
		}
	}
	if err := g.Enable(true); err != nil {
		return err
	}
	return g.Sync()
}

// Enable enables or disables all rings.
func (g *Guest) Enable(on bool) error {
	if !g.Features.Has(vhostproto.FProtocolFeatures) {
		return nil // rings are enabled from the start
	}
	var n uint32
	if on {
		n = 1
	}
	for _, r := range g.rings() {
		if err := g.Do(vhostproto.SetVringEnable, vhostproto.VringState{Index: uint32(r.Index), Num: n}); err != nil {
			return err
		}
	}
	return nil
}

func (g *Guest) startRing(r *Ring) error {
	index := uint32(r.Index)
	file := vhostproto.VringFile{Index: uint8(index)}
	steps := []struct {
		req  vhostproto.Request
		body vhostproto.Body
		fds  []int
	}{
		{vhostproto.SetVringCall, file, []int{r.call}},
		{vhostproto.SetVringErr, file, []int{r.errFD}},
		{vhostproto.SetVringNum, vhostproto.VringState{Index: index, Num: uint32(r.size)}, nil},
		{vhostproto.SetVringBase, vhostproto.VringState{Index: index, Num: uint32(r.base)}, nil},
		{vhostproto.SetVringAddr, vhostproto.VringAddr{
			Index: index, Desc: userAddr(r.descAt), Avail: userAddr(r.avAt), Used: userAddr(r.usAt)}, nil},
		{vhostproto.SetVringKick, file, []int{r.kick}},
	}
	for _, s := range steps {
		if err := g.Do(s.req, s.body, s.fds...); err != nil {
			return err
		}
	}
	return nil
}

// Stop stops all rings. Afterwards the back end touches no ring, and Start
// goes on where it stopped.
func (g *Guest) Stop() error {
	for _, r := range g.rings() {
		m, err := g.Ask(vhostproto.GetVringBase, vhostproto.VringState{Index: uint32(r.Index)})
		if err != nil {
			return err
		}
		state, err := vhostproto.ParseVringState(m.Payload)
		if err != nil {
			return err
		}
		if state.Index != uint32(r.Index) || uint16(state.Num)-r.lastUsed > r.availIdx-r.lastUsed {
			return fmt.Errorf("stop ring %d: %w: it stopped at %+v, available is %d", r.Index, ErrPeer, state, r.availIdx)
		}
		r.base = uint16(state.Num)
	}
	return nil
}

// Reconnect goes on over another connection after the old one was lost, as
// QEMU does: each ring begins again at its used index, so that what the old
// back end took but did not complete is not lost.
func (g *Guest) Reconnect(sock *net.UnixConn) error {
	g.conn.Close()
	g.conn = vhostproto.NewConn(sock)
	was := g.Features
	if err := g.handshake(); err != nil {
		return err
	}
	if g.Features != was {
		return fmt.Errorf("reconnect: %w: it offers %#x now, the guest uses %#x", ErrPeer, g.Offered, was)
	}
	for _, r := range g.rings() {
		r.base = r.UsedIdx()
	}
	return g.Start()
}

// Close hangs up and frees everything.
func (g *Guest) Close() error {
	g.conn.Close()
	for _, rx := range g.Rx {
		rx.close()
	}
	for _, tx := range g.Tx {
		tx.close()
	}
	g.Rx, g.Tx = nil, nil
	return g.mem.close()
}

// Regions lists the memory of the guest.
func (g *Guest) Regions() []guestmem.Region {
	var list []guestmem.Region
	for _, r := range g.mem.regions {
		list = append(list, r.Region)
	}
	return list
}
