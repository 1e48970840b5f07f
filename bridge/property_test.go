package bridge

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"holdline/broker/journal"
	"holdline/broker/topics"
	"holdline/chat"
)

// TestWhateverHappensTheLedgerIsTheOracles lets customers and agents say and do
// things at random, again and out of order, while two bridges share the work and are
// killed at random. What is stored, and what everybody is told, must be what a
// plain reading of the journal comes to.
func TestWhateverHappensTheLedgerIsTheOracles(t *testing.T) {
	for n, engine := range engines {
		seeds := []uint64{8, 2, 1}[n]
		if testing.Short() {
			seeds = 1
		}
		for seed := range seeds {
			t.Run(fmt.Sprintf("%s/seed %d", engine.name, seed), func(t *testing.T) {
				d := &drama{world: engine.world(t), rnd: rand.New(rand.NewPCG(seed, 7))}
				d.play(40)
				d.compare()
			})
		}
	}
}

// drama makes input at random.
type drama struct {
	*world
	rnd     *rand.Rand
	said    []journal.Entry // for saying again
	heads   []*chat.Conversation
	next    int
	bridges [2]*running
	mortals [2]*mortal
	deaths  int
}

var (
	customers = []chat.Account{ada, bea, {Tenant: "main", Role: chat.Customer, Subject: "cem"}, {Tenant: "main", Role: chat.Customer, Subject: "dot"}}
	agents    = []chat.Account{gus, ida}
)

func (d *drama) play(rounds int) {
	d.store.died = make(chan struct{}, 2)
	d.store.revive = d.revive
	for n := range d.bridges {
		d.launch(n)
	}
	for range rounds {
		var batch []journal.Entry
		for range 1 + d.rnd.IntN(30) {
			batch = append(batch, d.line())
		}
		d.append(batch...)
		if d.rnd.IntN(3) == 0 {
			d.settle()
		}
		d.heads = d.conversations()
	}
	d.settle()
	d.store.died = nil
	for _, b := range d.bridges {
		b.stop()
		d.start(b.Node) // for whatever it left
	}
	d.settle()
	if d.deaths < 3 {
		d.Errorf("%d deaths: this proves little", d.deaths)
	}
}

// launch starts a bridge that dies soon.
func (d *drama) launch(n int) {
	m := newMortal(1+d.rnd.Int64N(60), d.rnd.IntN(2) == 0)
	d.mortals[n] = m
	d.bridges[n] = d.startOn(mortalJournal{d.journal, m}, mortalStore{d.store, m}, fmt.Sprint("node-", n), quick(nil))
	died := d.store.died
	go func() {
		<-m.died
		died <- struct{}{}
	}()
	d.Cleanup(m.kill)
}

func (d *drama) revive() {
	for n, m := range d.mortals {
		if m.dead.Load() {
			d.deaths++
			d.bridges[n].stop()
			d.launch(n)
		}
	}
}

// line is something somebody says or does, sensible or not.
func (d *drama) line() journal.Entry {
	d.next++
	id := fmt.Sprint("m", d.next)
	customer, agent := customers[d.rnd.IntN(len(customers))], agents[d.rnd.IntN(len(agents))]
	var head *chat.Conversation
	if len(d.heads) > 0 {
		head = d.heads[d.rnd.IntN(len(d.heads))]
	}
	var e journal.Entry
	switch n := d.rnd.IntN(100); {
	case n < 10 && len(d.said) > 0: // again, perhaps long after
		return d.said[d.rnd.IntN(len(d.said))]
	case n < 13 && len(d.said) > 0: // an id used again
		e = d.said[d.rnd.IntN(len(d.said))]
		var s chat.Say
		if err := json.Unmarshal(e.Payload, &s); err != nil || s.Text == "" {
			return e
		}
		s.Text += "!"
		e.Payload, _ = json.Marshal(s)
		return e
	case n < 16:
		return publishes(customer, "up/message", []byte(`{"id":"`+id+`","text":`))
	case n < 50 || head == nil:
		e = says(customer, id, "word "+id)
	case n < 58:
		e = saysIn(customer, id, head.ID, 0, "word "+id) // foreign, three times of four
	case n < 75:
		if head.Holder != "" && d.rnd.IntN(4) > 0 {
			agent.Subject = head.Holder
		}
		e = saysIn(agent, id, head.ID, head.Epoch-uint64(d.rnd.IntN(2)), "answer "+id)
	case n < 88:
		e = does(agent, id, chat.ActAccept, head.ID, 0)
	case n < 94:
		e = does(agent, id, chat.ActRelease, head.ID, head.Epoch)
	default:
		if head.Holder != "" {
			agent.Subject = head.Holder
		}
		e = does(agent, id, chat.ActResolve, head.ID, head.Epoch)
	}
	d.said = append(d.said, e)
	return e
}

// scene is a conversation as the oracle sees it.
type scene struct {
	customer chat.Account
	state    chat.State
	holder   string
	epoch    uint64
	lines    []string
}

// oracle reads the journal from its beginning with rules written down a second time.
type oracle struct {
	opened map[string]chat.ConversationID // customer and id of the first message → conversation
	scenes map[chat.ConversationID]*scene
	seen   map[string]string // account and id → content, of what was taken
	told   map[chat.Account][]string
}

func (o *oracle) entry(e *journal.Entry) {
	s, ok := topics.Parse(e.Topic)
	if !ok || s.Topic == "" {
		return
	}
	var in struct {
		ID, Do, Text string
		Conversation chat.ConversationID
		Epoch        uint64
	}
	who := s.Account
	if json.Unmarshal(e.Payload, &in) != nil {
		o.told[who] = append(o.told[who], " invalid")
		return
	}
	key, content := who.String()+" "+in.ID, in.Do+in.Text
	if was, ok := o.seen[key]; ok {
		before, where, _ := strings.Cut(was, "\x00")
		if before != content || in.Conversation != "" && string(in.Conversation) != where {
			o.told[who] = append(o.told[who], in.ID+" conflict")
		}
		return
	}
	to, reason := o.do(who, in.ID, in.Do, in.Text, in.Conversation, in.Epoch)
	if reason != "" {
		o.told[who] = append(o.told[who], in.ID+" "+reason)
		return
	}
	o.seen[key] = content + "\x00" + string(to)
}

func (o *oracle) do(who chat.Account, id, do, text string, named chat.ConversationID, epoch uint64) (chat.ConversationID, string) {
	if who.Role == chat.Customer {
		to, open := named, chat.ConversationID("")
		for c, s := range o.scenes {
			if s.customer == who && s.state != chat.Resolved {
				open = c
			}
		}
		switch {
		case named == "" && open == "":
			to = o.opened[who.Subject+" "+id]
			o.scenes[to] = &scene{customer: who, state: chat.Waiting}
		case named == "":
			to = open
		case o.scenes[named].customer != who:
			return "", "forbidden"
		case o.scenes[named].state == chat.Resolved && open != "":
			return "", "closed"
		case o.scenes[named].state == chat.Resolved:
			s := o.scenes[named]
			s.state, s.holder, s.epoch = chat.Waiting, "", s.epoch+1
		}
		o.scenes[to].lines = append(o.scenes[to].lines, who.Subject+" "+id+" "+text)
		return to, ""
	}
	s := o.scenes[named]
	switch owned := s.state == chat.Held && s.holder == who.Subject && s.epoch == epoch; {
	case s.state == chat.Resolved:
		return "", "closed"
	case do == "accept" && s.state == chat.Waiting:
		s.state, s.holder, s.epoch = chat.Held, who.Subject, s.epoch+1
	case do == "accept" && s.holder != who.Subject:
		return "", "conflict"
	case do == "accept":
	case !owned:
		return "", "not_owner"
	case do == "release":
		s.state, s.holder, s.epoch = chat.Waiting, "", s.epoch+1
	case do == "resolve":
		s.state, s.epoch = chat.Resolved, s.epoch+1
	default:
		s.lines = append(s.lines, who.Subject+" "+id+" "+text)
	}
	return named, ""
}

// compare holds what is stored against the oracle.
func (d *drama) compare() {
	o := &oracle{map[string]chat.ConversationID{}, map[chat.ConversationID]*scene{}, map[string]string{}, map[chat.Account][]string{}}
	got := map[chat.ConversationID]*scene{}
	for _, c := range d.conversations() {
		s := &scene{customer: c.Customer, state: c.State, holder: c.Holder, epoch: c.Epoch}
		for before := uint64(0); ; {
			page, err := d.store.Messages(d.Context(), "main", c.ID, before, 200)
			if err != nil {
				d.Fatal(err)
			}
			for _, m := range page {
				s.lines = append(s.lines, m.From.Subject+" "+string(m.ID)+" "+m.Text)
				if m.Seq == 1 {
					o.opened[m.From.Subject+" "+string(m.ID)] = c.ID
				}
			}
			if len(page) < 200 {
				break
			}
			before = page[len(page)-1].Seq
		}
		slices.Reverse(s.lines)
		got[c.ID] = s
	}
	for after := uint64(0); after < d.journal.Tail().Seq; {
		page, err := d.journal.Read(d.Context(), []journal.Filter{topics.Everything("main")}, after, 1000)
		if err != nil {
			d.Fatal(err)
		}
		for _, e := range page.Entries {
			if e.Partition >= 0 {
				o.entry(e)
			}
		}
		after = page.Through
	}
	if diff := gocmp.Diff(o.scenes, got, gocmp.AllowUnexported(scene{})); diff != "" {
		d.Errorf("conversations (-oracle +stored):\n%s", diff)
	}
	for _, a := range slices.Concat(customers, agents) {
		var refused []string
		for _, e := range d.told(a.Inbox()) {
			if e.Type == chat.TypeRefused {
				refused = append(refused, string(e.ID)+" "+string(e.Reason))
			}
		}
		slices.SortFunc(refused, cmp.Compare) // an agent's inbox is written to from several partitions
		slices.SortFunc(o.told[a], cmp.Compare)
		if diff := gocmp.Diff(o.told[a], refused); diff != "" {
			d.Errorf("%s was refused (-oracle +told):\n%s", a, diff)
		}
	}
	d.audit()
}
