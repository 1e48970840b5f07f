package storagetest

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"holdline/chat"
	"holdline/storage"
)

var numbers = map[string]func(*fixture){
	"forty writers leave no gap in seq":                     gaplessSeq,
	"forty agents leave no gap in seq":                      gaplessByAgents,
	"event numbers of an inbox have no gap":                 gaplessEvents,
	"the same id at once is said once":                      saidAtOnce,
	"the same id at once is said once, without the account": saidWithoutLock,
	"an id said before is refused, whatever comes between":  saidForEver,
	"an id is unique per account":                           saidPerAccount,
	"two first words at once open one conversation":         openAtOnce,
	"a second open conversation is refused":                 secondOpen,
	"one closes and another opens in one transaction":       closeAndOpen,
	"messages follow one another":                           seqInOrder,
	"an agent never holds more than its load allowed":       loadUnderLock,
	"a transaction that fails takes no number":              failedTakesNoNumber,
}

func gaplessSeq(f *fixture) {
	const writers, each = 40, 8
	id := f.opened(ada, 1)
	f.allNil(together(writers, func(w int) error {
		for n := range each {
			if _, err := f.say(ada, chat.Say{ID: chat.MessageID(fmt.Sprintf("%d/%d", w, n)), Kind: chat.Text, Text: "x"}, noon.Add(time.Duration(w*n)*time.Millisecond)); err != nil {
				return err
			}
		}
		return nil
	}))
	messages := f.messages(id)
	if len(messages) != writers*each+1 {
		f.Fatalf("%d messages, want %d", len(messages), writers*each+1)
	}
	for i, m := range messages {
		if m.Seq != uint64(i+1) {
			f.Fatalf("message %d has seq %d", i+1, m.Seq)
		}
		if i > 0 && m.At.Before(messages[i-1].At) {
			f.Fatalf("the time falls at seq %d", m.Seq)
		}
	}
}

// gaplessByAgents has no lock in common but the conversation's own.
func gaplessByAgents(f *fixture) {
	const writers, each = 40, 6
	id := f.opened(ada, 1)
	f.allNil(together(writers, func(w int) error {
		agent := chat.Account{Tenant: "main", Role: chat.AgentRole, Subject: fmt.Sprint(w)}
		for range each {
			err := f.Transact(f.ctx, storage.Scope{ConversationsOf: "main", Conversations: []chat.ConversationID{id}}, func(u *storage.Unit) error {
				c, err := u.Conversation(id)
				if err != nil {
					return err
				}
				u.Add(c.Number(agent, "", chat.Say{Kind: chat.Text, Text: "x"}, noon))
				u.Touch(c)
				return nil
			})
			if err != nil {
				return err
			}
		}
		return nil
	}))
	messages := f.messages(id)
	for i, m := range messages {
		if m.Seq != uint64(i+1) {
			f.Fatalf("message %d has seq %d", i+1, m.Seq)
		}
	}
	f.want("messages", len(messages), writers*each+1)
}

func gaplessEvents(f *fixture) {
	const writers, each = 40, 6
	queue := chat.DefaultQueue.Inbox("main")
	var told atomic.Int64
	f.allNil(together(writers, func(w int) error {
		for n := range each {
			err := f.Transact(f.ctx, storage.Scope{Accounts: []chat.Account{customer(w)}}, func(u *storage.Unit) error {
				for range n + 1 {
					u.Tell(queue, chat.Event{Type: chat.TypeDone, ID: chat.MessageID(fmt.Sprintf("%d", w))}, noon)
					u.Tell(customer(w%3).Inbox(), chat.Event{Type: chat.TypeDone}, noon)
				}
				if n == 3 {
					return chat.ErrInvalid // what is rolled back leaves no hole
				}
				return nil
			})
			if n == 3 && errors.Is(err, chat.ErrInvalid) {
				continue
			}
			if err != nil {
				return err
			}
			told.Add(int64(n + 1))
		}
		return nil
	}))
	for n := uint64(0); ; {
		page, err := f.Events(f.ctx, queue, n, 100)
		f.must(err)
		for _, e := range page {
			if n++; e.N != n {
				f.Fatalf("event %d has number %d", n, e.N)
			}
		}
		if len(page) == 0 {
			f.want("events", n, uint64(told.Load()))
			return
		}
	}
}

func saidAtOnce(f *fixture) {
	const writers = 20
	results := make([]storage.Said, writers)
	f.allNil(together(writers, func(w int) (err error) {
		results[w], err = f.say(ada, chat.Say{ID: "same", Kind: chat.Text, Text: "once"}, noon)
		return err
	}))
	for _, r := range results {
		f.want("what became of it", r, results[0])
	}
	f.want("messages", len(f.messages(results[0].Conversation)), 1)
}

func saidWithoutLock(f *fixture) {
	k := storage.SaidKey{Account: ada, ID: "same"}
	var mu sync.Mutex
	winners := 0
	f.allNil(together(20, func(w int) error {
		first := false
		err := f.Transact(f.ctx, storage.Scope{Said: []storage.SaidKey{k}}, func(u *storage.Unit) error {
			if _, ok := u.Said(k); ok {
				first = false
				return nil
			}
			first = true
			u.Remember(k, storage.Said{Seq: uint64(w)}, noon)
			return nil
		})
		mu.Lock()
		defer mu.Unlock()
		if first && err == nil {
			winners++
		}
		return err
	}))
	f.want("winners", winners, 1)
}

func saidForEver(f *fixture) {
	first, err := f.say(ada, chat.Say{ID: "m", Kind: chat.Text, Text: "one"}, noon)
	f.must(err)
	f.change(first.Conversation, func(c *chat.Conversation) { c.State, c.Resolved = chat.Resolved, noon })
	again, err := f.say(ada, chat.Say{ID: "m", Kind: chat.Text, Text: "one"}, noon.AddDate(5, 0, 0))
	f.must(err)
	f.want("said again", again, first)
	f.want("when", again.At, noon)
	if _, err = f.say(ada, chat.Say{ID: "m", Kind: chat.Text, Text: "two"}, noon); !errors.Is(err, chat.ErrConflict) {
		f.Errorf("the same id with other words = %v, want a conflict", err)
	}
	k := storage.SaidKey{Account: ada, ID: "m"}
	err = f.Transact(f.ctx, storage.Scope{Accounts: []chat.Account{ada}}, func(u *storage.Unit) error {
		u.Remember(k, storage.Said{}, noon) // who did not look
		u.Tell(ada.Inbox(), chat.Event{Type: chat.TypeDone}, noon)
		return nil
	})
	f.wantErr("Transact", err, storage.ErrPermanent, chat.ErrConflict)
	n, err := f.LastEvent(f.ctx, ada.Inbox())
	f.must(err)
	f.want("LastEvent", n, uint64(1))
}

func saidPerAccount(f *fixture) {
	agent := chat.Account{Tenant: "main", Role: chat.AgentRole, Subject: "ada"}
	other := chat.Account{Tenant: "other", Role: chat.Customer, Subject: "ada"}
	for _, a := range []chat.Account{ada, agent, other, grace} {
		s, err := f.say(a, chat.Say{ID: "m", Kind: chat.Text, Text: a.String()}, noon)
		f.must(err)
		f.want("seq of "+a.String(), s.Seq, uint64(1))
	}
}

func openAtOnce(f *fixture) {
	const writers = 20
	f.allNil(together(writers, func(w int) error {
		_, err := f.say(ada, chat.Say{ID: chat.MessageID(fmt.Sprint(w)), Kind: chat.Text, Text: "hello"}, noon.Add(time.Duration(w)))
		return err
	}))
	list, err := f.Conversations(f.ctx, storage.ConversationQuery{Tenant: "main"})
	f.must(err)
	if len(list) != 1 || list[0].Seq != writers {
		f.Errorf("%d conversations, want one with %d messages", len(list), writers)
	}
}

func secondOpen(f *fixture) {
	id := f.opened(ada, 1)
	err := f.Transact(f.ctx, storage.Scope{Accounts: []chat.Account{ada, grace}}, func(u *storage.Unit) error {
		f.writeAll(u, grace)
		u.Touch(chat.Open(conversationID(ada, 2), ada, "", chat.DefaultQueue, noon))
		return nil
	})
	f.wantErr("opening a second one", err, storage.ErrPermanent, chat.ErrConflict)
	f.noTrace(grace)
	list, err := f.Conversations(f.ctx, storage.ConversationQuery{Tenant: "main"})
	f.must(err)
	if len(list) != 1 || list[0].ID != id {
		f.Errorf("%d conversations, want the first alone", len(list))
	}
}

func closeAndOpen(f *fixture) {
	// Both ways, so that whatever order an engine writes in, one way is the harder.
	for _, n := range []int{1, 3} {
		a := customer(n)
		old, next := f.opened(a, n), conversationID(a, 2)
		f.transact(storage.Scope{Accounts: []chat.Account{a}, ConversationsOf: "main", Conversations: []chat.ConversationID{next}}, func(u *storage.Unit) error {
			c := u.Open(a)
			c.State, c.Resolved = chat.Resolved, noon
			u.Touch(c)
			if u.Open(a) != nil {
				f.Error("a resolved conversation is still the open one")
			}
			u.Touch(chat.Open(next, a, "", chat.DefaultQueue, noon))
			return nil
		})
		// And back: the first opens again as the second closes.
		f.transact(storage.Scope{ConversationsOf: "main", Conversations: []chat.ConversationID{old, next}, Accounts: []chat.Account{a}}, func(u *storage.Unit) error {
			c, err := u.Conversation(next)
			if err != nil {
				return err
			}
			c.State, c.Resolved = chat.Resolved, noon
			u.Touch(c)
			if c, err = u.Conversation(old); err != nil {
				return err
			}
			if err := c.Reopen(noon); err != nil {
				return err
			}
			u.Touch(c)
			return nil
		})
		f.transact(storage.Scope{Accounts: []chat.Account{a}}, func(u *storage.Unit) error {
			if c := u.Open(a); c == nil || c.ID != old || c.Episode != 2 {
				f.Errorf("open is %v, want %s again", c, old)
			}
			return nil
		})
	}
}

func seqInOrder(f *fixture) {
	id := f.opened(ada, 1)
	for what, add := range map[string]func(*storage.Unit, *chat.Conversation){
		"a seq that is taken": func(u *storage.Unit, c *chat.Conversation) {
			u.Add(chat.Message{Tenant: "main", Conversation: id, Seq: 1, From: ada, At: noon.Add(time.Hour)})
			u.Touch(c)
		},
		"a gap": func(u *storage.Unit, c *chat.Conversation) {
			c.Seq++
			u.Add(c.Number(ada, "", chat.Say{}, noon))
			u.Touch(c)
		},
		"a head behind its message": func(u *storage.Unit, c *chat.Conversation) {
			u.Add(c.Number(ada, "", chat.Say{}, noon))
			c.Seq--
			u.Touch(c)
		},
		"a head that is not written": func(u *storage.Unit, c *chat.Conversation) {
			u.Add(c.Number(ada, "", chat.Say{}, noon))
		},
		"a conversation that is not loaded": func(u *storage.Unit, c *chat.Conversation) {
			u.Add(chat.Message{Tenant: "main", Conversation: conversationID(ada, 9), Seq: 1, From: ada, At: noon})
		},
	} {
		err := f.Transact(f.ctx, storage.Scope{Accounts: []chat.Account{ada, grace}}, func(u *storage.Unit) error {
			f.writeAll(u, grace)
			add(u, u.Open(ada))
			return nil
		})
		f.wantErr(what, err, storage.ErrPermanent, chat.ErrConflict)
		f.noTrace(grace)
	}
	f.want("messages", len(f.messages(id)), 1)
}

func loadUnderLock(f *fixture) {
	const waiting = 20
	k := f.agent("bob")
	ids := make([]chat.ConversationID, waiting)
	for i := range ids {
		ids[i] = f.opened(customer(i), i)
	}
	f.allNil(together(waiting, func(w int) error {
		s := storage.Scope{ConversationsOf: "main", Conversations: ids[w : w+1], Agents: []storage.AgentKey{k}}
		return f.Transact(f.ctx, s, func(u *storage.Unit) error {
			a, err := u.Agent(k)
			if err != nil {
				return err
			}
			if a.Load >= a.Capacity {
				return nil
			}
			c, err := u.Conversation(ids[w])
			if err != nil {
				return err
			}
			if err := c.Assign(a.ID, a.Name); err != nil {
				return err
			}
			a.IdleSince = noon
			u.Touch(c)
			u.Update(a)
			return nil
		})
	}))
	held, err := f.Conversations(f.ctx, storage.ConversationQuery{Tenant: "main", States: []chat.State{chat.Held}, Holder: "bob"})
	f.must(err)
	list, err := f.Agents(f.ctx, "main")
	f.must(err)
	if len(held) != list[0].Capacity || list[0].Load != list[0].Capacity {
		f.Errorf("%d held, load %d, want the capacity %d", len(held), list[0].Load, list[0].Capacity)
	}
}

func failedTakesNoNumber(f *fixture) {
	_, err := f.say(ada, chat.Say{ID: "1", Kind: chat.Text, Text: "x"}, noon)
	f.must(err)
	err = f.Transact(f.ctx, storage.Scope{Accounts: []chat.Account{ada}}, func(u *storage.Unit) error {
		c := u.Open(ada)
		m := c.Number(ada, "", chat.Say{ID: "2"}, noon)
		u.Touch(c)
		u.Add(m)
		u.TellMessage(c, m)
		u.Remember(storage.SaidKey{Account: ada, ID: "1"}, storage.Said{}, noon) // fails as late as can be
		return nil
	})
	f.wantErr("Transact", err, storage.ErrPermanent)
	said, err := f.say(ada, chat.Say{ID: "2", Kind: chat.Text, Text: "x"}, noon)
	f.must(err)
	f.want("seq", said.Seq, uint64(2))
	n, err := f.LastEvent(f.ctx, ada.Inbox())
	f.must(err)
	f.want("LastEvent", n, uint64(2))
}
