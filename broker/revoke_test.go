package broker_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"holdline/broker"
	"holdline/broker/journal"
	"holdline/broker/journal/memory"
	"holdline/broker/token"
	"holdline/broker/topics"
	"holdline/chat"
)

func TestARevokedAccountIsDisconnectedAndNeedsANewerToken(t *testing.T) {
	n := start(t, memory.New())
	keys, err := token.NewKeys([]byte(strings.Repeat("k", token.MinKeyBytes)), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	ada := chat.Account{Tenant: chat.DefaultTenant, Role: chat.Customer, Subject: "ada"}
	now := time.Now()
	issue := func(at time.Time) string {
		s, err := keys.Issue(token.Claims{Account: ada, Issued: at, Expires: at.Add(time.Hour)})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	old, newer := issue(now.Add(-time.Minute)), issue(now.Add(2*time.Second))
	if _, err := n.Authenticate(old, "phone", now); err != nil {
		t.Fatal(err)
	}
	hers, other := n.connect(customer("ada", "phone")), n.connect(customer("bea", "phone"))

	payload, err := json.Marshal(chat.Revocation{Tenant: ada.Tenant, Role: ada.Role, Subject: ada.Subject, Before: now})
	if err != nil {
		t.Fatal(err)
	}
	if err := n.j.Announce(t.Context(), journal.Announcement{Topic: topics.Revoked(), Payload: payload}); err != nil {
		t.Fatal(err)
	}
	if r := hers.reason(); r != broker.Revoked {
		t.Errorf("closed for %d, want Revoked", r)
	}
	other.mu.Lock()
	if other.closed != 0 {
		t.Errorf("somebody else was closed for %d", other.closed)
	}
	other.mu.Unlock()
	if _, err := n.Authenticate(old, "phone", now); !errors.Is(err, broker.ErrRevoked) || !errors.Is(err, chat.ErrForbidden) {
		t.Errorf("the old token: %v, want ErrRevoked", err)
	}
	if _, err := n.Authenticate(newer, "phone", now.Add(3*time.Second)); err != nil {
		t.Errorf("a newer token: %v", err)
	}
}
