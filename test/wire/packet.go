package wire

import (
	"encoding/binary"
	"fmt"
	"strings"
)

// The protocol levels a CONNECT may name.
const (
	V311 byte = 4
	V5   byte = 5
)

// Type is the kind of a packet.
type Type byte

// The packet types [MQTT 5, 2.1.2].
const (
	Connect Type = iota + 1
	Connack
	Publish
	Puback
	Pubrec
	Pubrel
	Pubcomp
	Subscribe
	Suback
	Unsubscribe
	Unsuback
	Pingreq
	Pingresp
	Disconnect
	Auth
)

func (t Type) String() string {
	names := "will CONNECT CONNACK PUBLISH PUBACK PUBREC PUBREL PUBCOMP SUBSCRIBE SUBACK UNSUBSCRIBE UNSUBACK PINGREQ PINGRESP DISCONNECT AUTH"
	if f := strings.Fields(names); int(t) < len(f) {
		return f[t]
	}
	return fmt.Sprintf("type %d", byte(t))
}

// Packet is any control packet but CONNECT. Only the fields of its Type are used.
type Packet struct {
	Type           Type
	Dup, Retain    bool
	QoS            byte
	ID             uint16
	Topic          string
	Payload        []byte
	Filters        []Filter // SUBSCRIBE, UNSUBSCRIBE
	SessionPresent bool     // CONNACK
	Code           byte     // CONNACK, DISCONNECT, AUTH and the acknowledgements of a publish
	Codes          []byte   // SUBACK, UNSUBACK
	Properties     Properties
}

// Filter is one subscription with its options byte.
type Filter struct {
	Topic   string
	Options byte
}

// String is for failure messages: what the packet is, not all that it carries.
func (p Packet) String() string {
	switch p.Type {
	case Publish:
		body := string(p.Payload)
		if len(body) > 60 {
			body = body[:60] + "…"
		}
		return fmt.Sprintf("PUBLISH %s id %d qos %d dup %t retain %t %q", p.Topic, p.ID, p.QoS, p.Dup, p.Retain, body)
	case Suback, Unsuback:
		return fmt.Sprintf("%s id %d codes %#x", p.Type, p.ID, p.Codes)
	case Connack:
		return fmt.Sprintf("CONNACK %#02x session present %t %s", p.Code, p.SessionPresent, p.Properties.Str(ReasonString))
	case Disconnect, Auth:
		return fmt.Sprintf("%s %#02x %s", p.Type, p.Code, p.Properties.Str(ReasonString))
	}
	return fmt.Sprintf("%s id %d %#02x %s", p.Type, p.ID, p.Code, p.Properties.Str(ReasonString))
}

// Encode is the packet's bytes under a protocol version. It checks nothing.
func (p Packet) Encode(version byte) []byte {
	var b []byte
	flags := byte(0)
	withProperties := func() {
		if version == V5 {
			b = p.Properties.append(b)
		}
	}
	withCode := func() { // code and properties may be left out when there is nothing to say
		if version == V5 && (p.Code != 0 || len(p.Properties) > 0) {
			b = append(b, p.Code)
			if len(p.Properties) > 0 {
				withProperties()
			}
		}
	}
	id := func() { b = binary.BigEndian.AppendUint16(b, p.ID) }
	switch p.Type {
	case Connack:
		if p.SessionPresent {
			b = append(b, 1)
		} else {
			b = append(b, 0)
		}
		b = append(b, p.Code)
		withProperties()
	case Publish:
		flags = p.QoS << 1
		if p.Dup {
			flags |= 8
		}
		if p.Retain {
			flags |= 1
		}
		b = appendString(b, p.Topic)
		if p.QoS > 0 {
			id()
		}
		withProperties()
		b = append(b, p.Payload...)
	case Puback, Pubrec, Pubrel, Pubcomp:
		if p.Type == Pubrel {
			flags = 2
		}
		id()
		withCode()
	case Subscribe, Unsubscribe:
		flags = 2
		id()
		withProperties()
		for _, f := range p.Filters {
			b = appendString(b, f.Topic)
			if p.Type == Subscribe {
				b = append(b, f.Options)
			}
		}
	case Suback, Unsuback:
		id()
		withProperties()
		if p.Type == Suback || version == V5 {
			b = append(b, p.Codes...)
		}
	case Disconnect, Auth:
		withCode()
	case Connect, Pingreq, Pingresp:
	}
	return frame(p.Type, flags, b)
}

func frame(t Type, flags byte, body []byte) []byte {
	return append(appendVarint([]byte{byte(t)<<4 | flags}, uint32(len(body))), body...)
}

// decode reads a packet as a client may receive it under a version. What the
// standard forbids is an error.
func decode(version, first byte, body []byte) (Packet, error) {
	p := Packet{Type: Type(first >> 4)}
	r := &reader{b: body}
	if flags := first & 0x0f; p.Type == Publish {
		p.Dup, p.QoS, p.Retain = flags&8 != 0, flags>>1&3, flags&1 != 0
		if p.QoS == 3 {
			r.fail("QoS 3 [MQTT-3.3.1-4]")
		}
		if p.Dup && p.QoS == 0 {
			r.fail("DUP with QoS 0 [MQTT-3.3.1-2]")
		}
	} else if want := map[bool]byte{true: 2}[p.Type == Pubrel || p.Type == Subscribe || p.Type == Unsubscribe]; flags != want {
		r.fail("flags %#x [MQTT-2.1.3-1]", flags)
	}
	properties := func() {
		if version == V5 {
			p.Properties = r.properties(p.Type)
		}
	}
	code := func() {
		if version == V5 && len(r.b) > 0 {
			p.Code = r.byte()
			if len(r.b) > 0 {
				properties()
			}
		}
	}
	id := func() {
		if p.ID = r.uint16(); p.ID == 0 {
			r.fail("packet id 0 [MQTT-2.2.1-3]")
		}
	}
	switch p.Type {
	case Connack:
		ack := r.byte()
		if ack > 1 {
			r.fail("reserved bits in CONNACK [MQTT-3.2.2-1]")
		}
		p.SessionPresent, p.Code = ack == 1, r.byte()
		if p.Code != 0 && p.SessionPresent {
			r.fail("session present with code %#02x [MQTT-3.2.2-6]", p.Code)
		}
		properties()
	case Publish:
		p.Topic = r.text()
		if strings.ContainsAny(p.Topic, "+#\x00") {
			r.fail("topic %q [MQTT-3.3.2-2]", p.Topic)
		}
		if p.QoS > 0 {
			id()
		}
		properties()
		if _, aliased := p.Properties.Num(TopicAlias); p.Topic == "" && !aliased {
			r.fail("no topic and no alias [MQTT-4.7.3-1]")
		}
		p.Payload, r.b = append([]byte{}, r.b...), nil
	case Puback, Pubrec, Pubrel, Pubcomp:
		id()
		code()
	case Subscribe, Unsubscribe:
		id()
		properties()
		for len(r.b) > 0 {
			f := Filter{Topic: r.text()}
			if p.Type == Subscribe {
				f.Options = r.byte()
			}
			p.Filters = append(p.Filters, f)
		}
	case Suback, Unsuback:
		id()
		properties()
		p.Codes, r.b = append([]byte{}, r.b...), nil
		if len(p.Codes) == 0 && (p.Type == Suback || version == V5) {
			r.fail("no codes [MQTT-3.9.3-1]")
		}
	case Pingreq, Pingresp:
	case Disconnect, Auth:
		if version != V5 && p.Type == Auth {
			r.fail("AUTH is not of MQTT 3.1.1")
		}
		code()
	default:
		r.fail("unexpected %s", p.Type)
	}
	if len(r.b) > 0 {
		r.fail("%d bytes too many", len(r.b))
	}
	if r.err != nil {
		return p, fmt.Errorf("broken %s from the peer: %w", p.Type, r.err)
	}
	return p, nil
}
