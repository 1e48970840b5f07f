package mqtt

import (
	"bytes"
	"crypto/rand"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/mochi-mqtt/server/v2/packets"

	"holdline/broker"
	"holdline/broker/topics"
)

// connect takes the first packet. When it returns without an error the client
// is connected and its CONNACK is on the way.
func (c *conn) connect(first byte, body []byte) error {
	if first != packets.Connect<<4 {
		return errClosed // [MQTT-3.1.0-1]
	}
	p, will, err := decodeConnect(body)
	if p.ProtocolVersion == 0 {
		return errClosed // not MQTT at all
	}
	c.version = p.ProtocolVersion
	if err == nil {
		err = c.admit(&p, will)
	}
	if err != nil {
		c.turnAway(c.refused(err))
		return errClosed
	}
	return nil
}

// decodeConnect reads a CONNECT. ProtocolVersion of the result is the version
// to answer in; 0 when it cannot be answered.
func decodeConnect(body []byte) (p packets.Packet, last *broker.Will, err error) {
	name, n, err := field(body)
	if err != nil || len(body) < n+4 {
		return p, nil, malformed("CONNECT")
	}
	level, flags := body[n], body[n+1]
	switch {
	case string(name) == "MQIsdp", string(name) == "MQTT" && level < 4:
		p.ProtocolVersion = 4
		return p, nil, &turnAway{packets.ErrUnsupportedProtocolVersion, oldVersion, "", "version"} // [MQTT-3.1.2-2]
	case string(name) != "MQTT":
		return p, nil, malformed("protocol name") // [MQTT-3.1.2-1]
	case level > 5:
		p.ProtocolVersion = 5
		return p, nil, &turnAway{packets.ErrUnsupportedProtocolVersion, oldVersion, "MQTT 3.1.1 and 5 are spoken here", "version"}
	}
	v5 := level == 5
	will, password, user := flags&0x04 != 0, flags&0x40 != 0, flags&0x80 != 0
	switch {
	case flags&1 != 0, // [MQTT-3.1.2-3]
		!will && flags&0x38 != 0, flags&0x18 == 0x18, // [MQTT-3.1.2-11, 3.1.2-12, 3.1.2-13]
		!v5 && password && !user: // [MQTT-3.1.2-22] of 3.1.1
		p.ProtocolVersion = level
		return p, nil, malformed("CONNECT flags")
	}
	size := n + 4
	if v5 {
		props, rest, err := section(body[size:])
		if err == nil {
			err = eachProperty(packets.Connect, props, nil)
		}
		if err != nil {
			p.ProtocolVersion = level
			return p, nil, err
		}
		size = len(body) - len(rest)
	}
	p.FixedHeader = packets.FixedHeader{Type: packets.Connect, Remaining: len(body)}
	body = bytes.Clone(body) // mochi's strings are the buffer, which goes back to others
	err = p.ConnectDecode(body)
	p.ProtocolVersion = level
	if err != nil {
		return p, nil, decodeFault(err)
	}
	size += 2 + len(p.Connect.ClientIdentifier)
	if will {
		var n int
		if last, n, err = decodeWill(flags, v5, body[size:]); err != nil {
			return p, nil, err
		}
		size += n
	}
	if user {
		size += 2 + len(p.Connect.Username)
	}
	if password {
		size += 2 + len(p.Connect.Password)
	}
	switch {
	case size != len(body):
		return p, nil, malformed("CONNECT has more after its end")
	case !utf8.Valid(p.Connect.Username) || bytes.IndexByte(p.Connect.Username, 0) >= 0: // [MQTT-1.5.4-1]
		return p, nil, malformed("user name")
	}
	return p, last, nil
}

// decodeWill reads the will in a CONNECT, which begins at b; size is what it takes up.
func decodeWill(flags byte, v5 bool, b []byte) (w *broker.Will, size int, err error) {
	w = &broker.Will{}
	w.QoS, w.Retain = flags>>3&3, flags&0x20 != 0
	rest := b
	if v5 {
		var props []byte
		if props, rest, err = section(b); err != nil {
			return nil, 0, err
		}
		err = eachProperty(packets.WillProperties, props, func(p *property) error {
			switch p.id {
			case packets.PropWillDelayInterval:
				w.Delay = time.Duration(p.n) * time.Second
			case packets.PropMessageExpiryInterval:
				w.Expiry = max(time.Duration(p.n)*time.Second, 1)
			default:
				w.Properties = append(w.Properties, p.raw...)
			}
			return nil
		})
		if err != nil {
			return nil, 0, err
		}
	}
	topic, n, err := field(rest)
	if err == nil {
		err = text(topic)
	}
	if err != nil {
		return nil, 0, err
	}
	payload, m, err := field(rest[n:])
	if err != nil {
		return nil, 0, err
	}
	w.Topic, w.Payload = topic, payload
	return w, len(b) - len(rest) + n + m, nil
}

// admit decides about a CONNECT that was understood, and connects.
func (c *conn) admit(p *packets.Packet, will *broker.Will) error {
	in, props := &p.Connect, &p.Properties
	v5 := c.version == 5
	c.quiet = props.RequestProblemInfoFlag && props.RequestProblemInfo == 0
	c.largest = int(props.MaximumPacketSize)
	switch {
	case props.AuthenticationMethod != "" || len(props.AuthenticationData) > 0:
		return &turnAway{packets.ErrBadAuthenticationMethod, oldForbidden, "send the token as password", "method"}
	}
	c.id = in.ClientIdentifier
	assigned := ""
	if c.id == "" {
		if !v5 && !in.Clean { // [MQTT-3.1.3-8] of 3.1.1
			return &turnAway{packets.ErrClientIdentifierNotValid, oldClientID, "", "client"}
		}
		assigned = "auto-" + strings.ToLower(rand.Text())
		c.id = assigned
	}
	if len(c.id) > broker.MaxClientBytes {
		return &turnAway{packets.ErrClientIdentifierNotValid, oldClientID, "client id is too long", "client"}
	}
	who, err := c.identify(in)
	if err != nil {
		return err
	}
	c.mount, c.expires = who.Mount, who.Expires
	if err := c.let(); err != nil {
		return err
	}
	c.throttle.rate = c.srv.admission.Publish[who.Mount.Account.Role]
	c.tree = who.Mount.Tree || who.Mount.Account.Subject == ""
	limits := broker.LimitsOf(who.Mount.Account.Role)

	hello := broker.Hello{
		Identity: who, Clean: in.Clean, Window: int(props.ReceiveMaximum), Strict: v5, Will: will, Link: c,
	}
	switch {
	case v5:
		hello.Expiry = time.Duration(props.SessionExpiryInterval) * time.Second
	case !in.Clean:
		hello.Expiry = c.srv.broker.Retention
	}
	asked := time.Duration(in.Keepalive) * time.Second
	c.keepAlive = keepAliveFor(asked, limits, v5)
	session, present, err := c.srv.broker.Connect(c.ctx, hello)
	if err != nil {
		return err
	}
	c.outbound.mu.Lock()
	c.session = session
	c.outbound.mu.Unlock()
	c.limit = limits.PacketBytes
	if err := tuneFor(c.s.Conn, who.Mount.Account.Role); err != nil {
		c.srv.log.DebugContext(c.ctx, "socket options not set", "device", c.id, "err", err)
	}
	if tcp, ok := tcpOf(c.s.Conn); ok && c.keepAlive == 0 {
		_ = tcp.SetKeepAliveConfig(unasked) // without it the write timeout finds out, later
	}
	c.answer(c.connack(present, assigned, limits, asked, time.Duration(props.SessionExpiryInterval)*time.Second, session))
	session.Begin()
	return nil
}

// identify finds out who it is. A password is a token and must be right. The
// user name decides nothing, but whoever gives one does not come as nobody.
func (c *conn) identify(in *packets.ConnectParams) (broker.Identity, error) {
	switch {
	case len(in.Password) > 0:
		return c.srv.broker.Authenticate(string(in.Password), c.id, time.Now())
	case c.anonymous && !in.PasswordFlag && !in.UsernameFlag:
		return broker.Identity{Mount: topics.Mount{Client: c.id}}, nil
	}
	return broker.Identity{}, &turnAway{packets.ErrNotAuthorized, oldForbidden, "no token; send one as password", "token"}
}

// keepAliveFor is how often the client will be heard of. On MQTT 5 it is told; on
// 3.1.1 its own choice stands, but not beyond what the role is allowed.
func keepAliveFor(asked time.Duration, l broker.Limits, v5 bool) time.Duration {
	switch {
	case l.KeepAliveMax == 0:
		return asked
	case v5 && asked == 0:
		return l.KeepAliveMax
	case v5:
		return min(max(asked, l.KeepAliveMin), l.KeepAliveMax)
	}
	return min(asked, l.KeepAliveMax)
}

// connack says what the client got, and what there is not.
func (c *conn) connack(present bool, assigned string, l broker.Limits, asked, expiry time.Duration, s *broker.Session) []byte {
	return c.packet(packets.Connack, func(p *packets.Packet) {
		p.SessionPresent = present
		props := &p.Properties
		props.ReceiveMaximum = uint16(l.Inbound)
		props.MaximumPacketSize = uint32(l.PacketBytes)
		props.AssignedClientID = assigned
		props.RetainAvailableFlag = !c.tree // and then it is 0
		props.SharedSubAvailableFlag = true // and it is 0
		if c.keepAlive != asked {
			props.ServerKeepAliveFlag, props.ServerKeepAlive = true, uint16(c.keepAlive/time.Second)
		}
		if granted := s.Expiry(); granted != expiry {
			props.SessionExpiryIntervalFlag, props.SessionExpiryInterval = true, uint32(granted/time.Second)
		}
	})
}

// turnAway answers a CONNECT with no.
func (c *conn) turnAway(t *turnAway) {
	c.srv.gauge.Reject(t.reason)
	if c.srv.refusals.Allow() { // whoever is a stranger must not fill the disk with lines
		c.srv.log.InfoContext(c.ctx, "connection refused", "device", c.id[:min(len(c.id), broker.MaxClientBytes)], "reason", t.reason, "err", t.detail)
	}
	var answer []byte
	switch {
	case c.version == 5:
		answer = c.packet(packets.Connack, func(p *packets.Packet) {
			p.ReasonCode, p.Properties.ReasonString = t.code.Code, reason(t.detail)
			p.Properties.User = retryProperty(c.retryAfter)
		})
	case t.old != 0:
		answer = []byte{packets.Connack << 4, 2, 0, t.old}
	}
	c.hangUp(answer, lastWrite)
}
