package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"unicode/utf8"
)

// The identifiers of MQTT 5 properties that tests speak of [MQTT 5, 2.2.2.2].
const (
	PayloadFormat         byte = 0x01
	MessageExpiry         byte = 0x02
	ContentType           byte = 0x03
	ResponseTopic         byte = 0x08
	CorrelationData       byte = 0x09
	SubscriptionID        byte = 0x0B
	SessionExpiry         byte = 0x11
	AssignedClientID      byte = 0x12
	ServerKeepAlive       byte = 0x13
	AuthMethod            byte = 0x15
	AuthData              byte = 0x16
	RequestProblemInfo    byte = 0x17
	WillDelay             byte = 0x18
	RequestResponseInfo   byte = 0x19
	ResponseInfo          byte = 0x1A
	ServerReference       byte = 0x1C
	ReasonString          byte = 0x1F
	ReceiveMaximum        byte = 0x21
	TopicAliasMaximum     byte = 0x22
	TopicAlias            byte = 0x23
	MaximumQoS            byte = 0x24
	RetainAvailable       byte = 0x25
	UserProperty          byte = 0x26
	MaximumPacketSize     byte = 0x27
	WildcardAvailable     byte = 0x28
	SubscriptionIDAllowed byte = 0x29
	SharedAvailable       byte = 0x2A
)

// Property is one MQTT 5 property. Which of the fields is used depends on the ID.
type Property struct {
	ID    byte
	Num   uint32 // numbers of any width
	Str   string // strings and binary data; the name of a user property
	Value string // the value of a user property
}

// Properties are those of one packet, in the order on the wire.
type Properties []Property

// Num returns a numeric property; ok is false when it is absent.
func (p Properties) Num(id byte) (n uint32, ok bool) {
	for _, q := range p {
		if q.ID == id {
			return q.Num, true
		}
	}
	return 0, false
}

// Str returns a string or binary property, empty when it is absent.
func (p Properties) Str(id byte) string {
	for _, q := range p {
		if q.ID == id {
			return q.Str
		}
	}
	return ""
}

// User returns the first user property of that name, empty when it is absent.
func (p Properties) User(name string) string {
	for _, q := range p {
		if q.ID == UserProperty && q.Str == name {
			return q.Value
		}
	}
	return ""
}

type width byte

const (
	one width = iota
	two
	four
	varint
	text
	blob
	pair
)

// will stands for the properties of a will, which are a set of their own.
const will Type = 0

type propertyRule struct {
	width width
	in    []Type
}

var (
	inPublish = []Type{Publish, will}
	inAcks    = []Type{Connack, Puback, Pubrec, Pubrel, Pubcomp, Suback, Unsuback, Disconnect, Auth}
	inAll     = append([]Type{Connect, Publish, will, Subscribe, Unsubscribe}, inAcks...)
)

// rules is table 2-4 of the standard.
var rules = map[byte]propertyRule{
	PayloadFormat: {one, inPublish}, MessageExpiry: {four, inPublish}, ContentType: {text, inPublish},
	ResponseTopic: {text, inPublish}, CorrelationData: {blob, inPublish},
	SubscriptionID: {varint, []Type{Publish, Subscribe}},
	SessionExpiry:  {four, []Type{Connect, Connack, Disconnect}}, AssignedClientID: {text, []Type{Connack}},
	ServerKeepAlive: {two, []Type{Connack}}, AuthMethod: {text, []Type{Connect, Connack, Auth}},
	AuthData: {blob, []Type{Connect, Connack, Auth}}, RequestProblemInfo: {one, []Type{Connect}},
	WillDelay: {four, []Type{will}}, RequestResponseInfo: {one, []Type{Connect}}, ResponseInfo: {text, []Type{Connack}},
	ServerReference: {text, []Type{Connack, Disconnect}}, ReasonString: {text, inAcks},
	ReceiveMaximum: {two, []Type{Connect, Connack}}, TopicAliasMaximum: {two, []Type{Connect, Connack}},
	TopicAlias: {two, []Type{Publish}}, MaximumQoS: {one, []Type{Connack}}, RetainAvailable: {one, []Type{Connack}},
	UserProperty: {pair, inAll}, MaximumPacketSize: {four, []Type{Connect, Connack}},
	WildcardAvailable: {one, []Type{Connack}}, SubscriptionIDAllowed: {one, []Type{Connack}}, SharedAvailable: {one, []Type{Connack}},
}

// append writes the length and the properties. It does not check them: a test may want a wrong one.
func (p Properties) append(b []byte) []byte {
	var v []byte
	for _, q := range p {
		v = append(v, q.ID)
		switch rules[q.ID].width {
		case one:
			v = append(v, byte(q.Num))
		case two:
			v = binary.BigEndian.AppendUint16(v, uint16(q.Num))
		case four:
			v = binary.BigEndian.AppendUint32(v, q.Num)
		case varint:
			v = appendVarint(v, q.Num)
		case text, blob:
			v = appendString(v, q.Str)
		case pair:
			v = appendString(appendString(v, q.Str), q.Value)
		}
	}
	return append(appendVarint(b, uint32(len(v))), v...)
}

// properties reads the properties of a packet of type t and checks that they belong there.
func (r *reader) properties(t Type) Properties {
	sub := reader{b: r.take(int(r.varint())), err: r.err}
	var all Properties
	for len(sub.b) > 0 && sub.err == nil {
		q := Property{ID: sub.byte()}
		rule, known := rules[q.ID]
		switch {
		case !known:
			sub.fail("property %#02x does not exist [MQTT 5, 2.2.2.2]", q.ID)
		case !contains(rule.in, t):
			sub.fail("property %#02x does not belong into a %s [MQTT 5, 2.2.2.2]", q.ID, t)
		case q.ID != UserProperty && !(q.ID == SubscriptionID && t == Publish):
			if _, twice := find(all, q.ID); twice {
				sub.fail("property %#02x twice in a %s [MQTT 5, 2.2.2.2]", q.ID, t)
			}
		}
		switch rule.width {
		case one:
			q.Num = uint32(sub.byte())
		case two:
			q.Num = uint32(sub.uint16())
		case four:
			q.Num = sub.uint32()
		case varint:
			q.Num = sub.varint()
		case text:
			q.Str = sub.text()
		case blob:
			q.Str = string(sub.bytes())
		case pair:
			q.Str, q.Value = sub.text(), sub.text()
		}
		all = append(all, q)
	}
	r.err = errors.Join(r.err, sub.err)
	return all
}

func find(p Properties, id byte) (Property, bool) {
	for _, q := range p {
		if q.ID == id {
			return q, true
		}
	}
	return Property{}, false
}

func contains(list []Type, t Type) bool {
	for _, l := range list {
		if l == t {
			return true
		}
	}
	return false
}

func appendVarint(b []byte, n uint32) []byte {
	for ; n >= 0x80; n >>= 7 {
		b = append(b, byte(n)|0x80)
	}
	return append(b, byte(n))
}

func appendString(b []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint16(b, uint16(len(s))), s...)
}

// reader takes a packet's body apart. After the first fault it returns zeros and keeps the fault in err.
type reader struct {
	b   []byte
	err error
}

func (r *reader) fail(format string, a ...any) {
	if r.err == nil {
		r.err = fmt.Errorf(format, a...)
	}
	r.b = nil
}

func (r *reader) take(n int) []byte {
	if n > len(r.b) {
		r.fail("packet ends %d bytes too early", n-len(r.b))
		return nil
	}
	v := r.b[:n]
	r.b = r.b[n:]
	return v
}

func (r *reader) byte() byte {
	if v := r.take(1); v != nil {
		return v[0]
	}
	return 0
}

func (r *reader) uint16() uint16 {
	if v := r.take(2); v != nil {
		return binary.BigEndian.Uint16(v)
	}
	return 0
}

func (r *reader) uint32() uint32 {
	if v := r.take(4); v != nil {
		return binary.BigEndian.Uint32(v)
	}
	return 0
}

func (r *reader) varint() (n uint32) {
	for shift := 0; shift < 28; shift += 7 {
		c := r.byte()
		n |= uint32(c&0x7f) << shift
		if c < 0x80 {
			if shift > 0 && c == 0 {
				r.fail("variable byte integer is longer than needed [MQTT-1.5.5-1]")
			}
			return n
		}
	}
	r.fail("variable byte integer has more than four bytes")
	return 0
}

func (r *reader) bytes() []byte { return r.take(int(r.uint16())) }

func (r *reader) text() string {
	s := r.bytes()
	if !utf8.Valid(s) {
		r.fail("string %q is not UTF-8 [MQTT-1.5.4-1]", s)
	}
	return string(s)
}
