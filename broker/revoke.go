package broker

import (
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"holdline/chat"
)

// ErrRevoked is a token that was taken back before it expired.
var ErrRevoked = fmt.Errorf("%w: this token was revoked; sign in again", chat.ErrForbidden)

// maxRevoked bounds how many revocations are remembered. When there are more,
// the oldest is forgotten: whoever revoked it says so again as long as it matters.
const maxRevoked = 10_000

// revocations remember until when the tokens of an account are over.
type revocations struct {
	mu sync.Mutex
	m  map[chat.Account]time.Time
}

func (r *revocations) add(a chat.Account, before time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.m == nil {
		r.m = map[chat.Account]time.Time{}
	}
	if _, known := r.m[a]; !known && len(r.m) >= maxRevoked {
		oldest := a
		for k, t := range r.m {
			if o, ok := r.m[oldest]; !ok || t.Before(o) {
				oldest = k
			}
		}
		delete(r.m, oldest)
	}
	if before.After(r.m[a]) {
		r.m[a] = before
	}
}

// covers reports whether a token issued then is over.
func (r *revocations) covers(a chat.Account, issued time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	before, ok := r.m[a]
	return ok && !issued.After(before)
}

// revoke takes a revocation: whoever is connected as that account is
// disconnected, and comes back only with a newer token. Sessions stay.
func (b *Broker) revoke(payload []byte) {
	var r chat.Revocation
	if err := json.Unmarshal(payload, &r); err != nil {
		b.Log.Error("revocation cannot be read", "err", err)
		return
	}
	a := chat.Account{Tenant: r.Tenant, Role: r.Role, Subject: r.Subject}
	b.revoked.add(a, r.Before)
	for _, s := range b.online.all() {
		if of, ok := s.account(); ok && of == a {
			s.link.Close(Revoked)
		}
	}
}
