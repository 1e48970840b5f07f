package storage

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"holdline/chat"
)

// InputLease names the lease of the one who stores partition p. A partition's
// position belongs to that lease: claiming the lease fences whoever moved the position before.
func InputLease(p int) string { return fmt.Sprintf("input/%02d", p) }

// Ordered returns the scope as engines lock it: every list sorted, each thing
// once. It is ErrPermanent when it names what no engine could store. Only engines call it.
func (s Scope) Ordered() (Scope, error) {
	s.Advance = slices.Clone(s.Advance)
	slices.SortFunc(s.Advance, func(a, b Advance) int { return cmp.Compare(a.Partition, b.Partition) })
	for i, a := range s.Advance {
		if a.Lease.Name != InputLease(a.Partition) {
			return s, fmt.Errorf("%w: partition %d is moved under lease %s, not %q", ErrFenced, a.Partition, InputLease(a.Partition), a.Lease.Name)
		}
		if i > 0 && s.Advance[i-1].Partition == a.Partition {
			return s, fmt.Errorf("%w: partition %d is moved twice in one transaction", ErrPermanent, a.Partition)
		}
	}
	s.Leases = sorted(s.Leases, func(a, b Lease) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Holder, b.Holder), cmp.Compare(a.Epoch, b.Epoch))
	})
	s.Accounts = sorted(s.Accounts, CompareAccounts)
	s.Said = sorted(s.Said, func(a, b SaidKey) int {
		return cmp.Or(CompareAccounts(a.Account, b.Account), cmp.Compare(a.ID, b.ID))
	})
	s.Conversations = sorted(s.Conversations, cmp.Compare[chat.ConversationID])
	s.Agents = sorted(s.Agents, func(a, b AgentKey) int {
		return cmp.Or(cmp.Compare(a.Tenant, b.Tenant), cmp.Compare(a.ID, b.ID))
	})
	s.Nodes = sorted(s.Nodes, func(a, b NodeKey) int {
		return cmp.Or(cmp.Compare(a.Node, b.Node), cmp.Compare(a.Partition, b.Partition))
	})
	return s, s.storable()
}

// CompareAccounts is the order in which accounts are locked.
func CompareAccounts(a, b chat.Account) int {
	return cmp.Or(cmp.Compare(a.Tenant, b.Tenant), cmp.Compare(a.Role, b.Role), cmp.Compare(a.Subject, b.Subject))
}

// CompareInboxes is the order in which inboxes give out numbers.
func CompareInboxes(a, b chat.Inbox) int {
	return cmp.Or(cmp.Compare(a.Tenant, b.Tenant), cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Name, b.Name))
}

func sorted[T comparable](list []T, order func(a, b T) int) []T {
	list = slices.Clone(list)
	slices.SortFunc(list, order)
	return slices.Compact(list)
}

func (s Scope) storable() error {
	for _, a := range s.Accounts {
		if err := storable("account", []string{string(a.Tenant), string(a.Role), a.Subject}); err != nil {
			return err
		}
	}
	for _, k := range s.Said {
		if err := storable("id", []string{string(k.Account.Tenant), string(k.Account.Role), k.Account.Subject, string(k.ID)}); err != nil {
			return err
		}
	}
	for _, id := range s.Conversations {
		if err := storable("conversation", []string{string(s.ConversationsOf), string(id)}); err != nil {
			return err
		}
	}
	for _, k := range s.Agents {
		if err := storable("agent", []string{string(k.Tenant), k.ID}); err != nil {
			return err
		}
	}
	for _, k := range s.Nodes {
		if err := storable("node", []string{k.Node}); err != nil {
			return err
		}
	}
	return nil
}

// MaxKeyBytes bounds every text that is part of a key or an index. Postgres
// refuses an index row of some 2700 bytes; both engines refuse the same.
const MaxKeyBytes = 1024

// storable returns ErrPermanent unless every key is short and every key and text is
// UTF-8 without U+0000, which a Postgres text column refuses and SQLite would take.
func storable(what string, keys []string, texts ...string) error {
	for _, s := range keys {
		if len(s) > MaxKeyBytes {
			return fmt.Errorf("%w: %s has a key of more than %d bytes", ErrPermanent, what, MaxKeyBytes)
		}
	}
	for _, list := range [2][]string{keys, texts} {
		for _, s := range list {
			if !utf8.ValidString(s) || strings.IndexByte(s, 0) >= 0 {
				return fmt.Errorf("%w: %s holds U+0000 or is not UTF-8", ErrPermanent, what)
			}
		}
	}
	return nil
}
