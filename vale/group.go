package vale

// deliverGroups serves a batch for several receivers: a counting sort of the
// frame indices by target, then one delivery per receiver. Frames for one
// receiver, flooded ones included, keep their order.
func (p *Port) deliverGroups(b *Batch, v *view) {
	if len(b.count) < len(v.ports) {
		b.count = make([]uint16, len(v.ports)+len(v.ports)/2)
	}
	count := b.count
	touched := b.touched[:0]
	nflood := 0
	target := b.target[:b.N]
	for i, t := range target {
		switch {
		case t < markFlood:
			if count[t] == 0 {
				touched = append(touched, t)
			}
			count[t]++
		case t == markFlood:
			b.flooded[nflood] = uint16(i)
			nflood++
		}
	}
	b.touched = touched
	// Whatever happens, the counts are zero for the next batch.
	defer b.clearCounts()

	pos := uint16(0)
	for _, t := range touched {
		n := count[t]
		count[t] = pos
		pos += n
	}
	for i, t := range target {
		if t < markFlood {
			b.order[count[t]] = uint16(i)
			count[t]++
		}
	}
	flooded := b.flooded[:nflood]
	if nflood > 0 && !p.countFlood(b, v, nflood) {
		flooded = nil
	}
	start := uint16(0)
	for _, t := range touched {
		list := b.order[start:count[t]]
		start = count[t]
		q := v.ports[t]
		if len(flooded) > 0 && v.takes[t] {
			list = merge(b.merged[:0], list, flooded)
			count[t] = markDone
		}
		p.deliver(b, q, list)
	}
	if len(flooded) == 0 {
		return
	}
	for _, q := range v.flood {
		if q != p && count[uint16(q.id)] != markDone {
			p.deliver(b, q, flooded)
		}
	}
}

func (b *Batch) clearCounts() {
	for _, t := range b.touched {
		b.count[t] = 0
	}
}

// merge appends two ascending lists to dst in ascending order.
func merge(dst, a, b []uint16) []uint16 {
	for len(a) > 0 && len(b) > 0 {
		if a[0] < b[0] {
			dst, a = append(dst, a[0]), a[1:]
		} else {
			dst, b = append(dst, b[0]), b[1:]
		}
	}
	return append(append(dst, a...), b...)
}
