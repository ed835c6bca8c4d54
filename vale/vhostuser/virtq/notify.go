package virtq

// publish makes the used entries up to idx visible to the driver, and calls it
// when it wants to know (section 2.7.7). The store of the index is a full
// barrier, so the driver's wishes are read after it.
func (q *Queue) publish(idx uint16) {
	old := q.usedIdx
	q.usedIdx = idx
	q.setUsed(q.usedFlags, idx)
	if q.cfg.EventIdx {
		// The event index lies in (old, idx] as seen from old.
		if event := q.usedEvent(); idx-event-1 >= idx-old {
			return
		}
	} else if q.availFlags()&availNoInterrupt != 0 {
		return
	}
	if q.cfg.Call >= 0 {
		q.Signaler.Signal(q.cfg.Call)
	}
}

// Arm asks the driver for a kick at the next available entry. It returns false
// when entries wait already, or the queue is broken.
func (q *Queue) Arm() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.running {
		return true
	}
	if q.cfg.EventIdx {
		q.setAvailEvent(q.last)
	} else {
		q.setUsedFlags(0)
	}
	return q.availIdx() == q.last
}

// Disarm tells the driver that kicks are not needed. With EVENT_IDX nothing
// has to be said: the event index lies in the past.
func (q *Queue) Disarm() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.running && !q.cfg.EventIdx {
		q.setUsedFlags(usedNoNotify)
	}
}

func (q *Queue) setUsedFlags(f uint16) {
	q.usedFlags = f
	q.setUsed(f, q.usedIdx)
}

// Call interrupts the driver whatever its wishes, for example after a start,
// when it may have missed one.
func (q *Queue) Call() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.running && q.cfg.Call >= 0 {
		q.Signaler.Signal(q.cfg.Call)
	}
}
