package vhostproto

import (
	"bytes"
	"encoding/binary"
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/vale-vmnet/vale-vmnet/vale/vhostuser/guestmem"
	"pgregory.net/rapid"
)

// The payloads as the specification draws them, for encoding/binary to read.
type (
	wireState struct{ Index, Num uint32 }
	wireAddr  struct {
		Index, Flags           uint32
		Desc, Used, Avail, Log uint64
	}
	wireRegion struct{ GuestAddr, Size, UserAddr, MmapOffset uint64 }
	wireSingle struct {
		_ uint64
		wireRegion
	}
	wireIOTLB struct {
		IOVA, Size, UserAddr uint64
		Perm, Type           uint8
		_                    [6]byte
	}
	wireLog struct{ Size, Offset uint64 }
)

func (w wireRegion) region() guestmem.Region {
	return guestmem.Region{GuestAddr: w.GuestAddr, Size: w.Size, UserAddr: w.UserAddr, MmapOffset: w.MmapOffset}
}

// TestParsersAgreeWithEncoding reads random bytes both ways.
func TestParsersAgreeWithEncoding(t *testing.T) {
	read := func(t *rapid.T, b []byte, into any) {
		if n := binary.Size(into); n != len(b) {
			t.Fatalf("%T has %d bytes, the payload %d", into, n, len(b))
		}
		if err := binary.Read(bytes.NewReader(b), binary.LittleEndian, into); err != nil {
			t.Fatal(err)
		}
	}
	tests := []struct {
		name  string
		size  int
		parse func([]byte) (Body, error)
		want  func(*rapid.T, []byte) Body
	}{
		{"u64", 8, parseU64, func(t *rapid.T, b []byte) Body {
			var w uint64
			read(t, b, &w)
			return U64(w)
		}},
		{"state", 8, parseVringState, func(t *rapid.T, b []byte) Body {
			var w wireState
			read(t, b, &w)
			return VringState(w)
		}},
		{"address", 40, parseVringAddr, func(t *rapid.T, b []byte) Body {
			var w wireAddr
			read(t, b, &w)
			return VringAddr(w)
		}},
		{"region", 40, parseMemRegion, func(t *rapid.T, b []byte) Body {
			var w wireSingle
			read(t, b, &w)
			return MemRegion{w.region()}
		}},
		{"iotlb", 32, parseIOTLB, func(t *rapid.T, b []byte) Body {
			var w wireIOTLB
			read(t, b, &w)
			return IOTLB{w.IOVA, w.Size, w.UserAddr, w.Perm, w.Type}
		}},
		{"log", 16, parseLog, func(t *rapid.T, b []byte) Body {
			var w wireLog
			read(t, b, &w)
			return Log(w)
		}},
		{"table of two", 72, func(b []byte) (Body, error) {
			copy(b, []byte{2, 0, 0, 0})
			return parseMemTable(b)
		}, func(t *rapid.T, b []byte) Body {
			var w [2]wireRegion
			read(t, b[8:], &w)
			return MemTable{[]guestmem.Region{w[0].region(), w[1].region()}}
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				b := rapid.SliceOfN(rapid.Byte(), tt.size, tt.size).Draw(t, "payload")
				got, err := tt.parse(b)
				if err != nil {
					t.Fatal(err)
				}
				if want := tt.want(t, b); !reflect.DeepEqual(got, want) {
					t.Fatalf("parsed %+v, encoding/binary %+v", got, want)
				}
				again, err := tt.parse(got.Append(nil))
				if err != nil || !reflect.DeepEqual(got, again) {
					t.Fatalf("%+v came back as %+v, %v", got, again, err)
				}
			})
		})
	}
}

func TestDecode(t *testing.T) {
	region := guestmem.Region{Size: 4096}
	tests := []struct {
		name string
		req  Request
		body Body
		fds  int
		want error
	}{
		{"nothing", GetFeatures, Empty{}, 0, nil},
		{"nothing with payload", GetFeatures, U64(1), 0, ErrPayload},
		{"nothing with descriptor", SetOwner, Empty{}, 1, ErrPayload},
		{"features", SetFeatures, U64(FVersion1), 0, nil},
		{"features missing", SetFeatures, Empty{}, 0, ErrPayload},
		{"ring size", SetVringNum, VringState{1, 1024}, 0, nil},
		{"ring size zero", SetVringNum, VringState{1, 0}, 0, ErrPayload},
		{"ring size odd", SetVringNum, VringState{1, 1000}, 0, ErrPayload},
		{"ring size too large", SetVringNum, VringState{1, 65536}, 0, ErrPayload},
		{"ring number too large", SetVringNum, VringState{256, 256}, 0, ErrPayload},
		{"base", SetVringBase, VringState{0, 65535}, 0, nil},
		{"base too large", SetVringBase, VringState{0, 65536}, 0, ErrPayload},
		{"enable", SetVringEnable, VringState{0, 1}, 0, nil},
		{"enable twice", SetVringEnable, VringState{0, 2}, 0, ErrPayload},
		{"addresses", SetVringAddr, VringAddr{Desc: 16, Avail: 2, Used: 4}, 0, nil},
		{"descriptors off", SetVringAddr, VringAddr{Desc: 8}, 0, ErrPayload},
		{"avail off", SetVringAddr, VringAddr{Avail: 1}, 0, ErrPayload},
		{"used off", SetVringAddr, VringAddr{Used: 2}, 0, ErrPayload},
		{"kick", SetVringKick, VringFile{Index: 1}, 1, nil},
		{"kick without descriptor", SetVringKick, VringFile{Index: 1}, 0, ErrPayload},
		{"kick with two", SetVringKick, VringFile{Index: 1}, 2, ErrPayload},
		{"call by polling", SetVringCall, VringFile{Index: 1, NoFD: true}, 0, nil},
		{"call by polling with descriptor", SetVringCall, VringFile{Index: 1, NoFD: true}, 1, ErrPayload},
		{"memory", SetMemTable, MemTable{[]guestmem.Region{region}}, 1, nil},
		{"memory without descriptor", SetMemTable, MemTable{[]guestmem.Region{region}}, 0, ErrPayload},
		{"memory twice", SetMemTable, MemTable{[]guestmem.Region{region, region}}, 2, guestmem.ErrOverlap},
		{"memory of nine regions", SetMemTable, MemTable{make([]guestmem.Region, 9)}, 8, ErrPayload},
		{"slot", AddMemReg, MemRegion{region}, 1, nil},
		{"slot without descriptor", AddMemReg, MemRegion{region}, 0, ErrPayload},
		{"slot empty", AddMemReg, MemRegion{}, 1, guestmem.ErrEmpty},
		{"slot away", RemMemReg, MemRegion{region}, 0, nil},
		{"MTU", NetSetMTU, U64(9000), 0, nil},
		{"MTU too small", NetSetMTU, U64(67), 0, ErrPayload},
		{"MTU too large", NetSetMTU, U64(65536), 0, ErrPayload},
		{"configuration", GetConfig, Config{Offset: 0, Data: make([]byte, 12)}, 0, nil},
		{"configuration too far", GetConfig, Config{Offset: 250, Data: make([]byte, 12)}, 0, ErrPayload},
		{"configuration wraps", GetConfig, Config{Offset: ^uint32(0), Data: make([]byte, 12)}, 0, ErrPayload},
		{"log", SetLogBase, Log{Size: 4096}, 1, nil},
		{"log wraps", SetLogBase, Log{Size: 2, Offset: ^uint64(0)}, 1, ErrPayload},
		{"status", SetStatus, U64(0x0f), 0, nil},
		{"status too large", SetStatus, U64(0x100), 0, ErrPayload},
		{"IOTLB", IOTLBMsg, IOTLB{Size: 4096, Type: 2}, 0, nil},
		{"RARP", SendRARP, U64(0x020406080a0c), 0, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Decode(tt.req, tt.body.Append(nil), tt.fds)
			if !errors.Is(err, tt.want) {
				t.Fatalf("Decode = %v, want %v", err, tt.want)
			}
			if err == nil && !reflect.DeepEqual(got, tt.body) {
				t.Fatalf("Decode = %+v, want %+v", got, tt.body)
			}
		})
	}
}

func TestDecodeUnknown(t *testing.T) {
	var unknown *UnknownRequestError
	if _, err := Decode(99, nil, 0); !errors.As(err, &unknown) || unknown.Request != 99 {
		t.Errorf("Decode(99) = %v", err)
	}
	// A request that has a name but no payload of ours is unknown too.
	if _, err := Decode(GetInflightFD, nil, 0); !errors.As(err, &unknown) {
		t.Errorf("Decode(%v) = %v", GetInflightFD, err)
	}
}

func TestTablesAreComplete(t *testing.T) {
	for req := range layouts {
		if strings.HasPrefix(req.String(), "request ") {
			t.Errorf("request %d has no name", uint32(req))
		}
	}
	if got := (NetFCsum | NetFMrgRxbuf | FVersion1 | 1<<50).Names(); !reflect.DeepEqual(got,
		[]string{"VIRTIO_NET_F_CSUM", "VIRTIO_NET_F_MRG_RXBUF", "VIRTIO_F_VERSION_1", "bit 50"}) {
		t.Errorf("Names = %v", got)
	}
	if got := (ProtocolFMQ | ProtocolFReplyAck).Names(); !reflect.DeepEqual(got,
		[]string{"VHOST_USER_PROTOCOL_F_MQ", "VHOST_USER_PROTOCOL_F_REPLY_ACK"}) {
		t.Errorf("Names = %v", got)
	}
}

// FuzzDecode feeds whole messages. What is accepted must be valid and keep
// its meaning when it is encoded again.
func FuzzDecode(f *testing.F) {
	for _, c := range readCapture(f) {
		f.Add(c.raw, c.fds)
	}
	add := func(req Request, body Body, fds int) {
		payload := body.Append(nil)
		f.Add(append(Header{req, flagVersion, uint32(len(payload))}.Append(nil), payload...), fds)
	}
	add(SetMemTable, MemTable{[]guestmem.Region{{Size: 4096}, {GuestAddr: 8192, UserAddr: 8192, Size: 4096}}}, 2)
	add(GetConfig, Config{Data: make([]byte, 12)}, 0)
	add(IOTLBMsg, IOTLB{Size: 1}, 0)
	add(SetLogBase, Log{Size: 1}, 1)
	add(RemMemReg, MemRegion{guestmem.Region{Size: 1}}, 1)
	f.Add([]byte{255, 255, 255, 255, 1, 0, 0, 0, 0, 0, 0, 0}, 0)
	f.Fuzz(func(t *testing.T, raw []byte, fds int) {
		h, err := ParseHeader(raw)
		if err != nil || int(h.Size) > len(raw)-HeaderSize {
			return
		}
		body, err := Decode(h.Request, raw[HeaderSize:HeaderSize+h.Size], fds)
		if err != nil {
			return
		}
		if err := body.Validate(); err != nil {
			t.Fatalf("Decode accepted %+v: %v", body, err)
		}
		again, err := Decode(h.Request, body.Append(nil), fds)
		if err != nil || !reflect.DeepEqual(body, again) {
			t.Fatalf("%v: %+v came back as %+v, %v", h.Request, body, again, err)
		}
	})
}
