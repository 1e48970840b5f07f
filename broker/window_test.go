package broker

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// TestWindowAgreesWithAModel compares the window with a plain list under
// random use: seqs that skip, acknowledgements in any order.
func TestWindowAgreesWithAModel(t *testing.T) {
	for _, limit := range []int{1, 2, 16, 64, 65, 1024} {
		r := rand.New(rand.NewPCG(1, uint64(limit)))
		w := window{limit: limit}
		var unacked, all []uint64 // the model: what is in flight; that and what was acked after the first of it
		seq := uint64(r.IntN(1000))
		for step := range 20_000 {
			if r.IntN(2) == 0 {
				next := seq + 1 + uint64(r.IntN(3))
				if r.IntN(50) == 0 && len(unacked) > 0 {
					next = unacked[r.IntN(len(unacked))] + idRange // the id of one in flight
					if next <= seq {
						continue
					}
				}
				taken := slices.ContainsFunc(unacked, func(s uint64) bool { return packetID(s) == packetID(next) })
				want := len(unacked) < limit && len(all) < 4*limit && !taken
				if got := w.fits(next); got != want {
					t.Fatalf("limit %d step %d: fits(%d) = %t, want %t", limit, step, next, got, want)
				}
				if want {
					seq = next
					w.add(seq, false)
					unacked, all = append(unacked, seq), append(all, seq)
				}
			} else if len(unacked) > 0 {
				i := 0
				if r.IntN(3) == 0 {
					i = r.IntN(len(unacked))
				}
				id := packetID(unacked[i])
				if !w.ack(id, false) {
					t.Fatalf("limit %d step %d: ack(%d) = false", limit, step, id)
				}
				if w.ack(id, false) {
					t.Fatalf("limit %d step %d: ack(%d) twice", limit, step, id)
				}
				unacked = slices.Delete(unacked, i, i+1)
				for len(all) > 0 && !slices.Contains(unacked, all[0]) {
					all = all[1:]
				}
			}
			first, ok := w.first()
			if ok != (len(unacked) > 0) || ok && first != unacked[0] {
				t.Fatalf("limit %d step %d: first = %d, %t; in flight are %v", limit, step, first, ok, unacked)
			}
			if got, want := w.room(), max(0, min(limit-len(unacked), 4*limit-len(all))); got != want {
				t.Fatalf("limit %d step %d: room = %d, want %d", limit, step, got, want)
			}
			var ahead []uint64
			for _, s := range all {
				if !slices.Contains(unacked, s) {
					ahead = append(ahead, s)
				}
			}
			if step%64 == 0 && !slices.Equal(w.ahead(), ahead) {
				t.Fatalf("limit %d step %d: ahead = %v, want %v", limit, step, w.ahead(), ahead)
			}
		}
	}
}

func TestPacketIDsStayInTheirRange(t *testing.T) {
	for _, seq := range []uint64{0, 1, idRange - 1, idRange, idRange + 1, 1 << 40, ^uint64(0)} {
		if id := packetID(seq); id < 1 || id > idRange {
			t.Errorf("packetID(%d) = %d, want 1 to %d", seq, id, idRange)
		}
	}
}
