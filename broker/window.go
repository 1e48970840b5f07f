package broker

import "slices"

// idRange is how many packet ids cursor deliveries use: 1 + (seq mod idRange).
// A message sent again has its id without anybody remembering it; the ids above
// are left for deliveries that have no place in the journal.
const idRange = 32767

// packetID of an entry is the same whenever and to whomever it is sent.
func packetID(seq uint64) uint16 { return uint16(1 + seq%idRange) }

// window is what was handed to one connection with QoS 1 and is not done, in
// the order of the journal. It holds no messages, only their places.
type window struct {
	limit   int    // Receive Maximum: how many may be unacknowledged
	slots   []slot // those from head on count, and the first of them is unacknowledged
	head    int
	waiting int // slots that are not acknowledged
	beside  int // deliveries outside the cursor that are not acknowledged
	// releasing are the packet ids of QoS 2 that wait for their PUBCOMP, in the order
	// of their PUBRECs. Their messages are done.
	releasing []uint16
	// ids marks the packet ids in use; only windows too large to look through have it.
	ids *[(idRange + 64) / 64]uint64
}

type slot struct {
	seq   uint64
	acked bool
	twice bool // QoS 2
}

// smallWindow is the largest number of slots that is looked through.
const smallWindow = 64

// room is how many more may be sent. Acknowledgements out of order make room,
// but not without bound: what comes after an unacknowledged one is remembered.
func (w *window) room() int {
	return max(0, min(w.limit-w.waiting-w.beside, 4*w.limit-len(w.live())))
}

func (w *window) live() []slot { return w.slots[w.head:] }

// keep makes room at the end by moving what is left to the front, when that is half or less.
func (w *window) keep() {
	if len(w.slots) == cap(w.slots) && w.head > 0 && w.head >= len(w.slots)/2 {
		w.slots = w.slots[:copy(w.slots, w.live())]
		w.head = 0
	}
}

// fits reports whether the entry may be sent now: there is room, and its packet
// id is not in flight.
func (w *window) fits(seq uint64) bool {
	if w.room() == 0 {
		return false
	}
	id := packetID(seq)
	if len(w.releasing) > 0 && slices.Contains(w.releasing, id) {
		return false
	}
	if w.ids != nil {
		return w.ids[id/64]&(1<<(id%64)) == 0
	}
	for _, s := range w.live() {
		if !s.acked && packetID(s.seq) == id {
			return false
		}
	}
	return true
}

// add notes that the entry is on its way. It must fit and be newer than all before.
func (w *window) add(seq uint64, twice bool) {
	w.keep()
	w.slots = append(w.slots, slot{seq: seq, twice: twice})
	w.waiting++
	if w.ids == nil && len(w.live()) > smallWindow {
		w.ids = new([(idRange + 64) / 64]uint64)
		for _, s := range w.live() {
			if !s.acked {
				w.mark(s.seq)
			}
		}
	} else if w.ids != nil {
		w.mark(seq)
	}
}

// pass notes an entry that an earlier connection acknowledged. It is remembered
// only while an older one is not done.
func (w *window) pass(seq uint64) {
	if w.head < len(w.slots) {
		w.keep()
		w.slots = append(w.slots, slot{seq: seq, acked: true})
	}
}

func (w *window) mark(seq uint64) {
	id := packetID(seq)
	w.ids[id/64] |= 1 << (id % 64)
}

// ack takes an acknowledgement; ok is false when nothing with that id and kind of
// QoS is in flight.
func (w *window) ack(id uint16, twice bool) (ok bool) {
	live := w.live()
	for i := range live {
		s := &live[i]
		if s.acked || packetID(s.seq) != id || s.twice != twice {
			continue
		}
		s.acked = true
		w.waiting--
		if w.ids != nil {
			w.ids[id/64] &^= 1 << (id % 64)
		}
		w.trim()
		return true
	}
	return false
}

// trim forgets the acknowledged slots at the front.
func (w *window) trim() {
	for w.head < len(w.slots) && w.slots[w.head].acked {
		w.head++
	}
	if w.head < len(w.slots) {
		return
	}
	// Nothing is in flight. What a burst needed is not kept for the idle time after it.
	w.slots, w.head, w.ids = w.slots[:0], 0, nil
	if cap(w.slots) > smallWindow {
		w.slots = nil
	}
}

// first is the oldest entry that is not done; ok is false when all is.
func (w *window) first() (seq uint64, ok bool) {
	if w.head == len(w.slots) {
		return 0, false
	}
	return w.slots[w.head].seq, true
}

// ahead lists the entries that were acknowledged before an older one.
func (w *window) ahead() []uint64 {
	var seqs []uint64
	for _, s := range w.live() {
		if s.acked {
			seqs = append(seqs, s.seq)
		}
	}
	return seqs
}
