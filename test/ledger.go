package test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"holdline/chat"
)

// Ledger is the check that every scenario ends with: what the devices were
// told, against what the server has and against each other.
type Ledger struct {
	Server *Server
	Phones []*Phone
	Desks  []*Desk
	// Answered requires an answer to everything that customers said.
	Answered bool
	// Within bounds Settle; Patience when 0.
	Within time.Duration
}

// word is something said, by its sender and id: what must be unique.
type word struct {
	from chat.Account
	id   chat.MessageID
}

// place is where a message stands: what must be the same for everybody.
type place struct {
	conversation chat.ConversationID
	seq          uint64
}

// Close waits until everything that is owed has arrived, and checks.
func (l *Ledger) Close(tb testing.TB) {
	tb.Helper()
	l.Settle(tb)
	l.Check(tb)
	words, answers, events, repeats := 0, 0, 0, 0
	for _, d := range l.devices() {
		if d.Account.Role == chat.Customer {
			words += len(d.Sayings())
		} else {
			answers += len(d.Sayings()) + len(l.posted(d))
		}
		for _, i := range d.Inboxes() {
			events, repeats = events+len(i.Events()), repeats+i.Repeats()
		}
	}
	tb.Logf("the ledger balances: %d words of %d phones, %d of %d desks, %d events; %d came again and were told apart by their number",
		words, len(l.Phones), answers, len(l.Desks), events, repeats)
}

// Settle waits until every acknowledged word has its outcome and every phone
// that is on has every message of its conversations. It fails with what is missing.
func (l *Ledger) Settle(tb testing.TB) {
	tb.Helper()
	within := l.Within
	if within == 0 {
		within = Patience
	}
	var heads []Head
	Eventually(tb, within, func() string {
		var missing []string
		for _, d := range l.devices() {
			if n := d.Unacked(); n > 0 {
				missing = append(missing, fmt.Sprintf("%s waits for %d PUBACKs", d, n))
				continue
			}
			for _, s := range append(d.Sayings(), l.posted(d)...) {
				if d.Told(s.ID) == "" {
					missing = append(missing, fmt.Sprintf("%s has neither message nor refusal for %s, which was acknowledged", d, s.ID))
				}
			}
		}
		if len(missing) > 0 {
			return listed(missing)
		}
		var err error
		if heads, err = l.Server.Conversations(tb.Context(), nil); err != nil {
			return err.Error()
		}
		for _, p := range l.Phones {
			have := map[place]bool{}
			words := map[chat.MessageID]bool{}
			for _, m := range p.Messages() {
				have[place{m.Conversation, m.Seq}] = true
				words[m.ID] = true
			}
			for _, h := range heads {
				if h.Customer == nil || h.Customer.ID != p.Account.Subject {
					continue
				}
				for seq := uint64(1); seq <= h.LastSeq; seq++ {
					if !have[place{h.ID, seq}] {
						missing = append(missing, fmt.Sprintf("%s lacks message %d of %d of conversation %s", p, seq, h.LastSeq, h.ID))
					}
				}
			}
			if l.Answered {
				for _, s := range p.Sayings() {
					if p.Taken(s) && !slices.ContainsFunc(l.Desks, func(d *Desk) bool { return words[answerTo(s.ID, d.Name)] }) {
						missing = append(missing, fmt.Sprintf("%s lacks the answer to %s", p, s.ID))
					}
				}
			}
		}
		return listed(missing)
	})
}

func (l *Ledger) devices() (all []*Device) {
	for _, p := range l.Phones {
		all = append(all, p.Device)
	}
	for _, d := range l.Desks {
		all = append(all, d.Device)
	}
	return all
}

// posted are what a device said over HTTP.
func (l *Ledger) posted(d *Device) []*Said {
	for _, desk := range l.Desks {
		if desk.Device == d {
			return desk.Posted()
		}
	}
	return nil
}

func listed(missing []string) string {
	if n := len(missing); n > 8 {
		missing = append(missing[:8:8], fmt.Sprintf("… and %d more", n-8))
	}
	return strings.Join(missing, "\n")
}

// Check compares everything with everything. It may be called at any time after Settle.
func (l *Ledger) Check(tb testing.TB) {
	tb.Helper()
	faults, err := l.Faults(tb.Context())
	if err != nil {
		tb.Fatal(err)
	}
	if len(faults) > 0 {
		tb.Fatalf("the ledger does not balance:\n%s", listed(faults))
	}
}

// Faults is what Check finds.
func (l *Ledger) Faults(ctx context.Context) (faults []string, err error) {
	fault := func(format string, a ...any) { faults = append(faults, fmt.Sprintf(format, a...)) }

	texts := map[word][]string{} // everything that was ever sent
	for _, d := range l.devices() {
		for _, s := range append(d.Sayings(), l.posted(d)...) {
			texts[word{d.Account, s.ID}] = append(texts[word{d.Account, s.ID}], s.Text)
		}
		for _, i := range d.Inboxes() {
			faults = append(faults, i.Faults()...)
		}
	}

	// The server's own account of it: the order, without gaps, each word once.
	order := map[place]chat.Event{}
	stored := map[word]place{}
	heads, err := l.Server.Conversations(ctx, nil)
	if err != nil {
		return nil, err
	}
	open := map[string]chat.ConversationID{}
	for _, h := range heads {
		if h.State != chat.Resolved {
			if other, twice := open[h.Customer.ID]; twice {
				fault("customer %s has two open conversations, %s and %s", h.Customer.ID, other, h.ID)
			}
			open[h.Customer.ID] = h.ID
		}
		thread, err := l.Server.Thread(ctx, h.ID)
		if err != nil {
			return nil, err
		}
		if n := uint64(len(thread)); n != h.LastSeq {
			fault("conversation %s has %d messages and last_seq %d", h.ID, n, h.LastSeq)
		}
		before := ""
		for i, m := range thread {
			if m.Seq != uint64(i+1) {
				fault("conversation %s: message %d has seq %d", h.ID, i+1, m.Seq)
			}
			if m.At < before {
				fault("conversation %s: the time falls at seq %d: %s after %s", h.ID, m.Seq, m.At, before)
			}
			before = m.At
			w := word{chat.Account{Tenant: chat.DefaultTenant, Role: m.From.Role, Subject: m.From.ID}, m.ID}
			if at, twice := stored[w]; twice {
				fault("%s from %s is doubled: seq %d of %s and seq %d of %s", m.ID, w.from, at.seq, at.conversation, m.Seq, h.ID)
			}
			stored[w] = place{h.ID, m.Seq}
			order[place{h.ID, m.Seq}] = m
			if l.knows(w.from) && !slices.Contains(texts[w], m.Text) {
				fault("%s from %s is stored as %.60q, was sent as %.60q", m.ID, w.from, m.Text, texts[w])
			}
		}
	}
	for _, d := range l.devices() {
		for _, e := range only(d.Inbox("down/event").Events(), chat.TypeRefused) {
			w := word{d.Account, e.ID}
			if _, ok := stored[w]; ok && e.Reason != chat.ReasonNotOwner && len(slices.Compact(slices.Sorted(slices.Values(texts[w])))) == 1 {
				fault("%s: %s is stored and was refused as %s: %s", d, e.ID, e.Reason, e.Detail)
			}
		}
		l.checkSaid(d, stored, fault)
		l.checkSeen(d, order, stored, fault)
	}
	l.checkOwners(fault)
	return faults, nil
}

// knows reports whether every device of an account is in the ledger's hands.
func (l *Ledger) knows(a chat.Account) bool {
	return slices.ContainsFunc(l.devices(), func(d *Device) bool { return d.Account == a })
}

// checkSaid: what was acknowledged is stored once, or was refused and the
// device was told; what one device said in turn is stored in that turn.
func (l *Ledger) checkSaid(d *Device, stored map[word]place, fault func(string, ...any)) {
	last := map[chat.ConversationID]uint64{}
	before := map[chat.MessageID]bool{}
	for _, s := range append(d.Sayings(), l.posted(d)...) {
		at, ok := stored[word{d.Account, s.ID}]
		if s.topic == "up/command" || before[s.ID] { // the turn of a word is that of its first saying
			continue
		}
		before[s.ID] = true
		refused := d.Told(s.ID) == chat.TypeRefused
		switch {
		case d.Taken(s) && !ok && !refused:
			fault("%s: %s was acknowledged and is lost", d, s.ID)
		case ok && d.Account.Role == chat.Customer && !refused:
			if at.seq < last[at.conversation] {
				fault("%s: %s has seq %d, after a later one had %d", d, s.ID, at.seq, last[at.conversation])
			}
			last[at.conversation] = at.seq
		}
	}
}

// checkSeen: every message that a device was shown is the one that the server
// has at that place, was shown once, and in order.
func (l *Ledger) checkSeen(d *Device, order map[place]chat.Event, stored map[word]place, fault func(string, ...any)) {
	for _, inbox := range d.Inboxes() {
		shown := map[word]bool{}
		last := map[chat.ConversationID]uint64{}
		for _, e := range only(inbox.Events(), chat.TypeMessage) {
			w := word{chat.Account{Tenant: chat.DefaultTenant, Role: e.From.Role, Subject: e.From.ID}, e.ID}
			if shown[w] {
				fault("%s: %s from %s is shown twice", inbox.name, e.ID, w.from)
			}
			shown[w] = true
			m := order[place{e.Conversation, e.Seq}]
			if m.ID != e.ID || m.Text != e.Text || m.From == nil || *m.From != *e.From || m.At != e.At {
				fault("%s: seq %d of %s is %s from %s here, and %s at the server", inbox.name, e.Seq, e.Conversation, e.ID, w.from, m.ID)
			}
			if e.Seq <= last[e.Conversation] {
				fault("%s: seq %d of %s after %d", inbox.name, e.Seq, e.Conversation, last[e.Conversation])
			}
			if d.Account.Role == chat.Customer && e.Seq != last[e.Conversation]+1 && last[e.Conversation] > 0 {
				fault("%s: seq %d of %s follows %d", inbox.name, e.Seq, e.Conversation, last[e.Conversation])
			}
			last[e.Conversation] = e.Seq
		}
	}
	// Every own word that was stored was also shown to its sender.
	if d.Account.Role != chat.Customer {
		return
	}
	shown := map[chat.MessageID]bool{}
	for _, e := range only(d.Inbox("down/event").Events(), chat.TypeMessage) {
		shown[e.ID] = true
	}
	for _, s := range d.Sayings() {
		if _, ok := stored[word{d.Account, s.ID}]; ok && !shown[s.ID] {
			fault("%s: %s is stored and its sender was not told", d, s.ID)
		}
	}
}

// checkOwners: under one epoch a conversation has one owner, whoever looks; and
// nobody sees an epoch fall.
func (l *Ledger) checkOwners(fault func(string, ...any)) {
	type reign struct {
		conversation chat.ConversationID
		epoch        uint64
	}
	owners := map[reign]string{}
	for _, d := range l.Desks {
		for _, inbox := range d.Inboxes() {
			last := map[chat.ConversationID]uint64{}
			for _, e := range only(inbox.Events(), chat.TypeConversation) {
				if e.Head == nil {
					fault("%s: event %s has no head", inbox.name, e.Event)
					continue
				}
				owner := string(e.Head.State)
				if e.Head.Agent != nil {
					owner = e.Head.Agent.ID
				}
				r := reign{e.Conversation, e.Head.Epoch}
				if other, known := owners[r]; known && other != owner {
					fault("conversation %s has two owners under epoch %d: %s and %s", e.Conversation, r.epoch, other, owner)
				}
				owners[r] = owner
				if r.epoch < last[e.Conversation] {
					fault("%s: epoch of %s falls from %d to %d", inbox.name, e.Conversation, last[e.Conversation], r.epoch)
				}
				last[e.Conversation] = r.epoch
			}
		}
	}
}
