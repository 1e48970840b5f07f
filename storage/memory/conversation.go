package memory

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"holdline/chat"
	"holdline/storage"
)

// Conversation returns a head.
func (s *Store) Conversation(ctx context.Context, t chat.Tenant, id chat.ConversationID) (*chat.Conversation, error) {
	if err := s.enter(ctx); err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	c, ok := s.conversations[headKey{t, id}]
	if !ok {
		return nil, fmt.Errorf("%w: conversation %s", chat.ErrNotFound, id)
	}
	return &c, nil
}

// Conversations returns heads ordered by (Since, ID).
func (s *Store) Conversations(ctx context.Context, q storage.ConversationQuery) ([]*chat.Conversation, error) {
	if err := s.enter(ctx); err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	after := &chat.Conversation{Since: stored(q.AfterSince), ID: q.AfterID}
	list := []*chat.Conversation{}
	for _, c := range s.conversations {
		if c.Tenant == q.Tenant &&
			(len(q.States) == 0 || slices.Contains(q.States, c.State)) &&
			(q.Queue == "" || c.Queue == q.Queue) &&
			(q.Holder == "" || c.Holder == q.Holder) &&
			(q.Customer == "" || c.Customer.Subject == q.Customer) &&
			chat.CompareWaiting(&c, after) > 0 {
			list = append(list, &c)
		}
	}
	slices.SortFunc(list, chat.CompareWaiting)
	return list[:min(len(list), storage.Limit(q.Limit, storage.MaxPage))], nil
}

// Messages returns messages before a seq, newest first.
func (s *Store) Messages(ctx context.Context, t chat.Tenant, id chat.ConversationID, before uint64, limit int) ([]chat.Message, error) {
	if err := s.enter(ctx); err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	list := []chat.Message{}
	for _, m := range slices.Backward(s.messages[headKey{t, id}]) {
		if (before == 0 || m.Seq < before) && len(list) < storage.Limit(limit, storage.MaxMessages) {
			list = append(list, m)
		}
	}
	return list, nil
}

// Agents returns every agent of a tenant, ordered by id.
func (s *Store) Agents(ctx context.Context, t chat.Tenant) ([]chat.Agent, error) {
	if err := s.enter(ctx); err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	list := []chat.Agent{}
	for k, c := range s.agents {
		if k.Tenant == t {
			list = append(list, s.present(c.Agent))
		}
	}
	slices.SortFunc(list, func(a, b chat.Agent) int { return strings.Compare(a.ID, b.ID) })
	return list, nil
}

// Credential returns how an agent signs in.
func (s *Store) Credential(ctx context.Context, k storage.AgentKey) (storage.Credential, error) {
	if err := s.enter(ctx); err != nil {
		return storage.Credential{}, err
	}
	defer s.mu.Unlock()
	c, ok := s.agents[k]
	if !ok {
		return storage.Credential{}, fmt.Errorf("%w: agent %s", chat.ErrNotFound, k.ID)
	}
	c.Agent = s.present(c.Agent)
	return c, nil
}

// PutAgent creates or changes an agent.
func (s *Store) PutAgent(ctx context.Context, c storage.Credential, create bool, by storage.Audit) error {
	if err := c.Storable(by); err != nil {
		return err
	}
	if err := s.enter(ctx); err != nil {
		return err
	}
	defer s.mu.Unlock()
	k := storage.AgentKey{Tenant: c.Agent.Tenant, ID: c.Agent.ID}
	have, ok := s.agents[k]
	switch {
	case ok && create:
		return fmt.Errorf("%w: agent %s exists", chat.ErrConflict, k.ID)
	case !ok && !create:
		return fmt.Errorf("%w: agent %s", chat.ErrNotFound, k.ID)
	}
	if c.PasswordHash == "" {
		c.PasswordHash = have.PasswordHash
	}
	c.Agent.Load, c.Agent.Reachable, c.Agent.IdleSince = 0, false, have.Agent.IdleSince
	s.agents[k] = c
	by.At = stored(by.At)
	s.audit = append(s.audit, by)
	return nil
}

// Sessions lists an account's sessions, ordered by client.
func (s *Store) Sessions(ctx context.Context, a chat.Account) ([]storage.Session, error) {
	if err := s.enter(ctx); err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	return s.sessionsOf(a), nil
}
