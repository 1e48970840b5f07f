package mqtt

import (
	"encoding/binary"
	"strings"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"holdline/broker"
)

var pingresp = []byte{packets.Pingresp << 4, 0}

// handle works on one packet of a connected client.
func (c *conn) handle(first byte, body []byte) error {
	c.waitOut()
	if !c.expires.IsZero() && !time.Now().Before(c.expires) {
		return faultf(packets.ErrNotAuthorized, "the token has expired; connect with a new one")
	}
	switch kind, flags := first>>4, first&0x0f; kind {
	case packets.Publish:
		return c.publish(first, body)
	case packets.Puback, packets.Pubrec, packets.Pubrel, packets.Pubcomp:
		if kind == packets.Pubrel && flags != 2 || kind != packets.Pubrel && flags != 0 { // [MQTT-3.6.1-1]
			return malformed("flags of an acknowledgement")
		}
		return c.acknowledged(kind, body)
	case packets.Subscribe:
		if flags != 2 { // [MQTT-3.8.1-1]
			return malformed("flags of SUBSCRIBE")
		}
		return c.subscribe(body)
	case packets.Unsubscribe:
		if flags != 2 { // [MQTT-3.10.1-1]
			return malformed("flags of UNSUBSCRIBE")
		}
		return c.unsubscribe(body)
	case packets.Pingreq:
		if flags != 0 || len(body) > 0 {
			return malformed("PINGREQ")
		}
		c.answer(pingresp)
		return nil
	case packets.Disconnect:
		if flags != 0 { // [MQTT-3.14.1-1]
			return malformed("flags of DISCONNECT")
		}
		return c.goodbye(body)
	case packets.Connect:
		return violation("a second CONNECT") // [MQTT-3.1.0-2]
	case packets.Auth:
		if c.version == 5 {
			return violation("AUTH without an authentication method") // [MQTT-4.12.0-6]
		}
	}
	return malformed("packet type %d", first>>4)
}

// publish takes a PUBLISH. It is decoded here, not by mochi, because this is
// the hot path: nothing is copied but what the journal gets.
func (c *conn) publish(first byte, body []byte) error {
	p, err := c.publishHead(first, body)
	if err != nil {
		return err
	}
	if dealt, err := c.hold(&p); dealt || err != nil {
		return err
	}
	err = c.session.Publish(c.ctx, &p)
	if p.Retain && c.version == 5 && !c.tree {
		// It was told Retain Available 0 [MQTT-3.2.2-14]. On 3.1.1 the inbox tells.
		return broker.ErrRetain
	}
	return err
}

// publishHead decodes a PUBLISH; the payload is what is left of body.
func (c *conn) publishHead(first byte, body []byte) (p broker.Publish, err error) {
	p.QoS, p.Retain = first>>1&3, first&1 != 0
	switch {
	case p.QoS == 3:
		return p, malformed("QoS 3") // [MQTT-3.3.1-4]
	case p.QoS == 0 && first&dupBit != 0:
		return p, malformed("DUP with QoS 0") // [MQTT-3.3.1-2]
	}
	topic, n, err := field(body)
	if err != nil {
		return p, err
	}
	if err := text(topic); err != nil { // [MQTT-3.3.2-1]
		return p, err
	}
	for _, b := range topic {
		if b == '+' || b == '#' { // [MQTT-3.3.2-2]
			return p, &fault{packets.ErrTopicNameInvalid, "a topic that is published to has no wildcards"}
		}
	}
	rest := body[n:]
	if p.QoS > 0 {
		if len(rest) < 2 {
			return p, malformed("packet identifier")
		}
		if p.ID = binary.BigEndian.Uint16(rest); p.ID == 0 { // [MQTT-2.2.1-3]
			return p, violation("packet identifier 0")
		}
		rest = rest[2:]
	}
	if c.version == 5 {
		var props []byte
		if props, rest, err = section(rest); err != nil {
			return p, err
		}
		if len(props) > 0 {
			if p.Properties, p.Expiry, err = publishProperties(props); err != nil {
				return p, err
			}
		}
	}
	if len(topic) == 0 {
		return p, violation("empty topic") // [MQTT-4.7.3-1]; there are no aliases
	}
	p.Topic, p.Payload = topic, rest
	return p, nil
}

// acknowledged takes PUBACK, PUBREC, PUBREL and PUBCOMP.
func (c *conn) acknowledged(kind byte, body []byte) error {
	if len(body) < 2 || c.version != 5 && len(body) > 2 {
		return malformed("acknowledgement")
	}
	if len(body) > 3 {
		props, rest, err := section(body[3:])
		if err != nil {
			return err
		}
		if len(rest) > 0 {
			return malformed("acknowledgement is too long")
		}
		if err := eachProperty(packets.Puback, props, nil); err != nil {
			return err
		}
	}
	id := binary.BigEndian.Uint16(body)
	if id == 0 {
		return violation("packet identifier 0")
	}
	switch kind {
	case packets.Pubrec:
		return c.session.Receipt(c.ctx, id, len(body) > 2 && body[2] >= 0x80)
	case packets.Pubrel:
		return c.session.Release(c.ctx, id)
	case packets.Pubcomp:
		return c.session.Complete(c.ctx, id)
	}
	c.session.Acknowledge(id) // whatever the reason code: it ends the delivery [MQTT-4.4.0-2]
	return nil
}

// checked checks what mochi's decoder of a packet with an id and properties
// does not, and returns the part after them.
func (c *conn) checked(kind byte, body []byte) (rest []byte, err error) {
	if len(body) < 2 {
		return nil, malformed("packet identifier")
	}
	if body[0] == 0 && body[1] == 0 { // [MQTT-2.2.1-3]
		return nil, violation("packet identifier 0")
	}
	if c.version != 5 {
		return body[2:], nil
	}
	props, rest, err := section(body[2:])
	if err != nil {
		return nil, err
	}
	return rest, eachProperty(kind, props, nil)
}

func (c *conn) subscribe(body []byte) error {
	rest, err := c.checked(packets.Subscribe, body)
	if err != nil {
		return err
	}
	// mochi does not look at the reserved bits, and reads past the end when the
	// options of the last filter are missing.
	for len(rest) > 0 {
		filter, n, err := field(rest)
		switch {
		case err != nil:
			return err
		case len(filter) == 0: // [MQTT-4.7.3-1]
			return malformed("empty filter")
		case len(rest) == n:
			return malformed("a filter without options")
		}
		if o := rest[n]; o&0xc0 != 0 || o&3 == 3 || o&0x30 == 0x30 || c.version != 5 && o > 2 { // [MQTT-3.8.3-5]
			return malformed("subscription options")
		}
		rest = rest[n+1:]
	}
	p := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Subscribe, Qos: 1, Remaining: len(body)}, ProtocolVersion: c.version}
	if err := p.SubscribeDecode(body); err != nil {
		return decodeFault(err)
	}
	if code := p.SubscribeValidate(); code != packets.CodeSuccess {
		return &fault{code, ""}
	}
	asked := make([]broker.Subscription, len(p.Filters))
	for i, f := range p.Filters {
		if f.NoLocal && strings.HasPrefix(f.Filter, "$share/") {
			return &fault{packets.ErrProtocolViolationInvalidSharedNoLocal, ""} // [MQTT-3.8.3-4]
		}
		asked[i] = broker.Subscription{
			Filter: strings.Clone(f.Filter), // mochi's strings are the read buffer
			QoS:    f.Qos, NoLocal: f.NoLocal, RetainAsPublished: f.RetainAsPublished, RetainHandling: f.RetainHandling, ID: uint32(f.Identifier),
		}
	}
	grants, err := c.session.Subscribe(c.ctx, asked)
	if err != nil {
		return err
	}
	codes, detail := subackCodes(grants, c.version == 5)
	c.answer(c.packet(packets.Suback, func(a *packets.Packet) {
		a.PacketID, a.ReasonCodes, a.Properties.ReasonString = p.PacketID, codes, reason(detail)
	}))
	return nil
}

func (c *conn) unsubscribe(body []byte) error {
	if _, err := c.checked(packets.Unsubscribe, body); err != nil {
		return err
	}
	p := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Unsubscribe, Qos: 1, Remaining: len(body)}, ProtocolVersion: c.version}
	if err := p.UnsubscribeDecode(body); err != nil {
		return decodeFault(err)
	}
	if code := p.UnsubscribeValidate(); code != packets.CodeSuccess {
		return &fault{code, ""}
	}
	filters := make([]string, len(p.Filters))
	for i, f := range p.Filters {
		filters[i] = f.Filter
	}
	was, err := c.session.Unsubscribe(c.ctx, filters)
	if err != nil {
		return err
	}
	codes := make([]byte, len(was))
	for i, was := range was {
		if !was {
			codes[i] = packets.CodeNoSubscriptionExisted.Code
		}
	}
	c.answer(c.packet(packets.Unsuback, func(a *packets.Packet) { a.PacketID, a.ReasonCodes = p.PacketID, codes }))
	return nil
}

// goodbye takes the client's DISCONNECT.
func (c *conn) goodbye(body []byte) error {
	c.clean = true
	if len(body) == 0 {
		return errClosed
	}
	if c.version != 5 {
		return malformed("DISCONNECT")
	}
	c.clean = body[0] == packets.CodeDisconnect.Code
	if len(body) == 1 {
		return errClosed
	}
	props, rest, err := section(body[1:])
	if err != nil {
		return err
	}
	if len(rest) > 0 {
		return malformed("DISCONNECT is too long")
	}
	err = eachProperty(packets.Disconnect, props, func(p *property) error {
		switch p.id {
		case packets.PropSessionExpiryInterval:
			if c.session.Expiry() == 0 && p.n > 0 {
				return violation("the session was to end with its connection") // [MQTT-3.14.2-2]
			}
			expiry := time.Duration(p.n) * time.Second
			c.expiry = &expiry
		case packets.PropServerReference:
			return violation("server reference")
		}
		return nil
	})
	if err != nil {
		c.clean, c.expiry = false, nil
		return err
	}
	return errClosed
}
