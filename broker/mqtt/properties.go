package mqtt

import (
	"bytes"
	"encoding/binary"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/mochi-mqtt/server/v2/packets"
)

// mochi's codec does not notice properties that come twice, run over the end of
// their section or have values that are not allowed. checkProperties does,
// before the codec sees them.

// form is how a property is written.
type form byte

const (
	formByte form = iota + 1
	formTwo
	formFour
	formVar
	formString
	formBinary
	formPair
)

var forms = [...]form{
	packets.PropPayloadFormat: formByte, packets.PropMessageExpiryInterval: formFour, packets.PropContentType: formString,
	packets.PropResponseTopic: formString, packets.PropCorrelationData: formBinary, packets.PropSubscriptionIdentifier: formVar,
	packets.PropSessionExpiryInterval: formFour, packets.PropAuthenticationMethod: formString, packets.PropAuthenticationData: formBinary,
	packets.PropRequestProblemInfo: formByte, packets.PropWillDelayInterval: formFour, packets.PropRequestResponseInfo: formByte,
	packets.PropServerReference: formString, packets.PropReasonString: formString, packets.PropReceiveMaximum: formTwo,
	packets.PropTopicAliasMaximum: formTwo, packets.PropTopicAlias: formTwo, packets.PropUser: formPair,
	packets.PropMaximumPacketSize: formFour,
}

// allowed are the properties a client may send, by packet.
var allowed = map[byte][]byte{
	packets.Connect: {
		packets.PropSessionExpiryInterval, packets.PropReceiveMaximum, packets.PropMaximumPacketSize, packets.PropTopicAliasMaximum,
		packets.PropRequestResponseInfo, packets.PropRequestProblemInfo, packets.PropUser, packets.PropAuthenticationMethod, packets.PropAuthenticationData,
	},
	packets.WillProperties: {
		packets.PropWillDelayInterval, packets.PropPayloadFormat, packets.PropMessageExpiryInterval, packets.PropContentType,
		packets.PropResponseTopic, packets.PropCorrelationData, packets.PropUser,
	},
	packets.Publish: {
		packets.PropPayloadFormat, packets.PropMessageExpiryInterval, packets.PropTopicAlias, packets.PropResponseTopic,
		packets.PropCorrelationData, packets.PropUser, packets.PropContentType,
	},
	packets.Puback:      {packets.PropReasonString, packets.PropUser},
	packets.Subscribe:   {packets.PropSubscriptionIdentifier, packets.PropUser},
	packets.Unsubscribe: {packets.PropUser},
	packets.Disconnect:  {packets.PropSessionExpiryInterval, packets.PropReasonString, packets.PropUser, packets.PropServerReference},
}

// property is one property as it stands in the packet.
type property struct {
	id    byte
	raw   []byte // id and value
	value []byte // of strings and binary: the content
	n     uint64 // of numbers
}

// section splits the property section off b: its length, and then the rest.
func section(b []byte) (props, rest []byte, err error) {
	n, k := variable(b)
	if k <= 0 || int(n) > len(b)-k {
		return nil, nil, malformed("property length")
	}
	return b[k : k+int(n)], b[k+int(n):], nil
}

// variable reads a variable byte integer; k is how many bytes it has, 0 when b
// ends before it does, and negative when it is not one [MQTT-1.5.5-1].
func variable(b []byte) (n uint32, k int) {
	for i := range min(len(b), 4) {
		n |= uint32(b[i]&0x7f) << (7 * i)
		if b[i] < 0x80 {
			return n, i + 1
		}
	}
	if len(b) >= 4 {
		return 0, -1
	}
	return 0, 0
}

// next takes the first property off a section.
func next(b []byte, p *property) (rest []byte, err error) {
	p.id, p.value, p.n = b[0], nil, 0
	if int(p.id) >= len(forms) || forms[p.id] == 0 {
		return nil, malformed("unknown property 0x%02X", p.id)
	}
	v := b[1:]
	size := 0
	switch forms[p.id] {
	case formByte:
		if size = 1; len(v) >= 1 {
			p.n = uint64(v[0])
		}
	case formTwo:
		if size = 2; len(v) >= 2 {
			p.n = uint64(binary.BigEndian.Uint16(v))
		}
	case formFour:
		if size = 4; len(v) >= 4 {
			p.n = uint64(binary.BigEndian.Uint32(v))
		}
	case formVar:
		n, k := variable(v)
		if k <= 0 {
			return nil, malformed("property 0x%02X", p.id)
		}
		p.n, size = uint64(n), k
	case formString, formBinary:
		if p.value, size, err = field(v); err == nil && forms[p.id] == formString {
			err = text(p.value)
		}
	case formPair:
		var key, val []byte
		var k, n int
		if key, k, err = field(v); err == nil {
			if val, n, err = field(v[k:]); err == nil {
				if err = text(key); err == nil {
					err = text(val)
				}
			}
		}
		size = k + n
	}
	if err != nil {
		return nil, err
	}
	if size > len(v) {
		return nil, malformed("property 0x%02X is cut off", p.id)
	}
	p.raw = b[:1+size]
	return v[size:], nil
}

// field reads two bytes of length and so many of content.
func field(b []byte) (content []byte, size int, err error) {
	if len(b) < 2 {
		return nil, 0, malformed("length is cut off")
	}
	size = 2 + int(binary.BigEndian.Uint16(b))
	if size > len(b) {
		return nil, 0, malformed("string is cut off")
	}
	return b[2:size], size, nil
}

// text reports a string that is not UTF-8 or contains U+0000 [MQTT-1.5.4-1, MQTT-1.5.4-2].
func text(b []byte) error {
	if !utf8.Valid(b) || bytes.IndexByte(b, 0) >= 0 {
		return malformed("string is not UTF-8 or contains U+0000")
	}
	return nil
}

// eachProperty goes through a section, refusing what the packet must not have.
func eachProperty(kind byte, b []byte, visit func(p *property) error) error {
	var seen uint64
	var p property
	for len(b) > 0 {
		rest, err := next(b, &p)
		if err != nil {
			return err
		}
		if !slices.Contains(allowed[kind], p.id) {
			return violation("property 0x%02X does not belong here", p.id)
		}
		if bit := uint64(1) << p.id; p.id != packets.PropUser {
			if seen&bit != 0 {
				return violation("property 0x%02X is there twice", p.id)
			}
			seen |= bit
		}
		if err := inRange(&p); err != nil {
			return err
		}
		if visit != nil {
			if err := visit(&p); err != nil {
				return err
			}
		}
		b = rest
	}
	return nil
}

func inRange(p *property) error {
	switch p.id {
	case packets.PropPayloadFormat, packets.PropRequestProblemInfo, packets.PropRequestResponseInfo:
		if p.n > 1 {
			return violation("property 0x%02X is neither 0 nor 1", p.id)
		}
	case packets.PropReceiveMaximum, packets.PropMaximumPacketSize, packets.PropSubscriptionIdentifier:
		if p.n == 0 {
			return violation("property 0x%02X is 0", p.id)
		}
	case packets.PropResponseTopic:
		if len(p.value) == 0 || bytes.ContainsAny(p.value, "+#") { // [MQTT-3.3.2-14]
			return violation("response topic is not a topic")
		}
	case packets.PropTopicAlias:
		return &fault{packets.ErrTopicAliasInvalid, "topic aliases are not available"} // [MQTT-3.2.2-17]
	}
	return nil
}

// publishProperties reads the section of a PUBLISH: what is forwarded, as it
// stands, and the message expiry.
func publishProperties(b []byte) (forward []byte, expiry time.Duration, err error) {
	err = eachProperty(packets.Publish, b, func(p *property) error {
		if p.id == packets.PropMessageExpiryInterval {
			// 0 seconds is a message that is of no use already; the shortest time says so.
			expiry = max(time.Duration(p.n)*time.Second, 1)
		}
		return nil
	})
	if err != nil || expiry == 0 {
		return b, 0, err
	}
	var p property
	for rest := b; len(rest) > 0; {
		if rest, err = next(rest, &p); err != nil {
			return nil, 0, err
		}
		if p.id != packets.PropMessageExpiryInterval {
			forward = append(forward, p.raw...)
		}
	}
	return forward, expiry, nil
}
