package qemu

import "fmt"

// hub is what QEMU joins on one legacy hub: the `-net` options with the same
// vlan= (none is 0, the only one QEMU still has).
type hub struct {
	vlan     string
	members  []any // *nic and *backend, in order
	nics     []*nic
	backends []*backend
	others   []option // back ends that are not ours, such as user or tap
}

// collectHubs groups the -net options that are on a hub.
func (r *rewriter) collectHubs() []*hub {
	byArg := map[*arg]*backend{}
	for _, b := range r.backends {
		byArg[b.arg] = b
	}
	var hubs []*hub
	byVLAN := map[string]*hub{}
	for _, o := range r.g.opts["net"] {
		kind := o.get("type")
		if kind == "none" || kind == "nic" && o.has("netdev") {
			continue
		}
		vlan := o.get("vlan")
		if vlan == "" {
			vlan = "0"
		}
		h := byVLAN[vlan]
		if h == nil {
			h = &hub{vlan: vlan}
			byVLAN[vlan] = h
			hubs = append(hubs, h)
		}
		switch b := byArg[o.arg]; {
		case b != nil:
			h.backends = append(h.backends, b)
			h.members = append(h.members, b)
		case kind == "nic":
			n := &nic{o, o.get("model")}
			h.nics = append(h.nics, n)
			h.members = append(h.members, n)
		default:
			h.others = append(h.others, o)
		}
	}
	return hubs
}

// attachHubs decides what each legacy hub means; the package comment has the
// rules.
func (r *rewriter) attachHubs() error {
	hubs := r.collectHubs()
	for _, h := range hubs {
		if len(h.backends) == 0 {
			continue
		}
		if len(h.others) == 0 && h.alternates() {
			for i := 0; i < len(h.members); i += 2 {
				r.pair(h.members[i], h.members[i+1])
			}
			if len(h.backends) > 1 {
				r.notice("-net: each NIC is plugged into the port beside it (%s); QEMU's hub would have joined these switches. "+
					"Use -netdev and -device to say otherwise", h.pairList())
			} else if len(hubs) == 1 && !h.nics[0].has("vlan") && !h.backends[0].has("vlan") {
				h.backends[0].bare = true
			}
			continue
		}
		if err := r.keepHub(h); err != nil {
			return err
		}
	}
	return nil
}

// alternates reports whether the hub's members come as pairs of one NIC and
// one netmap.
func (h *hub) alternates() bool {
	if len(h.nics) != len(h.backends) {
		return false
	}
	for i := 0; i < len(h.members); i += 2 {
		_, first := h.members[i].(*nic)
		_, second := h.members[i+1].(*nic)
		if first == second {
			return false
		}
	}
	return true
}

func (r *rewriter) pair(x, y any) {
	n, ok := x.(*nic)
	if !ok {
		n, y = y.(*nic), x
	}
	b := y.(*backend)
	b.nics = []*nic{n}
}

func (h *hub) pairList() string {
	text := ""
	for i, b := range h.backends {
		if i > 0 {
			text += ", "
		}
		text += fmt.Sprintf("NIC %d to %s", i+1, b.end.Port)
	}
	return text
}

// keepHub leaves a mixture of NICs and back ends to QEMU's hub.
func (r *rewriter) keepHub(h *hub) error {
	if h.vlan != "0" {
		return refuse(ErrUnsupported, h.backends[0].written(),
			fmt.Sprintf("vlan=%s does not consist of one NIC and one netmap, and QEMU has had no vlan= since 3.0", h.vlan),
			"use -netdev and -device")
	}
	bySwitch := map[string]*backend{}
	for _, b := range h.backends {
		if other := bySwitch[b.end.switchName()]; other != nil {
			return refuse(ErrLoop, b.written(),
				fmt.Sprintf("shares QEMU's hub with %s, which would connect %s with itself", other.written(), b.end.switchName()),
				"write each -net netmap directly behind its -net nic, or use -netdev and -device")
		}
		bySwitch[b.end.switchName()] = b
		b.nics, b.onHub = h.nics, len(h.nics)+len(h.others) > 0
	}
	for _, o := range h.others {
		if o.has("vlan") {
			o.del("vlan")
			o.store()
		}
	}
	switch {
	case len(h.nics) == 0:
		r.notice("port %s has no NIC: there is no -net nic", h.backends[0].end.Port)
	case len(h.backends) > 1:
		r.notice("QEMU's hub joins the switches of %d ports, as -net says; put each -net netmap directly behind its -net nic to keep them apart", len(h.backends))
	}
	return nil
}
