package chat

// Presence is journal input: one session of an account came or went.
type Presence struct {
	Up    bool   `json:"up"`
	Epoch uint64 `json:"epoch"` // the session epoch: grows with each connection
	Node  string `json:"node"`
	Name  string `json:"name,omitempty"` // as the token calls the account
	// Clean is true when the client said goodbye, false when the link was lost.
	Clean bool `json:"clean,omitempty"`
}
