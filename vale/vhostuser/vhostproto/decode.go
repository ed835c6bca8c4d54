package vhostproto

import (
	"fmt"
	"math/bits"

	"github.com/vale-vmnet/vale-vmnet/vale/vhostuser/guestmem"
)

// UnknownRequestError names a request that this package has no payload for.
type UnknownRequestError struct {
	Request Request
}

func (e *UnknownRequestError) Error() string { return "unknown request: " + e.Request.String() }

// Parsers of each payload. They check the length; Validate does the rest.

func parseEmpty(b []byte) (Body, error) { return Empty{}, wantLen(b, 0) }

func parseU64(b []byte) (Body, error) {
	v, err := ParseU64(b)
	return U64(v), err
}

func parseVringState(b []byte) (Body, error) {
	v, err := ParseVringState(b)
	return v, err
}

// ParseU64 reads the payload of an answer with one number.
func ParseU64(b []byte) (uint64, error) {
	if err := wantLen(b, 8); err != nil {
		return 0, err
	}
	return le.Uint64(b), nil
}

// ParseVringState reads the payload of an answer to GET_VRING_BASE.
func ParseVringState(b []byte) (VringState, error) {
	if err := wantLen(b, 8); err != nil {
		return VringState{}, err
	}
	return VringState{Index: le.Uint32(b), Num: le.Uint32(b[4:])}, nil
}

func parseVringAddr(b []byte) (Body, error) {
	if err := wantLen(b, 40); err != nil {
		return nil, err
	}
	return VringAddr{
		Index: le.Uint32(b),
		Flags: le.Uint32(b[4:]),
		Desc:  le.Uint64(b[8:]),
		Used:  le.Uint64(b[16:]),
		Avail: le.Uint64(b[24:]),
		Log:   le.Uint64(b[32:]),
	}, nil
}

func parseVringFile(b []byte) (Body, error) {
	v, err := ParseU64(b)
	return VringFile{Index: uint8(v), NoFD: v&vringFileNoFD != 0}, err
}

const regionSize = 32

func parseMemTable(b []byte) (Body, error) {
	if len(b) < 8 {
		return nil, invalid("memory table of %d bytes", len(b))
	}
	n := le.Uint32(b)
	if n > guestmem.MaxTableRegions {
		return nil, invalid("%d memory regions, at most %d", n, guestmem.MaxTableRegions)
	}
	if err := wantLen(b, 8+int(n)*regionSize); err != nil {
		return nil, err
	}
	t := MemTable{Regions: make([]guestmem.Region, n)}
	for i := range t.Regions {
		t.Regions[i] = parseRegion(b[8+i*regionSize:])
	}
	return t, nil
}

func parseMemRegion(b []byte) (Body, error) {
	if err := wantLen(b, 8+regionSize); err != nil {
		return nil, err
	}
	return MemRegion{parseRegion(b[8:])}, nil
}

func parseRegion(b []byte) guestmem.Region {
	return guestmem.Region{
		GuestAddr:  le.Uint64(b),
		Size:       le.Uint64(b[8:]),
		UserAddr:   le.Uint64(b[16:]),
		MmapOffset: le.Uint64(b[24:]),
	}
}

func parseLog(b []byte) (Body, error) {
	if err := wantLen(b, 16); err != nil {
		return nil, err
	}
	return Log{Size: le.Uint64(b), Offset: le.Uint64(b[8:])}, nil
}

func parseConfig(b []byte) (Body, error) {
	c, err := ParseConfig(b)
	return c, err
}

// ParseConfig reads a part of the configuration space. Data aliases b.
func ParseConfig(b []byte) (Config, error) {
	if len(b) < 12 {
		return Config{}, invalid("configuration of %d bytes", len(b))
	}
	n := le.Uint32(b[4:])
	if uint64(n) != uint64(len(b)-12) {
		return Config{}, invalid("configuration says %d bytes, has %d", n, len(b)-12)
	}
	return Config{Offset: le.Uint32(b), Flags: le.Uint32(b[8:]), Data: b[12:]}, nil
}

func parseIOTLB(b []byte) (Body, error) {
	// The kernel's struct vhost_iotlb_msg ends with padding.
	if err := wantLen(b, 32); err != nil {
		return nil, err
	}
	return IOTLB{IOVA: le.Uint64(b), Size: le.Uint64(b[8:]), UserAddr: le.Uint64(b[16:]), Perm: b[24], Type: b[25]}, nil
}

func wantLen(b []byte, n int) error {
	if len(b) != n {
		return invalid("%d bytes, want %d", len(b), n)
	}
	return nil
}

// layout says what a request carries.
type layout struct {
	parse func([]byte) (Body, error)
	fds   fdRule
	// check looks at values whose meaning depends on the request.
	check func(Body) error
}

// fdRule says how many descriptors must come with a body.
type fdRule func(body Body, n int) bool

func noFDs(_ Body, n int) bool { return n == 0 }
func oneFD(_ Body, n int) bool { return n == 1 }

// The specification says that REM_MEM_REG carries none; QEMU before 8.0 sent
// one all the same.
func maybeOneFD(_ Body, n int) bool { return n <= 1 }

func fdPerRegion(body Body, n int) bool { return n == len(body.(MemTable).Regions) }

func fdUnlessFlagged(body Body, n int) bool { return (n == 0) == body.(VringFile).NoFD && n <= 1 }

var layouts = map[Request]layout{
	GetFeatures:         {parseEmpty, noFDs, nil},
	SetFeatures:         {parseU64, noFDs, nil},
	SetOwner:            {parseEmpty, noFDs, nil},
	ResetOwner:          {parseEmpty, noFDs, nil},
	SetMemTable:         {parseMemTable, fdPerRegion, nil},
	SetLogBase:          {parseLog, maybeOneFD, nil},
	SetLogFD:            {parseEmpty, oneFD, nil},
	SetVringNum:         {parseVringState, noFDs, checkNum},
	SetVringAddr:        {parseVringAddr, noFDs, nil},
	SetVringBase:        {parseVringState, noFDs, checkBase},
	GetVringBase:        {parseVringState, noFDs, nil},
	SetVringKick:        {parseVringFile, fdUnlessFlagged, nil},
	SetVringCall:        {parseVringFile, fdUnlessFlagged, nil},
	SetVringErr:         {parseVringFile, fdUnlessFlagged, nil},
	GetProtocolFeatures: {parseEmpty, noFDs, nil},
	SetProtocolFeatures: {parseU64, noFDs, nil},
	GetQueueNum:         {parseEmpty, noFDs, nil},
	SetVringEnable:      {parseVringState, noFDs, checkEnable},
	SendRARP:            {parseU64, noFDs, nil},
	NetSetMTU:           {parseU64, noFDs, checkMTU},
	SetBackendReqFD:     {parseEmpty, oneFD, nil},
	IOTLBMsg:            {parseIOTLB, noFDs, nil},
	SetVringEndian:      {parseVringState, noFDs, nil},
	GetConfig:           {parseConfig, noFDs, nil},
	SetConfig:           {parseConfig, noFDs, nil},
	ResetDevice:         {parseEmpty, noFDs, nil},
	GetMaxMemSlots:      {parseEmpty, noFDs, nil},
	AddMemReg:           {parseMemRegion, oneFD, nil},
	RemMemReg:           {parseMemRegion, maybeOneFD, nil},
	SetStatus:           {parseU64, noFDs, checkStatus},
	GetStatus:           {parseEmpty, noFDs, nil},
}

func checkNum(body Body) error {
	n := body.(VringState).Num
	if n == 0 || n > MaxVringSize || bits.OnesCount32(n) != 1 {
		return invalid("ring of %d entries, want a power of two up to %d", n, MaxVringSize)
	}
	return nil
}

func checkBase(body Body) error {
	if n := body.(VringState).Num; n > 0xffff {
		return invalid("ring starts at index %d of 16 bits", n)
	}
	return nil
}

func checkEnable(body Body) error {
	if n := body.(VringState).Num; n > 1 {
		return invalid("ring enabled %d, want 0 or 1", n)
	}
	return nil
}

// checkMTU holds the limits of virtio 1.2, 5.1.4.1.
func checkMTU(body Body) error {
	if n := body.(U64); n < 68 || n > 65535 {
		return invalid("MTU of %d, want 68 to 65535", n)
	}
	return nil
}

func checkStatus(body Body) error {
	if n := body.(U64); n > 0xff {
		return invalid("device status %#x of 8 bits", uint64(n))
	}
	return nil
}

// Decode parses and validates the payload of a front end's request that came
// with nfds descriptors. The result may alias payload.
func Decode(req Request, payload []byte, nfds int) (Body, error) {
	l, ok := layouts[req]
	if !ok {
		return nil, &UnknownRequestError{req}
	}
	body, err := l.parse(payload)
	if err != nil {
		return nil, err
	}
	if err := body.Validate(); err != nil {
		return nil, err
	}
	if !l.fds(body, nfds) {
		return nil, fmt.Errorf("%w: %d file descriptors do not fit the message", ErrPayload, nfds)
	}
	if l.check != nil {
		if err := l.check(body); err != nil {
			return nil, err
		}
	}
	return body, nil
}
