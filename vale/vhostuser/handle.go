package vhostuser

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/vale-vmnet/vale-vmnet/vale"
	"github.com/vale-vmnet/vale-vmnet/vale/frame"
	vp "github.com/vale-vmnet/vale-vmnet/vale/vhostuser/vhostproto"
)

var errNotOffered = errors.New("feature was not offered")

// handle carries out one request and answers it. The message has been
// validated on its own; what it means for this session is checked here. An
// error ends the session.
func (s *session) handle(m *vp.Message, body vp.Body) error {
	h := m.Header
	switch m.Request {
	case vp.GetFeatures:
		return s.conn.Reply(h, vp.U64(offered))
	case vp.GetProtocolFeatures:
		return s.conn.Reply(h, vp.U64(offeredProtocol))
	case vp.GetQueueNum:
		return s.conn.Reply(h, vp.U64(MaxPairs))
	case vp.GetMaxMemSlots:
		return s.conn.Reply(h, vp.U64(maxMemSlots))
	case vp.GetVringBase:
		return s.getVringBase(h, body.(vp.VringState))
	}
	if err := s.change(m, body); err != nil {
		return err
	}
	s.describe()
	return s.conn.Ack(h, true)
}

// change carries out a request that has no answer of its own.
func (s *session) change(m *vp.Message, body vp.Body) error {
	switch m.Request {
	case vp.SetOwner:
		return nil
	case vp.ResetOwner:
		// Deprecated: some front ends send it to say that they are done.
		for i := range s.rings {
			s.stop(i)
		}
		return nil
	case vp.SetFeatures:
		return s.setFeatures(vp.Features(body.(vp.U64)))
	case vp.SetProtocolFeatures:
		f := vp.ProtocolFeatures(body.(vp.U64))
		if f&^offeredProtocol != 0 {
			return fmt.Errorf("%w: %v", errNotOffered, (f &^ offeredProtocol).Names())
		}
		s.protocol = f
		return nil
	case vp.SetMemTable:
		return s.setMemTable(m, body.(vp.MemTable))
	case vp.AddMemReg:
		return s.addMemory(m, body.(vp.MemRegion))
	case vp.RemMemReg:
		return s.removeMemory(body.(vp.MemRegion))
	case vp.SetVringNum, vp.SetVringBase, vp.SetVringEnable:
		return s.setVringState(m.Request, body.(vp.VringState))
	case vp.SetVringAddr:
		return s.setVringAddr(body.(vp.VringAddr))
	case vp.SetVringKick, vp.SetVringCall, vp.SetVringErr:
		return s.setVringFD(m, body.(vp.VringFile))
	case vp.SendRARP:
		s.announce(uint64(body.(vp.U64)))
		return nil
	case vp.NetSetMTU:
		s.mtu = uint64(body.(vp.U64))
		if limit := s.port.MTU(); limit > 0 && s.mtu > uint64(limit) {
			s.log.Warn("the guest's MTU is larger than its port's; longer frames are dropped", "guest", s.mtu, "port", limit)
		}
		return nil
	}
	return fmt.Errorf("request is not supported")
}

func (s *session) setFeatures(f vp.Features) error {
	if f&^offered != 0 {
		return fmt.Errorf("%w: %v", errNotOffered, (f &^ offered).Names())
	}
	if f == s.features {
		return s.restart(nil)
	}
	return s.restart(func() { s.features = f })
}

// restart stops the running rings, makes a change, and starts them again.
// Without VHOST_USER_F_PROTOCOL_FEATURES a ring is enabled from the start.
func (s *session) restart(change func()) error {
	if change == nil {
		return s.startAll()
	}
	for i := range s.rings {
		s.stop(i)
	}
	change()
	return s.startAll()
}

func (s *session) startAll() error {
	for i, r := range s.rings {
		if !s.features.Has(vp.FProtocolFeatures) {
			r.enabled = true
		}
		if err := s.start(i); err != nil {
			return err
		}
	}
	return nil
}

// ring finds the ring of a message.
func (s *session) ring(i uint32) (*vring, error) {
	if int(i) >= len(s.rings) {
		return nil, fmt.Errorf("ring %d of %d; at most %d queue pairs are offered", i, len(s.rings), MaxPairs)
	}
	return s.rings[i], nil
}

func (s *session) setVringState(req vp.Request, v vp.VringState) error {
	r, err := s.ring(v.Index)
	if err != nil {
		return err
	}
	i := int(v.Index)
	s.stop(i)
	switch req {
	case vp.SetVringNum:
		r.size = int(v.Num)
	case vp.SetVringBase:
		r.base = uint16(v.Num)
	case vp.SetVringEnable:
		r.enabled = v.Num != 0
	}
	return s.start(i)
}

func (s *session) setVringAddr(v vp.VringAddr) error {
	r, err := s.ring(v.Index)
	if err != nil {
		return err
	}
	if v.Flags&vp.VringAddrLog != 0 {
		return fmt.Errorf("logging of dirty memory was not offered")
	}
	s.stop(int(v.Index))
	r.addr = ringAddr{desc: v.Desc, avail: v.Avail, used: v.Used}
	r.hasAddr = true
	return s.start(int(v.Index))
}

func (s *session) setVringFD(m *vp.Message, v vp.VringFile) error {
	r, err := s.ring(uint32(v.Index))
	if err != nil {
		return err
	}
	if m.Request == vp.SetVringKick && v.NoFD {
		// It would cost the worker, and the guests it serves, a processor.
		return fmt.Errorf("kick without an eventfd; polling a ring for ever is not offered")
	}
	fd := m.TakeFD()
	switch m.Request {
	case vp.SetVringKick:
		s.stop(int(v.Index))
		replaceFD(&r.kick, fd)
		r.started = true
		return s.start(int(v.Index))
	case vp.SetVringCall:
		r.queue.SetCall(fd)
		replaceFD(&r.call, fd)
		// The driver may have missed a call that went to the old one.
		r.queue.Call()
	case vp.SetVringErr:
		replaceFD(&r.err, fd)
	}
	return nil
}

// getVringBase stops a ring and tells where it stopped.
func (s *session) getVringBase(h vp.Header, v vp.VringState) error {
	r, err := s.ring(v.Index)
	if err != nil {
		return err
	}
	s.stop(int(v.Index))
	r.started = false
	replaceFD(&r.kick, -1)
	r.queue.SetCall(-1)
	replaceFD(&r.call, -1)
	s.describe()
	return s.conn.Reply(h, vp.VringState{Index: v.Index, Num: uint32(r.base)})
}

// start runs a ring when all is there that it needs.
func (s *session) start(i int) error {
	r := s.rings[i]
	if r.runs || !r.complete() {
		return nil
	}
	if s.mem == nil || s.mem.Bytes() == 0 {
		s.noMemory()
		return nil
	}
	if err := r.queue.Start(r.config(s.mem, s.features)); err != nil {
		return fmt.Errorf("start ring %d: %w", i, err)
	}
	r.runs = true
	watch().Add(&r.queue.Signaler, s.stall)
	if i%2 == 0 {
		// Nobody needs to hear of fresh receive buffers.
		r.queue.Disarm()
		s.publish()
	} else {
		h, err := s.pool.Add(&source{s: s, ring: r, pair: i / 2})
		if err != nil {
			return fmt.Errorf("start ring %d: %w", i, err)
		}
		r.handle = h
	}
	// After a re-connection the driver may wait for a call that the last
	// session did not make.
	r.queue.Call()
	return nil
}

// noMemory tells, once, why a guest's rings do not start. It is no reason to
// end the session: a front end may be between two memory tables.
func (s *session) noMemory() {
	if s.unshared {
		return
	}
	s.unshared = true
	s.log.Warn("the guest's memory is not shared, so its rings cannot start; "+
		"give QEMU -object memory-backend-memfd,id=mem,size=SIZE,share=on -machine memory-backend=mem", "peer", s.peer)
}

// stop halts a running ring and keeps its position. When it returns no worker
// and no sender touches the ring's memory.
func (s *session) stop(i int) {
	r := s.rings[i]
	if !r.runs {
		return
	}
	if r.handle != nil {
		r.handle.Remove()
		r.handle = nil
	}
	r.base = r.queue.Stop()
	r.runs = false
	watch().Remove(&r.queue.Signaler)
	if i%2 == 0 {
		s.publish()
	}
}

// announce broadcasts a reverse ARP request in the name of a guest that has
// just arrived by migration, so that switches learn where it is.
func (s *session) announce(mac uint64) {
	var f [60]byte
	var m [8]byte
	binary.LittleEndian.PutUint64(m[:], mac)
	copy(f[0:], []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff})
	copy(f[6:], m[:6])
	// RARP over Ethernet, IPv4 addresses, operation 3 (RFC 903).
	copy(f[12:], []byte{0x80, 0x35, 0, 1, 8, 0, 6, 4, 0, 3})
	copy(f[22:], m[:6])
	copy(f[32:], m[:6])
	// The receivers' memory may be gone: messages recovers from faults.
	if s.batch == nil {
		s.batch = vale.NewBatch()
	}
	s.batch.Reset()
	s.batch.Add(frame.VnetHdr{}, f[:])
	s.port.Forward(s.batch)
}
