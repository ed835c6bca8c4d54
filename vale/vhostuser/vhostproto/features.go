package vhostproto

import (
	"math/bits"
	"strconv"
)

// Features are the virtio feature bits of GET_FEATURES and SET_FEATURES
// (virtio 1.2, 5.1.3 for the network device, 6 for the ring).
type Features uint64

// Feature bits of the network device, of the ring, and the one that
// vhost-user adds.
const (
	NetFCsum              Features = 1 << 0
	NetFGuestCsum         Features = 1 << 1
	NetFCtrlGuestOffloads Features = 1 << 2
	NetFMTU               Features = 1 << 3
	NetFMAC               Features = 1 << 5
	NetFGSO               Features = 1 << 6
	NetFGuestTSO4         Features = 1 << 7
	NetFGuestTSO6         Features = 1 << 8
	NetFGuestECN          Features = 1 << 9
	NetFGuestUFO          Features = 1 << 10
	NetFHostTSO4          Features = 1 << 11
	NetFHostTSO6          Features = 1 << 12
	NetFHostECN           Features = 1 << 13
	NetFHostUFO           Features = 1 << 14
	NetFMrgRxbuf          Features = 1 << 15
	NetFStatus            Features = 1 << 16
	NetFCtrlVQ            Features = 1 << 17
	NetFCtrlRX            Features = 1 << 18
	NetFCtrlVLAN          Features = 1 << 19
	NetFCtrlRXExtra       Features = 1 << 20
	NetFGuestAnnounce     Features = 1 << 21
	NetFMQ                Features = 1 << 22
	NetFCtrlMACAddr       Features = 1 << 23
	FNotifyOnEmpty        Features = 1 << 24
	FLogAll               Features = 1 << 26
	FAnyLayout            Features = 1 << 27
	FRingIndirectDesc     Features = 1 << 28
	FRingEventIdx         Features = 1 << 29
	FProtocolFeatures     Features = 1 << 30
	FVersion1             Features = 1 << 32
	FAccessPlatform       Features = 1 << 33
	FRingPacked           Features = 1 << 34
	FInOrder              Features = 1 << 35
	FOrderPlatform        Features = 1 << 36
	FNotificationData     Features = 1 << 38
	FRingReset            Features = 1 << 40
	NetFGuestUSO4         Features = 1 << 54
	NetFGuestUSO6         Features = 1 << 55
	NetFHostUSO           Features = 1 << 56
	NetFHashReport        Features = 1 << 57
	NetFGuestHdrlen       Features = 1 << 59
	NetFRSS               Features = 1 << 60
	NetFRSCExt            Features = 1 << 61
	NetFStandby           Features = 1 << 62
	NetFSpeedDuplex       Features = 1 << 63
)

var featureNames = map[Features]string{
	NetFCsum:              "VIRTIO_NET_F_CSUM",
	NetFGuestCsum:         "VIRTIO_NET_F_GUEST_CSUM",
	NetFCtrlGuestOffloads: "VIRTIO_NET_F_CTRL_GUEST_OFFLOADS",
	NetFMTU:               "VIRTIO_NET_F_MTU",
	NetFMAC:               "VIRTIO_NET_F_MAC",
	NetFGSO:               "VIRTIO_NET_F_GSO",
	NetFGuestTSO4:         "VIRTIO_NET_F_GUEST_TSO4",
	NetFGuestTSO6:         "VIRTIO_NET_F_GUEST_TSO6",
	NetFGuestECN:          "VIRTIO_NET_F_GUEST_ECN",
	NetFGuestUFO:          "VIRTIO_NET_F_GUEST_UFO",
	NetFHostTSO4:          "VIRTIO_NET_F_HOST_TSO4",
	NetFHostTSO6:          "VIRTIO_NET_F_HOST_TSO6",
	NetFHostECN:           "VIRTIO_NET_F_HOST_ECN",
	NetFHostUFO:           "VIRTIO_NET_F_HOST_UFO",
	NetFMrgRxbuf:          "VIRTIO_NET_F_MRG_RXBUF",
	NetFStatus:            "VIRTIO_NET_F_STATUS",
	NetFCtrlVQ:            "VIRTIO_NET_F_CTRL_VQ",
	NetFCtrlRX:            "VIRTIO_NET_F_CTRL_RX",
	NetFCtrlVLAN:          "VIRTIO_NET_F_CTRL_VLAN",
	NetFCtrlRXExtra:       "VIRTIO_NET_F_CTRL_RX_EXTRA",
	NetFGuestAnnounce:     "VIRTIO_NET_F_GUEST_ANNOUNCE",
	NetFMQ:                "VIRTIO_NET_F_MQ",
	NetFCtrlMACAddr:       "VIRTIO_NET_F_CTRL_MAC_ADDR",
	FNotifyOnEmpty:        "VIRTIO_F_NOTIFY_ON_EMPTY",
	FLogAll:               "VHOST_F_LOG_ALL",
	FAnyLayout:            "VIRTIO_F_ANY_LAYOUT",
	FRingIndirectDesc:     "VIRTIO_F_INDIRECT_DESC",
	FRingEventIdx:         "VIRTIO_F_EVENT_IDX",
	FProtocolFeatures:     "VHOST_USER_F_PROTOCOL_FEATURES",
	FVersion1:             "VIRTIO_F_VERSION_1",
	FAccessPlatform:       "VIRTIO_F_ACCESS_PLATFORM",
	FRingPacked:           "VIRTIO_F_RING_PACKED",
	FInOrder:              "VIRTIO_F_IN_ORDER",
	FOrderPlatform:        "VIRTIO_F_ORDER_PLATFORM",
	FNotificationData:     "VIRTIO_F_NOTIFICATION_DATA",
	FRingReset:            "VIRTIO_F_RING_RESET",
	NetFGuestUSO4:         "VIRTIO_NET_F_GUEST_USO4",
	NetFGuestUSO6:         "VIRTIO_NET_F_GUEST_USO6",
	NetFHostUSO:           "VIRTIO_NET_F_HOST_USO",
	NetFHashReport:        "VIRTIO_NET_F_HASH_REPORT",
	NetFGuestHdrlen:       "VIRTIO_NET_F_GUEST_HDRLEN",
	NetFRSS:               "VIRTIO_NET_F_RSS",
	NetFRSCExt:            "VIRTIO_NET_F_RSC_EXT",
	NetFStandby:           "VIRTIO_NET_F_STANDBY",
	NetFSpeedDuplex:       "VIRTIO_NET_F_SPEED_DUPLEX",
}

// Has says whether all bits of want are set.
func (f Features) Has(want Features) bool { return f&want == want }

// Names lists the set bits by their names in the specification, lowest first.
func (f Features) Names() []string { return bitNames(f, featureNames) }

// ProtocolFeatures are the bits of GET_PROTOCOL_FEATURES: abilities of the
// protocol, of which the guest knows nothing ("Protocol features").
type ProtocolFeatures uint64

const (
	ProtocolFMQ                  ProtocolFeatures = 1 << 0
	ProtocolFLogShmFD            ProtocolFeatures = 1 << 1
	ProtocolFRARP                ProtocolFeatures = 1 << 2
	ProtocolFReplyAck            ProtocolFeatures = 1 << 3
	ProtocolFMTU                 ProtocolFeatures = 1 << 4
	ProtocolFBackendReq          ProtocolFeatures = 1 << 5
	ProtocolFCrossEndian         ProtocolFeatures = 1 << 6
	ProtocolFCryptoSession       ProtocolFeatures = 1 << 7
	ProtocolFPagefault           ProtocolFeatures = 1 << 8
	ProtocolFConfig              ProtocolFeatures = 1 << 9
	ProtocolFBackendSendFD       ProtocolFeatures = 1 << 10
	ProtocolFHostNotifier        ProtocolFeatures = 1 << 11
	ProtocolFInflightShmFD       ProtocolFeatures = 1 << 12
	ProtocolFResetDevice         ProtocolFeatures = 1 << 13
	ProtocolFInbandNotifications ProtocolFeatures = 1 << 14
	ProtocolFConfigureMemSlots   ProtocolFeatures = 1 << 15
	ProtocolFStatus              ProtocolFeatures = 1 << 16
	ProtocolFXenMmap             ProtocolFeatures = 1 << 17
	ProtocolFSharedObject        ProtocolFeatures = 1 << 18
	ProtocolFDeviceState         ProtocolFeatures = 1 << 19
)

var protocolFeatureNames = map[ProtocolFeatures]string{
	ProtocolFMQ:                  "VHOST_USER_PROTOCOL_F_MQ",
	ProtocolFLogShmFD:            "VHOST_USER_PROTOCOL_F_LOG_SHMFD",
	ProtocolFRARP:                "VHOST_USER_PROTOCOL_F_RARP",
	ProtocolFReplyAck:            "VHOST_USER_PROTOCOL_F_REPLY_ACK",
	ProtocolFMTU:                 "VHOST_USER_PROTOCOL_F_MTU",
	ProtocolFBackendReq:          "VHOST_USER_PROTOCOL_F_BACKEND_REQ",
	ProtocolFCrossEndian:         "VHOST_USER_PROTOCOL_F_CROSS_ENDIAN",
	ProtocolFCryptoSession:       "VHOST_USER_PROTOCOL_F_CRYPTO_SESSION",
	ProtocolFPagefault:           "VHOST_USER_PROTOCOL_F_PAGEFAULT",
	ProtocolFConfig:              "VHOST_USER_PROTOCOL_F_CONFIG",
	ProtocolFBackendSendFD:       "VHOST_USER_PROTOCOL_F_BACKEND_SEND_FD",
	ProtocolFHostNotifier:        "VHOST_USER_PROTOCOL_F_HOST_NOTIFIER",
	ProtocolFInflightShmFD:       "VHOST_USER_PROTOCOL_F_INFLIGHT_SHMFD",
	ProtocolFResetDevice:         "VHOST_USER_PROTOCOL_F_RESET_DEVICE",
	ProtocolFInbandNotifications: "VHOST_USER_PROTOCOL_F_INBAND_NOTIFICATIONS",
	ProtocolFConfigureMemSlots:   "VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS",
	ProtocolFStatus:              "VHOST_USER_PROTOCOL_F_STATUS",
	ProtocolFXenMmap:             "VHOST_USER_PROTOCOL_F_XEN_MMAP",
	ProtocolFSharedObject:        "VHOST_USER_PROTOCOL_F_SHARED_OBJECT",
	ProtocolFDeviceState:         "VHOST_USER_PROTOCOL_F_DEVICE_STATE",
}

// Has says whether all bits of want are set.
func (f ProtocolFeatures) Has(want ProtocolFeatures) bool { return f&want == want }

// Names lists the set bits by their names in the specification, lowest first.
func (f ProtocolFeatures) Names() []string { return bitNames(f, protocolFeatureNames) }

func bitNames[F ~uint64](set F, names map[F]string) []string {
	var list []string
	for rest := set; rest != 0; rest &= rest - 1 {
		bit := bits.TrailingZeros64(uint64(rest))
		name, ok := names[1<<bit]
		if !ok {
			name = "bit " + strconv.Itoa(bit)
		}
		list = append(list, name)
	}
	return list
}
