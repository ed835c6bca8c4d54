package vhostuser

import (
	"fmt"

	"github.com/vale-vmnet/vale-vmnet/vale"
	"github.com/vale-vmnet/vale-vmnet/vale/vhostuser/guestmem"
	vp "github.com/vale-vmnet/vale-vmnet/vale/vhostuser/vhostproto"
	"github.com/vale-vmnet/vale-vmnet/vale/vhostuser/virtq"
)

// maxMemSlots bounds the regions of one guest: QEMU has one for each memory
// module. All guests together share the kernel's limit of mappings
// (vm.max_map_count, 65530).
const maxMemSlots = 128

// setMemTable replaces the guest's memory as a whole. Running rings are found
// again in the new memory; they lie in the same place as the guest sees it.
func (s *session) setMemTable(m *vp.Message, t vp.MemTable) error {
	specs := make([]guestmem.RegionSpec, len(t.Regions))
	for i, r := range t.Regions {
		specs[i] = guestmem.RegionSpec{Region: r, FD: m.FDs[i]}
	}
	mem, err := guestmem.Map(specs)
	if err != nil {
		return err
	}
	return s.replaceMemory(mem)
}

// addMemory adds a region: memory hot-plug, or one step of the first set-up.
func (s *session) addMemory(m *vp.Message, r vp.MemRegion) error {
	spec := guestmem.RegionSpec{Region: r.Region, FD: m.FDs[0]}
	var mem *guestmem.Memory
	var err error
	if s.mem == nil {
		mem, err = guestmem.Map([]guestmem.RegionSpec{spec})
	} else {
		if len(s.mem.Regions()) >= maxMemSlots {
			return fmt.Errorf("more than %d memory regions", maxMemSlots)
		}
		mem, err = s.mem.Add(spec)
	}
	if err != nil {
		return err
	}
	return s.replaceMemory(mem)
}

func (s *session) removeMemory(r vp.MemRegion) error {
	if s.mem == nil {
		return guestmem.ErrNoRegion
	}
	mem, err := s.mem.Remove(r.Region)
	if err != nil {
		return err
	}
	return s.replaceMemory(mem)
}

func (s *session) replaceMemory(mem *guestmem.Memory) error {
	return s.restart(func() {
		if s.mem != nil {
			s.mem.Close()
		}
		s.mem = mem
	})
}

// publish tells the switch which receive queues run.
func (s *session) publish() {
	var queues []*virtq.Queue
	for i := 0; i < len(s.rings); i += 2 {
		if s.rings[i].runs {
			queues = append(queues, &s.rings[i].queue)
		}
	}
	s.link.receivers.Store(&queues)
	s.port.SetLinkState(s.link, vale.LinkState{Ready: len(queues) > 0, Offloads: receives(s.features)})
}
