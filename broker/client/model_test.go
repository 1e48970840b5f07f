package client

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eclipse/paho.golang/packets"

	"holdline/chat"
)

// model is a server as the contract describes it, for one phone, on links that
// break at any packet. It runs inside one goroutine at a time: the test's dial
// ends the former connection first.
type model struct {
	rand  *rand.Rand
	inbox []chat.Event // event n is at n-1
	said  []chat.MessageID
	acked map[chat.MessageID]bool
	// The session.
	there  bool
	subbed bool
	cursor int         // events below it are acknowledged
	calm   atomic.Bool // no more bad luck

	over chan struct{} // of the running connection
	conn net.Conn
}

func (m *model) dial(context.Context) (net.Conn, error) {
	if m.conn != nil {
		_ = m.conn.Close()
		<-m.over
	}
	ours, theirs := net.Pipe()
	m.conn, m.over = theirs, make(chan struct{})
	go func() {
		defer close(m.over)
		defer theirs.Close()
		m.serve(theirs)
	}()
	return ours, nil
}

// luck decides whether the link breaks here.
func (m *model) luck() bool { return m.calm.Load() || m.rand.IntN(25) != 0 }

func (m *model) serve(conn net.Conn) {
	in := make(chan *packets.ControlPacket, 1000)
	go func() {
		defer close(in)
		for r := bufio.NewReader(conn); ; {
			c, err := packets.ReadPacket(r)
			if err != nil {
				return
			}
			in <- c
		}
	}()
	defer func() {
		conn.Close()
		for range in {
		}
	}()
	send := func(p packets.Packet) bool {
		if !m.luck() {
			return false
		}
		_, err := p.WriteTo(conn)
		return err == nil
	}
	sent, up := m.cursor, false // sent is the next event to send
	for {
		for up && m.subbed && sent < len(m.inbox) && sent < m.cursor+16 {
			e := m.inbox[sent]
			sent++
			if m.rand.IntN(40) == 0 && !m.calm.Load() && sent < len(m.inbox) {
				continue // a server that lost one: the next number tells
			}
			if !send(&packets.Publish{Topic: "down/event", QoS: 1, PacketID: uint16(sent), Payload: rawOf(e), Properties: &packets.Properties{}}) {
				return
			}
		}
		var c *packets.ControlPacket
		select {
		case c = <-in:
		case <-time.After(time.Second): // somebody else may have written to the inbox
			m.answer()
			continue
		}
		if c == nil || !m.luck() {
			return
		}
		ok := true
		switch p := c.Content.(type) {
		case *packets.Connect:
			if m.rand.IntN(10) == 0 && !m.calm.Load() {
				m.there, m.subbed = false, false
				m.cursor = len(m.inbox)
			}
			ok = send(&packets.Connack{SessionPresent: m.there, Properties: &packets.Properties{}})
			m.there, up, sent = true, true, m.cursor
		case *packets.Subscribe:
			m.subbed = true
			ok = send(&packets.Suback{PacketID: p.PacketID, Reasons: []byte{1}, Properties: &packets.Properties{}})
		case *packets.Puback:
			m.cursor = max(m.cursor, int(p.PacketID))
			sent = max(sent, m.cursor)
		case *packets.Publish:
			reply, ack := m.take(p)
			if ack {
				ok = send(&packets.Puback{PacketID: p.PacketID, Properties: &packets.Properties{}})
			}
			if ok && reply != nil {
				ok = send(&packets.Publish{Topic: "down/reply", Payload: reply, Properties: &packets.Properties{}})
			}
		case *packets.Pingreq:
			ok = send(&packets.Pingresp{})
		case *packets.Disconnect:
			return
		}
		if !ok {
			return
		}
	}
}

// answer is another party's message.
func (m *model) answer() {
	if !m.calm.Load() && m.rand.IntN(3) == 0 {
		m.append(chat.Event{Type: chat.TypeMessage, ID: "theirs", From: &chat.Person{Role: chat.AgentRole, ID: "bob"}})
	}
}

func (m *model) append(e chat.Event) {
	e.Event = chat.NewEventID("k", uint64(len(m.inbox)+1))
	m.inbox = append(m.inbox, e)
}

func (m *model) take(p *packets.Publish) (reply []byte, ack bool) {
	if p.Topic == "up/request" {
		r, err := chat.ParseRequest(p.Payload)
		if err != nil {
			panic(err)
		}
		if m.rand.IntN(4) == 0 && !m.calm.Load() {
			return nil, true // QoS 0 gets lost
		}
		_, since, _ := r.Since.Parse()
		events := m.inbox[min(int(since), len(m.inbox)):]
		page := chat.Reply{ID: r.ID, Last: chat.NewEventID("k", uint64(len(m.inbox))), More: len(events) > 7}
		for _, e := range events[:min(7, len(events))] {
			page.Events = append(page.Events, rawOf(e))
		}
		return encode(page), true
	}
	s, err := chat.ParseSay(p.Payload)
	if err != nil {
		panic(err)
	}
	if !slices.Contains(m.said, s.ID) {
		m.said = append(m.said, s.ID)
		m.append(chat.Event{Type: chat.TypeMessage, ID: s.ID, Seq: uint64(len(m.said)), From: &chat.Person{Role: chat.Customer, ID: "ada"}})
	}
	m.acked[s.ID] = true
	return nil, true
}

// TestNothingIsLostOrDoubledOnAnyLink lets random links break at random packets,
// sessions be forgotten, replies and events be lost and the process restart.
func TestNothingIsLostOrDoubledOnAnyLink(t *testing.T) {
	for seed := range uint64(25) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := rand.New(rand.NewPCG(seed, 1))
				m := &model{rand: rand.New(rand.NewPCG(seed, 2)), acked: map[chat.MessageID]bool{}}
				cfg, notes := testConfig(newFake(t))
				cfg.Dial, cfg.Dir, cfg.rand = m.dial, t.TempDir(), nil
				var sent []chat.MessageID
				c := start(t, cfg)
				for range 60 {
					for range r.IntN(4) {
						sent = append(sent, send(t, c.Client, "x"))
					}
					time.Sleep(time.Duration(r.IntN(5000)) * time.Millisecond)
					if r.IntN(10) == 0 {
						if err := c.stop(); err != nil {
							t.Fatal(err)
						}
						c = start(t, cfg)
					}
				}
				m.calm.Store(true)
				ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
				defer cancel()
				if err := c.Settle(ctx); err != nil {
					t.Error(err)
				}
				time.Sleep(5 * time.Minute)
				if err := c.stop(); err != nil {
					t.Error(err)
				}
				<-m.over
				if !slices.Equal(m.said, sent) {
					t.Errorf("the server has %d messages, %d were sent, or in another order", len(m.said), len(sent))
				}
				if got, want := notes.seen(), ids("k", 1, uint64(len(m.inbox))); !slices.Equal(got, want) {
					t.Errorf("%d events seen, want 1 to %d once and in order: %v", len(got), len(want), got)
				}
				accepted := 0
				for _, s := range notes.told() {
					if len(s) > 36 && s[37:] == string(Accepted) {
						accepted++
					}
				}
				if accepted != len(sent) {
					t.Errorf("%d accepted, want each of %d once", accepted, len(sent))
				}
			})
		})
	}
}
