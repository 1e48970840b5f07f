package storagetest

import (
	"encoding/binary"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"holdline/chat"
	"holdline/storage"
)

// Bench measures what a bridge does: messages of many customers, each with its
// permanent id and two events, committed with the partition's position, alone or 200
// at a time. Reported are messages and commits per second.
func Bench(b *testing.B, open func(b *testing.B) storage.Store) {
	for _, size := range []int{1, 200} {
		for _, committers := range []int{1, 4} {
			b.Run(fmt.Sprintf("messages=%d/committers=%d", size, committers), func(b *testing.B) {
				benchCommits(b, open(b), size, committers)
			})
		}
	}
}

func benchCommits(b *testing.B, s storage.Store, size, committers int) {
	const customers = 2000 // per committer, in turns
	var left atomic.Int64
	left.Store(int64(b.N))
	errs := make(chan error, committers)
	b.ResetTimer()
	begin := time.Now()
	for who := range committers {
		go func() {
			errs <- func() error {
				ctx := b.Context()
				now := time.Now()
				l, err := s.Claim(ctx, storage.InputLease(who), "bench", 0, now, time.Hour)
				if err != nil {
					return err
				}
				var at storage.Position
				for n := uint64(0); left.Add(-1) >= 0; {
					scope := storage.Scope{Advance: []storage.Advance{{Partition: who, Lease: l, From: at, To: storage.Position{Journal: 1, Seq: at.Seq + uint64(size)}}}}
					keys := make([]storage.SaidKey, size)
					for i := range keys {
						a := chat.Account{Tenant: "main", Role: chat.Customer, Subject: fmt.Sprintf("customer-%d-%d", who, (n*7919)%customers)}
						keys[i] = storage.SaidKey{Account: a, ID: chat.MessageID(fmt.Sprintf("0199a0b0-0000-7000-8000-%012x", n))}
						scope.Accounts, scope.Said = append(scope.Accounts, a), append(scope.Said, keys[i])
						n++
					}
					if err := s.Transact(ctx, scope, func(u *storage.Unit) error {
						for i, k := range keys {
							if _, ok := u.Said(k); ok {
								continue
							}
							c := u.Open(k.Account)
							if c == nil {
								var e [12]byte
								binary.BigEndian.PutUint32(e[:], uint32(who))
								binary.BigEndian.PutUint64(e[4:], at.Seq+uint64(i))
								c = chat.Open(chat.NewConversationID(k.Account.Slot(), e), k.Account, "Ada Lovelace", chat.DefaultQueue, now)
							}
							say := chat.Say{ID: k.ID, Kind: chat.Text, Text: "Hi, order 4711 has not arrived, and it is the third time now. What can you do about it?"}
							m := c.Number(k.Account, "Ada Lovelace", say, now)
							u.Add(m)
							u.Touch(c)
							u.Remember(k, storage.Said{Hash: say.Hash(), Conversation: c.ID, Seq: m.Seq}, now)
							u.TellMessage(c, m)
						}
						return nil
					}); err != nil {
						return err
					}
					at = scope.Advance[0].To
				}
				return nil
			}()
		}()
	}
	for range committers {
		if err := <-errs; err != nil {
			b.Error(err)
		}
	}
	seconds := time.Since(begin).Seconds()
	b.ReportMetric(float64(b.N)/seconds, "commits/s")
	b.ReportMetric(float64(b.N*size)/seconds, "messages/s")
	b.ReportMetric(0, "ns/op")
}
