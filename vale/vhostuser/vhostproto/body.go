package vhostproto

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/vale-vmnet/vale-vmnet/vale/vhostuser/guestmem"
)

// ErrPayload is wrapped by every error about the inside of a payload.
var ErrPayload = errors.New("invalid payload")

func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrPayload, fmt.Sprintf(format, args...))
}

// Body is a typed payload.
type Body interface {
	// Append adds the wire form to b.
	Append(b []byte) []byte
	// Validate checks what can be checked without knowing the session.
	Validate() error
}

var le = binary.LittleEndian

// Empty is the payload of requests that carry nothing.
type Empty struct{}

func (Empty) Append(b []byte) []byte { return b }
func (Empty) Validate() error        { return nil }

// U64 is the payload of most requests with one number, and of answers.
type U64 uint64

func (v U64) Append(b []byte) []byte { return le.AppendUint64(b, uint64(v)) }
func (U64) Validate() error          { return nil }

// VringState names a ring and one number about it: its size, its next
// available index or whether it is enabled ("A vring state description").
type VringState struct {
	Index uint32
	Num   uint32
}

func (v VringState) Append(b []byte) []byte {
	return le.AppendUint32(le.AppendUint32(b, v.Index), v.Num)
}

// Validate checks the ring's number. What Num may be depends on the request;
// Decode knows.
func (v VringState) Validate() error { return checkIndex(v.Index) }

// MaxVrings bounds ring numbers: the specification sends them in one byte
// with the descriptors of a ring.
const MaxVrings = 256

// MaxVringSize is the largest split ring (virtio 1.2, 2.7).
const MaxVringSize = 32768

func checkIndex(index uint32) error {
	if index >= MaxVrings {
		return invalid("ring %d of at most %d", index, MaxVrings)
	}
	return nil
}

// VringAddrLog asks for the used ring to be logged at VringAddr.Log.
const VringAddrLog = 1 << 0

// VringAddr says where a ring's parts are ("A vring address description").
// Desc, Used and Avail are user addresses of the front end, Log is a guest
// physical address.
type VringAddr struct {
	Index uint32
	Flags uint32
	Desc  uint64
	Used  uint64
	Avail uint64
	Log   uint64
}

func (v VringAddr) Append(b []byte) []byte {
	b = le.AppendUint32(le.AppendUint32(b, v.Index), v.Flags)
	b = le.AppendUint64(le.AppendUint64(b, v.Desc), v.Used)
	return le.AppendUint64(le.AppendUint64(b, v.Avail), v.Log)
}

// Validate checks the ring's number and the alignment that virtio 1.2, 2.7
// asks of the three parts.
func (v VringAddr) Validate() error {
	if err := checkIndex(v.Index); err != nil {
		return err
	}
	switch {
	case v.Desc%16 != 0:
		return invalid("descriptor table at %#x, not a multiple of 16", v.Desc)
	case v.Avail%2 != 0:
		return invalid("available ring at %#x, not a multiple of 2", v.Avail)
	case v.Used%4 != 0:
		return invalid("used ring at %#x, not a multiple of 4", v.Used)
	}
	return nil
}

// VringFile goes with the kick, call or error descriptor of a ring. NoFD says
// that there is none and that the back end polls.
type VringFile struct {
	Index uint8
	NoFD  bool
}

const vringFileNoFD = 1 << 8

func (v VringFile) Append(b []byte) []byte {
	n := uint64(v.Index)
	if v.NoFD {
		n |= vringFileNoFD
	}
	return le.AppendUint64(b, n)
}

func (VringFile) Validate() error { return nil }

// MemTable is the whole memory of the guest ("Memory regions description").
// Its descriptors come in the same order.
type MemTable struct {
	Regions []guestmem.Region
}

func (t MemTable) Append(b []byte) []byte {
	b = le.AppendUint32(b, uint32(len(t.Regions)))
	b = le.AppendUint32(b, 0)
	for _, r := range t.Regions {
		b = appendRegion(b, r)
	}
	return b
}

func (t MemTable) Validate() error {
	if len(t.Regions) > guestmem.MaxTableRegions {
		return invalid("%d memory regions, at most %d", len(t.Regions), guestmem.MaxTableRegions)
	}
	return joinInvalid(guestmem.CheckTable(t.Regions))
}

// MemRegion is the one region of ADD_MEM_REG and REM_MEM_REG ("Single memory
// region description").
type MemRegion struct {
	guestmem.Region
}

func (m MemRegion) Append(b []byte) []byte {
	return appendRegion(le.AppendUint64(b, 0), m.Region)
}

func (m MemRegion) Validate() error { return joinInvalid(m.Region.Validate()) }

func joinInvalid(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w: %w", ErrPayload, err)
}

func appendRegion(b []byte, r guestmem.Region) []byte {
	b = le.AppendUint64(le.AppendUint64(b, r.GuestAddr), r.Size)
	return le.AppendUint64(le.AppendUint64(b, r.UserAddr), r.MmapOffset)
}

// Log describes the dirty log of a migration ("Log description").
type Log struct {
	Size   uint64
	Offset uint64
}

func (l Log) Append(b []byte) []byte { return le.AppendUint64(le.AppendUint64(b, l.Size), l.Offset) }

func (l Log) Validate() error {
	if l.Size == 0 || l.Offset+l.Size < l.Offset {
		return invalid("dirty log of %d bytes at %d", l.Size, l.Offset)
	}
	return nil
}

// MaxConfig is the size of the configuration space of a device.
const MaxConfig = 256

// Config is a part of the device's configuration space ("Virtio device config
// space"). An answer of length zero to GET_CONFIG means failure.
type Config struct {
	Offset uint32
	Flags  uint32
	Data   []byte // its length is the Size on the wire
}

func (c Config) Append(b []byte) []byte {
	b = le.AppendUint32(b, c.Offset)
	b = le.AppendUint32(b, uint32(len(c.Data)))
	b = le.AppendUint32(b, c.Flags)
	return append(b, c.Data...)
}

func (c Config) Validate() error {
	if uint64(c.Offset)+uint64(len(c.Data)) > MaxConfig || len(c.Data) == 0 {
		return invalid("%d bytes of configuration at %d, the space has %d", len(c.Data), c.Offset, MaxConfig)
	}
	return nil
}

// IOTLB is a message about the guest's IOMMU ("An IOTLB message").
type IOTLB struct {
	IOVA     uint64
	Size     uint64
	UserAddr uint64
	Perm     uint8
	Type     uint8
}

func (m IOTLB) Append(b []byte) []byte {
	b = le.AppendUint64(le.AppendUint64(b, m.IOVA), m.Size)
	b = le.AppendUint64(b, m.UserAddr)
	return append(b, m.Perm, m.Type, 0, 0, 0, 0, 0, 0)
}

func (m IOTLB) Validate() error {
	if m.IOVA+m.Size < m.IOVA || m.UserAddr+m.Size < m.UserAddr {
		return invalid("IOTLB range of %#x bytes at %#x, user %#x", m.Size, m.IOVA, m.UserAddr)
	}
	return nil
}
