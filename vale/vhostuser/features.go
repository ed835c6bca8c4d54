package vhostuser

import (
	"github.com/vale-vmnet/vale-vmnet/vale/frame"
	vp "github.com/vale-vmnet/vale-vmnet/vale/vhostuser/vhostproto"
)

// offered are the features that a guest may accept. The control queue and the
// announcement of a guest after migration are the front end's work; they are
// offered because a front end shows its guest only what the back end has.
const offered = vp.NetFCsum | vp.NetFGuestCsum |
	vp.NetFHostTSO4 | vp.NetFHostTSO6 | vp.NetFHostECN | vp.NetFHostUFO |
	vp.NetFGuestTSO4 | vp.NetFGuestTSO6 | vp.NetFGuestECN | vp.NetFGuestUFO |
	vp.NetFMrgRxbuf | vp.NetFStatus | vp.NetFMTU | vp.NetFMQ |
	vp.NetFCtrlVQ | vp.NetFCtrlRX | vp.NetFGuestAnnounce |
	vp.FAnyLayout | vp.FRingIndirectDesc | vp.FRingEventIdx | vp.FVersion1 | vp.FInOrder |
	vp.FProtocolFeatures

// offeredProtocol are the protocol features.
const offeredProtocol = vp.ProtocolFMQ | vp.ProtocolFRARP | vp.ProtocolFReplyAck |
	vp.ProtocolFMTU | vp.ProtocolFConfigureMemSlots

// hdrLen is the length of the virtio-net header before each frame (virtio
// 5.1.6): the legacy one lacks num_buffers.
func hdrLen(f vp.Features) int {
	if f&(vp.FVersion1|vp.NetFMrgRxbuf) != 0 {
		return 12
	}
	return 10
}

// receives gives what a guest that accepted f takes besides plain frames.
func receives(f vp.Features) (o frame.Offloads) {
	if !f.Has(vp.NetFGuestCsum) {
		return 0 // the others depend on it (5.1.3.1)
	}
	for _, m := range []struct {
		feature vp.Features
		offload frame.Offloads
	}{
		{vp.NetFGuestCsum, frame.Csum},
		{vp.NetFGuestTSO4, frame.TSO4},
		{vp.NetFGuestTSO6, frame.TSO6},
		{vp.NetFGuestECN, frame.ECN},
		{vp.NetFGuestUFO, frame.UFO},
	} {
		if f.Has(m.feature) {
			o |= m.offload
		}
	}
	return o
}
