package vhosttest

import (
	"errors"
	"fmt"
	"time"

	"github.com/vale-vmnet/vale-vmnet/vale/vhostuser/guestmem"
	"github.com/vale-vmnet/vale-vmnet/vale/vhostuser/vhostproto"
)

// ErrRefused says that the back end answered a request with a no.
var ErrRefused = errors.New("back end refused")

// Conn is the connection, for messages that no honest front end sends. Answers
// must be read before the next call of another method.
func (g *Guest) Conn() *vhostproto.Conn { return g.conn }

// Do makes a request that has no answer of its own, and learns whether it was
// carried out: by REPLY_ACK where that is in use, else only that the back end
// has gone on to the next message.
func (g *Guest) Do(req vhostproto.Request, body vhostproto.Body, fds ...int) error {
	if !g.Protocol.Has(vhostproto.ProtocolFReplyAck) || g.cfg.NoAck {
		return g.send(req, 0, body, fds...)
	}
	if err := g.send(req, vhostproto.FlagNeedReply, body, fds...); err != nil {
		return err
	}
	v, err := g.answerU64(req)
	if err != nil {
		return err
	}
	if v != 0 {
		return fmt.Errorf("%v: %w (%d)", req, ErrRefused, v)
	}
	return nil
}

// Ask makes a request that has an answer of its own.
func (g *Guest) Ask(req vhostproto.Request, body vhostproto.Body) (*vhostproto.Message, error) {
	if err := g.send(req, 0, body); err != nil {
		return nil, err
	}
	return g.answer(req)
}

// Sync returns when the back end has handled all requests before.
func (g *Guest) Sync() error {
	_, err := g.Ask(vhostproto.GetFeatures, vhostproto.Empty{})
	return err
}

func (g *Guest) send(req vhostproto.Request, flags uint32, body vhostproto.Body, fds ...int) error {
	if err := g.conn.Socket().SetDeadline(time.Now().Add(g.cfg.Timeout)); err != nil {
		return fmt.Errorf("send %v: %w", req, err)
	}
	return g.conn.Send(req, flags, body, fds...)
}

func (g *Guest) answer(req vhostproto.Request) (*vhostproto.Message, error) {
	m, err := g.conn.ReadMessage()
	if err != nil {
		return nil, fmt.Errorf("wait for answer to %v: %w", req, err)
	}
	m.Close() // no answer that we ask for carries descriptors
	if m.Request != req || !m.IsReply() {
		return nil, fmt.Errorf("wait for answer to %v: %w: it sent %+v", req, ErrPeer, m.Header)
	}
	return m, nil
}

func (g *Guest) answerU64(req vhostproto.Request) (uint64, error) {
	m, err := g.answer(req)
	if err != nil {
		return 0, err
	}
	v, err := vhostproto.ParseU64(m.Payload)
	if err != nil {
		return 0, fmt.Errorf("answer to %v: %w: %w", req, ErrPeer, err)
	}
	return v, nil
}

func (g *Guest) askU64(req vhostproto.Request) (uint64, error) {
	if err := g.send(req, 0, vhostproto.Empty{}); err != nil {
		return 0, err
	}
	return g.answerU64(req)
}

// handshake follows what QEMU does until the guest's driver is ready.
func (g *Guest) handshake() error {
	g.Protocol, g.MaxPairs, g.MaxMemSlots = 0, 1, guestmem.MaxTableRegions
	offered, err := g.askU64(vhostproto.GetFeatures)
	if err != nil {
		return err
	}
	g.Offered = vhostproto.Features(offered)
	g.Features = g.Offered & g.cfg.Features & featuresKnown
	if g.Features.Has(vhostproto.FProtocolFeatures) {
		if err := g.handshakeProtocol(); err != nil {
			return err
		}
	}
	if g.cfg.Pairs > g.MaxPairs {
		return fmt.Errorf("shake hands: %w: it has %d queue pairs, the guest wants %d", ErrPeer, g.MaxPairs, g.cfg.Pairs)
	}
	if err := g.Do(vhostproto.SetOwner, vhostproto.Empty{}); err != nil {
		return err
	}
	return g.Do(vhostproto.SetFeatures, vhostproto.U64(g.Features))
}

func (g *Guest) handshakeProtocol() error {
	v, err := g.askU64(vhostproto.GetProtocolFeatures)
	if err != nil {
		return err
	}
	g.OfferedProtocol = vhostproto.ProtocolFeatures(v)
	take := g.OfferedProtocol & g.cfg.Protocol & protocolKnown
	if err := g.Do(vhostproto.SetProtocolFeatures, vhostproto.U64(take)); err != nil {
		return err
	}
	g.Protocol = take
	if take.Has(vhostproto.ProtocolFMQ) {
		n, err := g.askU64(vhostproto.GetQueueNum)
		if err != nil {
			return err
		}
		g.MaxPairs = int(min(n, vhostproto.MaxVrings/2))
	}
	if take.Has(vhostproto.ProtocolFConfigureMemSlots) {
		n, err := g.askU64(vhostproto.GetMaxMemSlots)
		if err != nil {
			return err
		}
		g.MaxMemSlots = int(min(n, guestmem.MaxRegions))
	}
	return nil
}

// shareMemory tells the back end all regions.
func (g *Guest) shareMemory() error {
	if !g.Protocol.Has(vhostproto.ProtocolFConfigureMemSlots) {
		return g.sendTable()
	}
	for _, r := range g.mem.regions {
		if err := g.Do(vhostproto.AddMemReg, vhostproto.MemRegion{Region: r.Region}, r.fd); err != nil {
			return err
		}
	}
	return nil
}

func (g *Guest) sendTable() error {
	var fds []int
	for _, r := range g.mem.regions {
		fds = append(fds, r.fd)
	}
	return g.Do(vhostproto.SetMemTable, vhostproto.MemTable{Regions: g.Regions()}, fds...)
}

// AddMemory plugs size bytes into the running guest. Later allocations use
// them.
func (g *Guest) AddMemory(size uint64) error {
	r, err := g.mem.add(size)
	if err != nil {
		return err
	}
	if !g.Protocol.Has(vhostproto.ProtocolFConfigureMemSlots) {
		return g.sendTable()
	}
	return g.Do(vhostproto.AddMemReg, vhostproto.MemRegion{Region: r.Region}, r.fd)
}

// RemoveMemory takes the last region away, in which no ring or buffer may be.
func (g *Guest) RemoveMemory() error {
	last := len(g.mem.regions) - 1
	r := *g.mem.regions[last]
	if err := g.mem.remove(last); err != nil {
		return err
	}
	if !g.Protocol.Has(vhostproto.ProtocolFConfigureMemSlots) {
		return g.sendTable()
	}
	return g.Do(vhostproto.RemMemReg, vhostproto.MemRegion{Region: r.Region})
}
