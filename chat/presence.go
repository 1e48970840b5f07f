package chat

import "time"

// Presence is journal input: one session of an account came or went.
type Presence struct {
	Up    bool   `json:"up"`
	Epoch uint64 `json:"epoch"` // the session epoch: grows with each connection
	Node  string `json:"node"`
	Name  string `json:"name,omitempty"` // as the token calls the account
	// Clean is true when the client said goodbye, false when the link was lost.
	Clean bool `json:"clean,omitempty"`
}

// Revocation says that tokens which an account was given until Before are not
// good any more, although they have not expired. It travels as an announcement.
type Revocation struct {
	Tenant  Tenant    `json:"tenant"`
	Role    Role      `json:"role"`
	Subject string    `json:"subject"`
	Before  time.Time `json:"before"`
}
