package client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eclipse/paho.golang/packets"
	"github.com/google/go-cmp/cmp"

	"holdline/chat"
)

func TestMessageGoesFromQueuedToAccepted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		cfg, notes := testConfig(f)
		c := start(t, cfg)
		id := send(t, c.Client, "hi") // before anything is connected
		p := f.accept().welcome(false).synced("k-0")
		say, pub := p.said()
		if say.ID != id || say.Text != "hi" || pub.Duplicate || pub.QoS != 1 {
			t.Errorf("published %+v dup %t qos %d", say, pub.Duplicate, pub.QoS)
		}
		if got := c.Pending(); len(got) != 1 || got[0].Status != Queued {
			t.Errorf("Pending = %+v, want one queued", got)
		}
		p.ack(pub, 0)
		synctest.Wait()
		if got := c.Pending(); len(got) != 1 || got[0].Status != Acknowledged {
			t.Errorf("Pending = %+v, want one acknowledged", got)
		}
		// The same id from somebody else is not ours.
		p.publish("down/event", 1, 1, chat.Event{Event: "k-1", Type: chat.TypeMessage, ID: id, Seq: 1, From: &chat.Person{Role: chat.AgentRole, ID: "bob"}})
		p.acked(1)
		if len(c.Pending()) != 1 {
			t.Error("an agent's message with the same id settled ours")
		}
		p.publish("down/event", 1, 2, chat.Event{Event: "k-2", Type: chat.TypeMessage, ID: id, Seq: 2, From: &chat.Person{Role: chat.Customer, ID: "ada"}})
		p.acked(2)
		if err := c.Settle(t.Context()); err != nil {
			t.Error(err)
		}
		if d := cmp.Diff([]string{string(id) + " acknowledged", string(id) + " accepted"}, notes.told()); d != "" {
			t.Error(d)
		}
		if err := c.stop(); err != nil {
			t.Errorf("Run = %v", err)
		}
		if bye := p.expect(packets.DISCONNECT).Content.(*packets.Disconnect); bye.ReasonCode != 0 {
			t.Errorf("DISCONNECT %#x, want 0", bye.ReasonCode)
		}
	})
}

func TestConnectIsAsThePhoneNeedsIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		cfg, _ := testConfig(f)
		start(t, cfg)
		p := f.accept()
		h := p.hello
		if h.ClientID != "phone-1" || h.CleanStart || h.KeepAlive != 240 || string(h.Password) != "token" || h.Username != "ada" || h.ProtocolVersion != 5 ||
			*h.Properties.SessionExpiryInterval != 14*24*3600 || *h.Properties.ReceiveMaximum != 16 {
			t.Errorf("CONNECT %s", h.ClientID)
		}
		p.send(&packets.Connack{Properties: &packets.Properties{}})
		if got := p.granted(); !slices.Equal(got, []string{"down/#"}) {
			t.Errorf("subscribed to %q", got)
		}
	})
}

func TestEventsComeOnceAndInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		cfg, notes := testConfig(f)
		cfg.Dir = t.TempDir()
		c := start(t, cfg)
		p := f.accept().welcome(false).synced("k-0")
		for _, n := range []uint64{1, 2, 2, 3, 1, 4} {
			p.event(n)
		}
		p.acked(1, 2, 2, 3, 1, 4)
		want := []chat.EventID{"k-1", "k-2", "k-3", "k-4"}
		if d := cmp.Diff(want, notes.seen()); d != "" {
			t.Error(d)
		}
		if got := c.Last(); got != "k-4" {
			t.Errorf("acknowledged with the position %q on disk", got)
		}
		if err := c.stop(); err != nil {
			t.Fatal(err)
		}

		// The next life goes on where this one was.
		c = start(t, cfg)
		p = f.accept().welcome(true)
		if r := p.request(); r.Since != "k-4" || r.Op != chat.OpSync {
			t.Errorf("request %+v, want a sync since k-4", r)
		}
		p.event(4)
		p.event(5)
		p.acked(4, 5)
		if d := cmp.Diff(append(want, "k-5"), notes.seen()); d != "" {
			t.Error(d)
		}
	})
}

func TestUnreadableEventsAreSkipped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		cfg, notes := testConfig(f)
		start(t, cfg)
		p := f.accept().welcome(false).synced("k-0")
		p.publish("down/event", 1, 1, []byte("{"))
		p.publish("down/event", 1, 2, []byte(`{"type":"message"}`))
		p.publish("down/event", 1, 3, []byte(`{"event":"k-1","type":"news of tomorrow"}`))
		p.publish("down/something", 1, 4, []byte(`?`))
		p.publish("down/reply", 0, 0, []byte(`?`))
		p.acked(1, 2, 3, 4)
		if d := cmp.Diff([]chat.EventID{"k-1"}, notes.seen()); d != "" {
			t.Error(d)
		}
	})
}

func TestCallbackErrorEndsRunWithoutAcknowledging(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		cfg, notes := testConfig(f)
		full := errors.New("disk full")
		note := cfg.OnEvent
		cfg.OnEvent = func(e chat.Event) error {
			if e.Event == "k-2" {
				return full
			}
			return note(e)
		}
		c := start(t, cfg)
		p := f.accept().welcome(false).synced("k-0")
		p.event(1)
		p.acked(1)
		p.event(2)
		p.event(3)
		p.closed()
		<-c.over
		if !errors.Is(c.err, full) {
			t.Errorf("Run = %v, want %v", c.err, full)
		}
		if d := cmp.Diff([]chat.EventID{"k-1"}, notes.seen()); d != "" {
			t.Error(d)
		}
		if c.Last() != "k-1" {
			t.Errorf("position %s, want k-1", c.Last())
		}
	})
}

func TestOutboxLeavesInOrderWithinTheWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		cfg, _ := testConfig(f)
		c := start(t, cfg)
		for i := range 10 {
			send(t, c.Client, fmt.Sprint(i))
		}
		p := f.accept().welcome(false).synced("k-0")
		var flying []*packets.Publish
		for i := range 10 {
			say, pub := p.said()
			if say.Text != fmt.Sprint(i) {
				t.Fatalf("got %q, want %d", say.Text, i)
			}
			if flying = append(flying, pub); len(flying) == 4 {
				p.quiet(time.Second)
				p.ack(flying[0], 0)
				flying = flying[1:]
			}
		}
	})
}

func TestServersReceiveMaximumBoundsTheWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		cfg, _ := testConfig(f)
		cfg.Role = chat.Device
		c := start(t, cfg)
		for range 3 {
			if _, err := c.Publish(t.Context(), "up/report", []byte("{}")); err != nil {
				t.Fatal(err)
			}
		}
		p := f.accept()
		one := uint16(1)
		p.send(&packets.Connack{Properties: &packets.Properties{ReceiveMaximum: &one}})
		p.granted()
		for range 3 {
			pub := p.published()
			p.quiet(time.Second)
			p.ack(pub, 0)
		}
		if err := c.Settle(t.Context()); err != nil { // a device's report ends with its acknowledgement
			t.Error(err)
		}
	})
}

func TestCutMeansSentAgainUnderTheSameIds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		cfg, notes := testConfig(f)
		cfg.Dir = t.TempDir()
		c := start(t, cfg)
		a, b := send(t, c.Client, "a"), send(t, c.Client, "b")
		p := f.accept().welcome(false).synced("k-0")
		_, first := p.said()
		_, second := p.said()
		p.ack(first, 0)
		synctest.Wait()
		_ = p.conn.Close()

		p = f.accept().welcome(true) // b alone
		say, again := p.said()
		if say.ID != b || again.PacketID != second.PacketID || !again.Duplicate {
			t.Errorf("sent %q packet %d dup %t, want %q packet %d dup", say.ID, again.PacketID, again.Duplicate, b, second.PacketID)
		}
		p.quiet(time.Second)
		if err := c.stop(); err != nil {
			t.Fatal(err)
		}

		c = start(t, cfg) // a new process: nobody knows what was sent
		p = f.accept().welcome(true).synced("")
		say, again = p.said()
		if say.ID != b || again.PacketID != second.PacketID || !again.Duplicate {
			t.Errorf("after a restart: sent %q packet %d dup %t, want %q packet %d dup", say.ID, again.PacketID, again.Duplicate, b, second.PacketID)
		}
		_ = p.conn.Close()

		// The server forgot the session: everything is new, and what was acknowledged goes again too.
		p = f.accept().welcome(false)
		r := p.request()
		say, again = p.said()
		if say.ID != b || again.Duplicate {
			t.Errorf("sent %q dup %t, want %q as new", say.ID, again.Duplicate, b)
		}
		p.quiet(time.Second) // a is kept back until it is known what became of it
		p.reply(chat.Reply{ID: r.ID})
		if say, again = p.said(); say.ID != a || again.Duplicate {
			t.Errorf("sent %q dup %t, want %q as new", say.ID, again.Duplicate, a)
		}
		_ = notes
	})
}

func TestWhatSyncFoundStoredIsNotSentAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		cfg, _ := testConfig(f)
		c := start(t, cfg)
		id := send(t, c.Client, "a")
		p := f.accept().welcome(false).synced("k-0")
		_, pub := p.said()
		p.ack(pub, 0)
		synctest.Wait()
		_ = p.conn.Close()
		p = f.accept().welcome(false)
		r := p.request()
		e := eventOf("k", 1)
		e.ID, e.From = id, &chat.Person{Role: chat.Customer, ID: "ada"}
		b := chat.Numbered(e.Event, e.Body())
		p.reply(chat.Reply{ID: r.ID, Events: rawList(b), Last: "k-1"})
		p.quiet(time.Minute)
		if got := c.Pending(); len(got) != 0 {
			t.Errorf("Pending = %+v", got)
		}
	})
}

func TestRefusals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		cfg, notes := testConfig(f)
		c := start(t, cfg)
		a, b, d := send(t, c.Client, "a"), send(t, c.Client, "b"), send(t, c.Client, "c")
		p := f.accept().welcome(false).synced("k-0")
		_, pa := p.said()
		_, pb := p.said()
		_, pd := p.said()
		p.ack(pa, 0x99)
		p.ack(pb, 0)
		p.ack(pd, 0)
		p.publish("down/event", 1, 1, chat.Event{Event: "k-1", Type: chat.TypeRefused, ID: a, Reason: chat.ReasonInvalid}) // says the same once more
		p.publish("down/event", 1, 2, chat.Event{Event: "k-2", Type: chat.TypeRefused, ID: b, Reason: chat.ReasonConflict})
		p.publish("down/event", 1, 3, chat.Event{Event: "k-3", Type: chat.TypeRefused, Reason: chat.ReasonInvalid}) // nobody knows whose
		p.acked(1, 2, 3)
		want := []string{
			string(a) + " refused", string(b) + " acknowledged", string(d) + " acknowledged", string(b) + " refused",
		}
		if diff := cmp.Diff(want, notes.told()); diff != "" {
			t.Error(diff)
		}
		if got := c.Pending(); len(got) != 1 || got[0].ID != d {
			t.Errorf("Pending = %+v, want only %s", got, d)
		}
	})
}

func TestBusyServerIsGivenTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		cfg, _ := testConfig(f)
		c := start(t, cfg)
		send(t, c.Client, "a")
		p := f.accept().welcome(false).synced("k-0")
		for _, wait := range []time.Duration{time.Second, 2 * time.Second, 4 * time.Second} {
			_, pub := p.said()
			if pub.Duplicate {
				t.Error("a new exchange is no resend") // [MQTT-4.4.0-2]
			}
			p.ack(pub, 0x97)
			p.quiet(wait - time.Millisecond)
		}
		_, pub := p.said()
		p.ack(pub, 0)
		synctest.Wait()
		if got := c.Pending(); got[0].Status != Acknowledged {
			t.Errorf("status %s", got[0].Status)
		}
	})
}

func TestSendRefusesWhatTheServerCouldOnlyRefuse(t *testing.T) {
	cfg, _ := testConfig(newFake(t))
	cfg.OutboxLimit = 2
	cfg.Dir = t.TempDir()
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		text string
		opt  Option
		want error
	}{
		{"", In(""), chat.ErrInvalid},
		{strings.Repeat("x", chat.MaxTextBytes+1), In(""), chat.ErrTooLarge},
		{"hi", In("no conversation"), chat.ErrInvalid},
		{"hi", WithID(chat.MessageID(strings.Repeat("x", 65))), chat.ErrInvalid},
		{"one", WithID("1"), nil},
		{"one", WithID("1"), nil}, // the same again
		{"other", WithID("1"), chat.ErrConflict},
		{"two", WithID("2"), nil},
		{"three", WithID("3"), ErrOutboxFull},
	} {
		if _, err := c.Send(t.Context(), tt.text, tt.opt); !errors.Is(err, tt.want) {
			t.Errorf("Send(%.10q) = %v, want %v", tt.text, err, tt.want)
		}
	}
	if got := len(c.Pending()); got != 2 {
		t.Errorf("%d in the outbox, want 2", got)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Send(t.Context(), "late"); !errors.Is(err, errClosed) {
		t.Errorf("Send after Close = %v", err)
	}
}

func TestPacketsLargerThanTheServerTakesAreRefusedHere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		cfg, notes := testConfig(f)
		c := start(t, cfg)
		long := send(t, c.Client, strings.Repeat("x", 2000))
		send(t, c.Client, "short")
		p := f.accept()
		size := uint32(1000)
		p.send(&packets.Connack{Properties: &packets.Properties{MaximumPacketSize: &size}})
		p.granted()
		p.synced("k-0")
		if say, _ := p.said(); say.Text != "short" {
			t.Errorf("sent %.10q", say.Text)
		}
		if d := cmp.Diff([]string{string(long) + " refused"}, notes.told()); d != "" {
			t.Error(d)
		}
	})
}

func TestAgentReadsQueuesAndCommands(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		cfg, notes := testConfig(f)
		cfg.Role, cfg.Subject = chat.AgentRole, "bob"
		cfg.From = Positions{Own: "k-7", Queues: map[chat.QueueID]chat.EventID{"main": "k-3"}}
		var queue []string
		cfg.OnQueueEvent = func(q chat.QueueID, e chat.Event) error {
			queue = append(queue, string(q)+" "+string(e.Event))
			return nil
		}
		cfg.OnGap = func(q chat.QueueID) error { queue = append(queue, string(q)+" gap"); return nil }
		c := start(t, cfg)
		p := f.accept()
		p.send(&packets.Connack{Properties: &packets.Properties{}})
		if got := p.granted(); !slices.Equal(got, []string{"down/#", "queue/+/event"}) {
			t.Errorf("subscribed to %q", got)
		}
		r := p.request()
		if r.Since != "k-7" {
			t.Errorf("sync since %q, want the snapshot's k-7", r.Since)
		}
		p.reply(chat.Reply{ID: r.ID, Last: "k-7"})
		for i, e := range []chat.EventID{"k-3", "k-4", "k-6", "k-5", "k-7", "x-2"} {
			p.publish("queue/main/event", 1, uint16(i+1), chat.Event{Event: e, Type: chat.TypeConversation})
		}
		p.publish("queue/vip%2Feu/event", 1, 7, chat.Event{Event: "k-9", Type: chat.TypeConversation})
		p.acked(1, 2, 3, 4, 5, 6, 7)
		want := []string{"main k-4", "main gap", "main k-6", "main k-7", "main gap", "main x-2", "vip/eu k-9"}
		if d := cmp.Diff(want, queue); d != "" {
			t.Error(d)
		}

		conversation := chat.NewConversationID(7, [12]byte{1})
		id, err := c.Command(t.Context(), chat.Command{Do: chat.ActResolve, Conversation: conversation, Epoch: 3})
		if err != nil {
			t.Fatal(err)
		}
		pub := p.published()
		cmd, err := chat.ParseCommand(pub.Payload)
		if err != nil || pub.Topic != "up/command" || cmd.ID != id || cmd.Epoch != 3 {
			t.Errorf("command %+v on %s: %v", cmd, pub.Topic, err)
		}
		p.ack(pub, 0)
		if _, err := c.Send(t.Context(), "answer", In(conversation), Under(3)); err != nil {
			t.Fatal(err)
		}
		if say, _ := p.said(); say.Epoch != 3 || say.Conversation != conversation {
			t.Errorf("said %+v", say)
		}
		p.publish("down/event", 1, 8, chat.Event{Event: "k-8", Type: chat.TypeDone, ID: id, Conversation: conversation})
		p.acked(8)
		if d := cmp.Diff([]string{string(id) + " acknowledged", string(id) + " accepted"}, notes.told()); d != "" {
			t.Error(d)
		}
	})
}

func TestDeviceTakesCommands(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		cfg, notes := testConfig(f)
		cfg.Role = chat.Device
		var got []string
		cfg.OnMessage = func(topic string, payload []byte) error { got = append(got, topic+" "+string(payload)); return nil }
		start(t, cfg)
		p := f.accept().welcome(false)
		p.publish("down/command", 1, 9, []byte("reboot"))
		p.acked(9)
		if d := cmp.Diff([]string{"down/command reboot"}, got); d != "" {
			t.Error(d)
		}
		if len(notes.seen()) != 0 {
			t.Error("a device has no events")
		}
	})
}

func TestConfigurationFaultsAreAllNamed(t *testing.T) {
	_, err := New(Config{
		Broker: "nowhere", Role: "king", KeepAlive: -1, Window: -1,
		OnQueueEvent: func(chat.QueueID, chat.Event) error { return nil },
	})
	if err == nil {
		t.Fatal("New took it")
	}
	for _, want := range []string{"broker", "token", "device", "king", "keep-alive", "window", "queue events"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not named in: %v", want, err)
		}
	}
	for _, broker := range []string{"h:1", "mqtt://h:1", "mqtts://h:1"} {
		if _, err := dialer(broker, nil); err != nil {
			t.Errorf("%s: %v", broker, err)
		}
	}
	for _, broker := range []string{"", "h", "ws://h:1", "mqtt://h"} {
		if _, err := dialer(broker, nil); err == nil {
			t.Errorf("%s was taken", broker)
		}
	}
}

func TestTwoProcessesCannotShareADirectory(t *testing.T) {
	cfg, _ := testConfig(newFake(t))
	cfg.Dir = t.TempDir()
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := New(cfg); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("second New = %v, want the directory in use", err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	other := cfg
	other.Subject = "eve"
	if _, err := New(other); err == nil || !strings.Contains(err.Error(), "belongs to") {
		t.Errorf("New for another account = %v, want a refusal", err)
	}
	if c, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestRunWaitsForNobodyWhenAskedToEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		cfg, _ := testConfig(f)
		cfg.Dial = func(ctx context.Context) (net.Conn, error) { <-ctx.Done(); return nil, ctx.Err() }
		c := start(t, cfg)
		synctest.Wait()
		began := time.Now()
		if err := c.stop(); err != nil || time.Since(began) > 0 {
			t.Errorf("Run = %v after %s", err, time.Since(began))
		}
	})
}
