package vale

import (
	"net"

	"github.com/vale-vmnet/vale-vmnet/vale/mactab"
)

// RemoveFDB forgets one station, static or learned, and says whether it was
// known. A learned one comes back with its next frame.
func (s *Switch) RemoveFDB(mac net.HardwareAddr) bool {
	return len(mac) == 6 && s.macs.Remove(mactab.Key(mactab.FromBytes(mac), 0))
}
