package client

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"holdline/broker/topics"
	"holdline/chat"
)

// Config says who the client is and what it does with what arrives. The zero
// value of everything but Broker (or Dial), Token and Device works.
//
// The callbacks are called one at a time from the goroutine of Run, and must
// come back soon: nothing is sent or acknowledged meanwhile. They may call
// Send and the like. An error from one of them ends Run with it; what it was
// called with comes again then, in the next Run of a new Client on the same Dir.
type Config struct {
	// Broker is HOST:PORT, or mqtt://HOST:PORT, or mqtts://HOST:PORT for TLS.
	Broker string
	// TLS is for mqtts; nil for the system's certificates.
	TLS *tls.Config
	// Dial opens the socket instead of Broker, for a server that may move between connections.
	Dial func(context.Context) (net.Conn, error)
	// Token gives the password. It is called before the first connection, and
	// when the server would not take the token of before any more.
	Token func(context.Context) (string, error)

	Role    chat.Role // Customer when empty
	Subject string    // the token's; the role alone tells own messages from others' when empty
	Device  string    // the MQTT client id: names the session within the account

	// Dir keeps outbox and positions, for this device alone; empty for memory only.
	Dir string
	// From is where reading begins when Dir knows no position of an inbox: the
	// ids that came with a snapshot. Without it the own inbox is read from its beginning.
	From Positions

	// OnEvent is called with each event of the own inbox, in order, once: the
	// position is on disk before the event is acknowledged. When the process is
	// killed between the two, the last few come again: keep them by Event.Event.
	OnEvent func(chat.Event) error
	// OnResync is called when the server cannot go on from where we are: its
	// numbering began anew (a restored backup), or what comes next was removed. What
	// follows through OnEvent is the inbox from the beginning of what there is.
	OnResync func() error
	// OnQueueEvent makes an agent read the queues too. Their events come in order
	// and once; OnGap tells when some are missing or the numbering began anew: fetch
	// the queue's state then. It is called before the event that follows the gap.
	OnQueueEvent func(chat.QueueID, chat.Event) error
	OnGap        func(chat.QueueID) error
	// Subscribe are further filters, and OnMessage takes what is no event: the
	// commands of a device, anything for a service. A message comes again when
	// the link broke before its acknowledgement.
	Subscribe []string
	OnMessage func(topic string, payload []byte) error
	// OnReceipt tells how far something sent has come.
	OnReceipt func(Receipt)
	// OnLink tells that the connection came up or went.
	OnLink func(Link)

	Log *slog.Logger

	OutboxLimit    int           // 1000; when it is full, Send says so
	Window         int           // 4 unacknowledged publishes
	ReceiveMaximum uint16        // 16
	SessionExpiry  time.Duration // 14 days
	KeepAlive      time.Duration // 240 s
	BackoffCap     time.Duration // 60 s: the longest wait before a reconnect; 15 min suits the background

	rand func() float64 // for tests
}

// Positions are the ids of the last events known.
type Positions struct {
	Own    chat.EventID
	Queues map[chat.QueueID]chat.EventID
}

// Link is a change of the connection.
type Link struct {
	Up bool
	// Resumed is true when the server still had the session.
	Resumed bool
	// Err is why it went, or why it did not come up; Retry is when the next try is.
	Err   error
	Retry time.Duration
}

// maxPacketBytes is the largest packet we ask for: a page of long events.
const maxPacketBytes = 1 << 20

// Client is a phone. All methods may be called from any goroutine.
type Client struct {
	cfg   Config
	dial  func(context.Context) (net.Conn, error)
	log   *slog.Logger
	state *state
	wake  chan struct{} // capacity 1: the outbox has something

	running, closed atomic.Bool

	// What Run alone touches.
	token  string
	places map[string]place // by the inbox's topic
	sync   syncing
}

// New opens the state and checks the configuration, naming every fault. The
// caller closes the client.
func New(cfg Config) (*Client, error) {
	var faults []error
	fault := func(bad bool, format string, a ...any) {
		if bad {
			faults = append(faults, fmt.Errorf(format, a...))
		}
	}
	if cfg.Role == "" {
		cfg.Role = chat.Customer
	}
	dial := cfg.Dial
	if dial == nil {
		var err error
		dial, err = dialer(cfg.Broker, cfg.TLS)
		fault(err != nil, "broker: %w", err)
	}
	fault(cfg.Token == nil, "token: none; give a function that fetches one")
	fault(cfg.Device == "", "device: empty; it is the MQTT client id")
	fault(!cfg.Role.Valid(), "role: %q is not customer, agent, device or service", string(cfg.Role))
	fault(cfg.OnQueueEvent != nil && cfg.Role != chat.AgentRole, "queue events are for agents only")
	defaulted(&cfg.OutboxLimit, 1000)
	defaulted(&cfg.Window, 4)
	defaulted(&cfg.ReceiveMaximum, 16)
	defaulted(&cfg.SessionExpiry, 14*24*time.Hour)
	defaulted(&cfg.KeepAlive, 240*time.Second)
	defaulted(&cfg.BackoffCap, time.Minute)
	fault(cfg.OutboxLimit < 0 || cfg.Window < 0, "outbox limit %d, window %d: less than nothing", cfg.OutboxLimit, cfg.Window)
	fault(cfg.KeepAlive < 0 || cfg.KeepAlive > math.MaxUint16*time.Second, "keep-alive %s: not in 0 to 65535 s", cfg.KeepAlive)
	fault(cfg.SessionExpiry < 0 || cfg.SessionExpiry > math.MaxUint32*time.Second, "session expiry %s: not in 0 to 136 years", cfg.SessionExpiry)
	if err := errors.Join(faults...); err != nil {
		return nil, err
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	c := &Client{cfg: cfg, dial: dial, log: cfg.Log.With("device", cfg.Device), wake: make(chan struct{}, 1)}
	state, cut, err := openState(cfg.Dir, string(cfg.Role)+" "+cfg.Subject+" on "+cfg.Device)
	if err != nil {
		return nil, fmt.Errorf("open the state of %s: %w", cfg.Device, err)
	}
	if cut > 0 {
		c.log.Warn("cut off a torn end of the state file", "bytes", cut)
	}
	c.state = state
	c.places = map[string]place{}
	c.sync.wanted = c.syncs() // a session may be there and its events lost: ask once in each life
	return c, nil
}

func defaulted[T comparable](v *T, to T) {
	var zero T
	if *v == zero {
		*v = to
	}
}

// dialer reads a broker's address.
func dialer(broker string, conf *tls.Config) (func(context.Context) (net.Conn, error), error) {
	addr, secure := broker, false
	if u, err := url.Parse(broker); err == nil && u.Host != "" {
		addr, secure = u.Host, u.Scheme == "mqtts"
		if u.Scheme != "mqtt" && !secure {
			return nil, fmt.Errorf("%q: scheme %q is not mqtt or mqtts", broker, u.Scheme)
		}
	}
	if _, _, err := net.SplitHostPort(addr); err != nil {
		return nil, fmt.Errorf("%q is not an address; write HOST:PORT", broker)
	}
	// No TCP keep-alive: it would wake the radio every 15 s. Our own timers notice a dead link.
	d := net.Dialer{Timeout: connectPatience, KeepAlive: -1}
	if secure {
		t := tls.Dialer{NetDialer: &d, Config: conf}
		return func(ctx context.Context) (net.Conn, error) { return t.DialContext(ctx, "tcp", addr) }, nil
	}
	return func(ctx context.Context) (net.Conn, error) { return d.DialContext(ctx, "tcp", addr) }, nil
}

// Close gives the state directory free. Run has to be over.
func (c *Client) Close() error {
	if c.closed.Swap(true) {
		return nil
	}
	return c.state.close()
}

// syncs reports whether this role has an inbox it can ask for.
func (c *Client) syncs() bool {
	return c.cfg.Role == chat.Customer || c.cfg.Role == chat.AgentRole
}

// Option changes what Send sends.
type Option func(*chat.Say)

// In names the conversation; without it a customer's message goes to the open
// one, or opens one.
func In(id chat.ConversationID) Option { return func(s *chat.Say) { s.Conversation = id } }

// Under is the owner epoch an agent speaks under.
func Under(epoch uint64) Option { return func(s *chat.Say) { s.Epoch = epoch } }

// WithID sends under an id of the caller's choosing, so that a caller that does not
// know whether it had sent can do it again.
func WithID(id chat.MessageID) Option { return func(s *chat.Say) { s.ID = id } }

// Send puts a message into the outbox. When it returns, the message is on disk
// and will be sent until the server has stored or refused it, also by a later
// process with the same Dir. What the server could only refuse is an error at
// once (chat.ErrInvalid, chat.ErrTooLarge); too much waiting is ErrOutboxFull.
func (c *Client) Send(ctx context.Context, text string, options ...Option) (chat.MessageID, error) {
	s := chat.Say{ID: NewID(), Text: text}
	for _, o := range options {
		o(&s)
	}
	payload, err := json.Marshal(s)
	if err != nil {
		return "", fmt.Errorf("%w: %w", chat.ErrInvalid, err)
	}
	if _, err := chat.ParseSay(payload); err != nil {
		return "", err
	}
	return s.ID, c.put(ctx, item{ID: s.ID, Topic: topics.CustomerMessage.Name, Payload: payload})
}

// Command puts an agent's command into the outbox, with the promise of Send.
// An empty ID gets a new one.
func (c *Client) Command(ctx context.Context, cmd chat.Command) (chat.MessageID, error) {
	if cmd.ID == "" {
		cmd.ID = NewID()
	}
	payload, err := json.Marshal(cmd)
	if err != nil {
		return "", fmt.Errorf("%w: %w", chat.ErrInvalid, err)
	}
	if _, err := chat.ParseCommand(payload); err != nil {
		return "", err
	}
	return cmd.ID, c.put(ctx, item{ID: cmd.ID, Topic: topics.AgentCommand.Name, Payload: payload})
}

// Publish puts any publish into the outbox, for devices and services. The
// acknowledgement is the end of its way. The id is known here only.
func (c *Client) Publish(ctx context.Context, topic string, payload []byte) (chat.MessageID, error) {
	if err := topics.ValidName(topic); err != nil {
		return "", err
	}
	id := NewID()
	return id, c.put(ctx, item{ID: id, Topic: topic, Payload: payload, Final: true})
}

func (c *Client) put(ctx context.Context, i item) error {
	if c.closed.Load() {
		return errClosed
	}
	if err := c.state.add(ctx, i, c.cfg.OutboxLimit); err != nil {
		return err
	}
	poke(c.wake)
	return nil
}

// NewID makes a message id: a UUIDv7, so that ids sort by time.
func NewID() chat.MessageID { return chat.MessageID(uuid.Must(uuid.NewV7()).String()) }

// Pending lists what is in the outbox, in order.
func (c *Client) Pending() []Pending { return c.state.pending() }

// Last is the last event of the own inbox that is on disk.
func (c *Client) Last() chat.EventID { return c.state.position(ownInbox) }

// Settle waits until everything sent is stored or refused.
func (c *Client) Settle(ctx context.Context) error { return c.state.waitEmpty(ctx) }
