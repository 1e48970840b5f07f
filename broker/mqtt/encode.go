package mqtt

import (
	"bytes"
	"encoding/binary"
	"slices"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"holdline/broker"
)

// The packets of the hot path, PUBLISH and PUBACK, are written here by hand:
// mochi's encoder copies each twice. All others are rare and use mochi's.

// appendVariable writes a variable byte integer [MQTT-1.5.5-1].
func appendVariable(b []byte, n int) []byte {
	for n >= 0x80 {
		b = append(b, byte(n)|0x80)
		n >>= 7
	}
	return append(b, byte(n))
}

func sizeVariable(n int) int {
	switch {
	case n < 1<<7:
		return 1
	case n < 1<<14:
		return 2
	case n < 1<<21:
		return 3
	}
	return 4
}

func appendAck(b []byte, kind broker.AckKind, id uint16) []byte {
	return append(b, ackHeads[kind], 2, byte(id>>8), byte(id))
}

// ackHeads are the first bytes of the answers.
var ackHeads = [...]byte{
	broker.Puback: packets.Puback << 4, broker.Pubrec: packets.Pubrec << 4,
	broker.Pubcomp: packets.Pubcomp << 4, broker.Pubrel: packets.Pubrel<<4 | 2,
}

const (
	dupBit    = 0x08
	retainBit = 0x01
)

// appendPublish writes a delivery. ok is false when it cannot be sent: it has
// expired, or is larger than the client takes [MQTT-3.1.2-24].
func (c *conn) appendPublish(b []byte, d *broker.Delivery, now time.Time) (_ []byte, ok bool) {
	var left uint32
	if !d.Expires.IsZero() {
		until := d.Expires.Sub(now)
		if until <= 0 {
			return b, false // [MQTT-3.3.2-5]
		}
		left = uint32((until + time.Second - 1) / time.Second) // [MQTT-3.3.2-6]
	}
	v5 := c.version == 5
	begin := len(b)
	if !d.Shared() || v5 && (left > 0 || len(d.Subs) > 0) {
		b = appendFrame(b, d, c.topicOf(d.Topic), v5, left)
	} else {
		i := int(d.QoS)
		if v5 {
			i += 3
		}
		if c.tree {
			i += 6
		}
		// The same for everybody with this version, QoS and mount: the packet id
		// comes from the entry alone.
		b = append(b, d.Frame(i, func() []byte { return appendFrame(nil, d, c.topicOf(d.Topic), v5, 0) })...)
	}
	if c.largest > 0 && len(b)-begin > c.largest {
		return b[:begin], false
	}
	if d.Dup {
		b[begin] |= dupBit
	}
	if d.Retain {
		b[begin] |= retainBit
	}
	return b, true
}

func (c *conn) topicOf(full string) string {
	if c.tree {
		return full
	}
	return c.mount.Deliver(full)
}

func appendFrame(b []byte, d *broker.Delivery, topic string, v5 bool, left uint32) []byte {
	size := 2 + len(topic) + len(d.Payload)
	if d.QoS > 0 {
		size += 2
	}
	props := 0
	if v5 {
		props = len(d.Properties)
		if left > 0 {
			props += 5
		}
		for _, id := range d.Subs {
			props += 1 + sizeVariable(int(id))
		}
		size += sizeVariable(props) + props
	}
	b = slices.Grow(b, 1+sizeVariable(size)+size)
	b = append(b, packets.Publish<<4|d.QoS<<1)
	b = appendVariable(b, size)
	b = binary.BigEndian.AppendUint16(b, uint16(len(topic)))
	b = append(b, topic...)
	if d.QoS > 0 {
		b = binary.BigEndian.AppendUint16(b, d.ID)
	}
	if v5 {
		b = appendVariable(b, props)
		if left > 0 {
			b = append(b, packets.PropMessageExpiryInterval)
			b = binary.BigEndian.AppendUint32(b, left)
		}
		for _, id := range d.Subs {
			b = append(b, packets.PropSubscriptionIdentifier)
			b = appendVariable(b, int(id))
		}
		b = append(b, d.Properties...)
	}
	return append(b, d.Payload...)
}

// packet writes one with mochi's encoder. The client's wishes about problem
// information and size are kept by it.
func (c *conn) packet(kind byte, fill func(*packets.Packet)) []byte {
	p := packets.Packet{
		FixedHeader: packets.FixedHeader{Type: kind}, ProtocolVersion: c.version,
		Mods: packets.Mods{MaxSize: uint32(c.largest), DisallowProblemInfo: c.quiet && kind != packets.Connack && kind != packets.Disconnect},
	}
	fill(&p)
	var b bytes.Buffer
	var err error
	switch kind {
	case packets.Connack:
		err = p.ConnackEncode(&b)
	case packets.Puback:
		err = p.PubackEncode(&b)
	case packets.Pubrec:
		err = p.PubrecEncode(&b)
	case packets.Pubrel:
		err = p.PubrelEncode(&b)
	case packets.Pubcomp:
		err = p.PubcompEncode(&b)
	case packets.Suback:
		err = p.SubackEncode(&b)
	case packets.Unsuback:
		err = p.UnsubackEncode(&b)
	case packets.Disconnect:
		err = p.DisconnectEncode(&b)
	}
	if err != nil {
		return nil // these encoders have no way to fail
	}
	return b.Bytes()
}

// maxReason keeps reason strings to what a log line can hold.
const maxReason = 512

func reason(s string) string {
	if len(s) <= maxReason {
		return s
	}
	n := maxReason
	for n > 0 && s[n]&0xc0 == 0x80 {
		n--
	}
	return s[:n]
}

// negative is an answer of MQTT 5 that says no.
func (c *conn) negative(a broker.Ack) []byte {
	return c.packet(ackHeads[a.Kind]>>4, func(p *packets.Packet) {
		if a.Kind == broker.Pubrel {
			p.FixedHeader.Qos = 1 // its flags
		}
		p.PacketID, p.ReasonCode, p.Properties.ReasonString = a.ID, refusal(a.Err).Code, reason(a.Err.Error())
	})
}

// disconnect is the packet that ends an MQTT 5 connection; nil for MQTT 3.1.1,
// which has none.
func (c *conn) disconnect(code packets.Code, detail string) []byte {
	if c.version != 5 {
		return nil
	}
	if detail == "" {
		detail = code.Reason
	}
	return c.packet(packets.Disconnect, func(p *packets.Packet) {
		p.ReasonCode, p.Properties.ReasonString = code.Code, reason(detail)
	})
}
