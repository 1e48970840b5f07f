package test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"testing"
	"time"

	"holdline/chat"
)

// Head is a conversation as the HTTP API gives it.
type Head struct {
	ID chat.ConversationID `json:"conversation"`
	chat.Head
}

// Problem is an answer of the API that is no success.
type Problem struct {
	Status int
	Body   string
}

func (p *Problem) Error() string { return fmt.Sprintf("HTTP %d: %.300s", p.Status, p.Body) }

// Call makes one request of the API with a token and decodes the answer into out, unless it is nil.
func (s *Server) Call(ctx context.Context, token, method, path string, in, out any) error {
	base := s.HTTP()
	if base == "" {
		return errors.New("no server")
	}
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(b)
	}
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, base+"/api/v1"+path, body)
	if err != nil {
		return err
	}
	if in != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		return err
	}
	if res.StatusCode >= 300 {
		return &Problem{res.StatusCode, string(b)}
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(b, out)
}

// Get is the body of a page.
func (s *Server) Get(tb testing.TB, path string) string {
	tb.Helper()
	r, err := http.Get(s.HTTP() + path)
	if err != nil {
		tb.Fatal(err)
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil || r.StatusCode != http.StatusOK {
		tb.Fatalf("GET %s: %d, %v", path, r.StatusCode, err)
	}
	return string(b)
}

// Conversations are all heads that match a query, or all.
func (s *Server) Conversations(ctx context.Context, query url.Values) (all []Head, err error) {
	q := url.Values{"limit": {"500"}}
	for k, v := range query {
		q[k] = v
	}
	token := s.Token(chat.Service, "ledger", "")
	for {
		var page struct {
			Conversations []Head
			Next          string
		}
		if err := s.Call(ctx, token, http.MethodGet, "/conversations?"+q.Encode(), nil, &page); err != nil {
			return nil, err
		}
		all = append(all, page.Conversations...)
		if page.Next == "" {
			return all, nil
		}
		q.Set("after", page.Next)
	}
}

// Conversation is one head.
func (s *Server) Conversation(ctx context.Context, id chat.ConversationID) (h Head, err error) {
	err = s.Call(ctx, s.Token(chat.Service, "ledger", ""), http.MethodGet, "/conversations/"+string(id), nil, &h)
	return h, err
}

// Thread is everything that was said in a conversation, ascending.
func (s *Server) Thread(ctx context.Context, id chat.ConversationID) (all []chat.Event, err error) {
	token := s.Token(chat.Service, "ledger", "")
	for before := uint64(0); ; {
		path := fmt.Sprintf("/conversations/%s/messages?limit=200", id)
		if before > 0 {
			path += fmt.Sprintf("&before=%d", before)
		}
		var page struct {
			Messages []chat.Event
			More     bool
		}
		if err := s.Call(ctx, token, http.MethodGet, path, nil, &page); err != nil {
			return nil, err
		}
		slices.Reverse(page.Messages)
		all = append(all, page.Messages...)
		if !page.More || len(page.Messages) == 0 {
			slices.Reverse(all)
			return all, nil
		}
		before = all[len(all)-1].Seq
	}
}
