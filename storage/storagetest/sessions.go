package storagetest

import (
	"fmt"
	"math"
	"slices"
	"time"

	"holdline/chat"
	"holdline/storage"
)

var sessions = map[string]func(*fixture){
	"an older session epoch changes nothing":    sessionEpochs,
	"a session is kept whole":                   sessionWhole,
	"sessions are listed by client":             sessionsInOrder,
	"a node's sessions are found by partition":  sessionsOnNode,
	"many connect at once":                      sessionsAtOnce,
	"an account is called what it is called":    accountNamed,
	"accounts of a node are loaded with theirs": sessionsOfNodeLoaded,
}

func (f *fixture) put(list ...storage.Session) []bool {
	f.Helper()
	var s storage.Scope
	for _, x := range list {
		s.Accounts = append(s.Accounts, x.Account)
	}
	var changed []bool
	f.transact(s, func(u *storage.Unit) error {
		changed = changed[:0]
		for _, x := range list {
			changed = append(changed, u.PutSession(x))
		}
		return nil
	})
	return changed
}

func sessionEpochs(f *fixture) {
	five := storage.Session{Account: ada, Client: "phone", Node: "n1", Epoch: 5, Up: true, Changed: noon}
	four, down := five, five
	four.Epoch, four.Up = 4, false
	down.Up, down.Changed = false, noon.Add(time.Second)
	f.want("changed", f.put(five), []bool{true})
	f.want("changed by an older one", f.put(four), []bool{false})
	got, err := f.Sessions(f.ctx, ada)
	f.must(err)
	f.want("sessions", got, []storage.Session{five})
	f.want("changed by the same epoch", f.put(down), []bool{true})
	f.want("changed in one unit", f.put(four, five, four), []bool{false, true, false})
	got, err = f.Sessions(f.ctx, ada)
	f.must(err)
	f.want("sessions", got, []storage.Session{five})

	// A journal that was lost counts from the beginning again.
	anew, over := five, five
	anew.Epoch, anew.Changed = 1, noon.Add(2*time.Second)
	over.Epoch, over.Up, over.Changed = 1, false, noon.Add(3*time.Second)
	f.want("changed by one that came up later", f.put(anew), []bool{true})
	f.want("changed by its end", f.put(over), []bool{true})
	got, err = f.Sessions(f.ctx, ada)
	f.must(err)
	f.want("sessions", got, []storage.Session{over})
}

func sessionWhole(f *fixture) {
	s := storage.Session{Account: ada, Client: "phone \"1\" 退", Node: "node/1", Epoch: math.MaxUint64 - 1, Up: true, Changed: noon.Add(time.Millisecond)}
	f.put(s)
	got, err := f.Sessions(f.ctx, ada)
	f.must(err)
	f.want("sessions", got, []storage.Session{s})
	older := s
	older.Epoch = math.MaxInt64
	f.want("changed by an older one", f.put(older), []bool{false})
}

func sessionsInOrder(f *fixture) {
	for _, client := range []string{"b", "Z", "é", "a"} {
		f.put(storage.Session{Account: ada, Client: client, Node: "n1"})
	}
	got, err := f.Sessions(f.ctx, ada)
	f.must(err)
	var clients []string
	for _, s := range got {
		clients = append(clients, s.Client)
	}
	f.want("clients", clients, []string{"Z", "a", "b", "é"})
	got, err = f.Sessions(f.ctx, grace)
	f.must(err)
	f.want("of nobody", got, []storage.Session{})
}

func sessionsOnNode(f *fixture) {
	want := map[storage.NodeKey][]chat.Account{}
	for i := range 40 {
		a := customer(i)
		node := fmt.Sprintf("n%d", i%2)
		up := i%5 != 0
		f.put(storage.Session{Account: a, Client: "phone", Node: node, Epoch: 1, Up: up, Changed: noon},
			storage.Session{Account: a, Client: "tablet", Node: node, Epoch: 1, Up: up && i%3 == 0, Changed: noon})
		if up {
			k := storage.NodeKey{Node: node, Partition: a.Slot().Partition()}
			want[k] = append(want[k], a)
		}
	}
	var s storage.Scope
	for p := range chat.Partitions {
		s.Nodes = append(s.Nodes, storage.NodeKey{Node: "n0", Partition: p}, storage.NodeKey{Node: "n1", Partition: p}, storage.NodeKey{Node: "gone", Partition: p})
	}
	f.transact(s, func(u *storage.Unit) error {
		for _, k := range s.Nodes {
			got := slices.SortedFunc(slices.Values(u.On(k)), storage.CompareAccounts)
			f.want(fmt.Sprint(k), got, want[k])
		}
		return nil
	})
}

func sessionsOfNodeLoaded(f *fixture) {
	f.put(storage.Session{Account: ada, Client: "phone", Node: "n1", Epoch: 3, Up: true, Changed: noon},
		storage.Session{Account: ada, Client: "tablet", Node: "n2", Epoch: 3, Up: true, Changed: noon})
	id := f.opened(ada, 1)
	k := storage.NodeKey{Node: "n1", Partition: ada.Slot().Partition()}
	// The node came up again: what was up on it is down. Then nobody is on it.
	f.transact(storage.Scope{Nodes: []storage.NodeKey{k, k}}, func(u *storage.Unit) error {
		for _, a := range u.On(k) {
			if c := u.Open(a); c == nil || c.ID != id {
				f.Errorf("the open conversation is %v, want %s", c, id)
			}
			for _, s := range u.Sessions(a) {
				if s.Node == "n1" {
					s.Up = false
					u.PutSession(s)
				}
			}
		}
		return nil
	})
	got, err := f.Sessions(f.ctx, ada)
	f.must(err)
	if len(got) != 2 || got[0].Up || !got[1].Up {
		f.Errorf("sessions = %v, want the phone down and the tablet up", got)
	}
	f.transact(storage.Scope{Nodes: []storage.NodeKey{k}}, func(u *storage.Unit) error {
		f.want("on the node", len(u.On(k)), 0)
		return nil
	})
}

func sessionsAtOnce(f *fixture) {
	const writers = 30
	f.allNil(together(writers, func(w int) error {
		return f.Transact(f.ctx, storage.Scope{Accounts: []chat.Account{ada}}, func(u *storage.Unit) error {
			u.PutSession(storage.Session{Account: ada, Client: "phone", Node: fmt.Sprint(w), Epoch: uint64(w), Up: true, Changed: noon})
			return nil
		})
	}))
	got, err := f.Sessions(f.ctx, ada)
	f.must(err)
	if len(got) != 1 || got[0].Epoch != writers-1 || got[0].Node != fmt.Sprint(writers-1) {
		f.Errorf("sessions = %v, want the one of the highest epoch", got)
	}
}

func accountNamed(f *fixture) {
	scope := storage.Scope{Accounts: []chat.Account{ada}}
	for i, tt := range []struct{ say, want string }{{"", ""}, {"Ada", "Ada"}, {"", "Ada"}, {"Ada L.", "Ada L."}} {
		f.transact(scope, func(u *storage.Unit) error {
			u.Named(ada, tt.say, noon.Add(time.Duration(i)*time.Second))
			return nil
		})
		f.transact(scope, func(u *storage.Unit) error {
			f.want("name", u.Account(ada).Name, tt.want)
			return nil
		})
	}
	f.transact(scope, func(u *storage.Unit) error {
		if seen := u.Account(ada).Seen; !seen.Equal(noon.Add(3 * time.Second)) {
			f.Errorf("Seen = %v, want when it was last named", seen)
		}
		return nil
	})
}
