//go:build linux

package main

import (
	"encoding/binary"
	"time"
)

// What an MQTT 3.1.1 packet begins with.
const (
	connackHead   = 0x20
	publishHead   = 0x30 // QoS 0; flags below
	pubackHead    = 0x40
	subackHead    = 0x90
	publishQoS1   = 0x32
	duplicateFlag = 0x08
)

func packet(head byte, body []byte) []byte {
	return append(binary.AppendUvarint([]byte{head}, uint64(len(body))), body...)
}

func appendString(b []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint16(b, uint16(len(s))), s...)
}

// connectFrame is a CONNECT without keep-alive.
func connectFrame(id string, clean bool) []byte {
	flags := byte(0)
	if clean {
		flags = 2
	}
	return packet(0x10, appendString(append(appendString(nil, "MQTT"), 4, flags, 0, 0), id))
}

// subscribeFrame asks for one topic with QoS 1.
func subscribeFrame(topic string) []byte {
	return packet(0x82, append(appendString([]byte{0, 1}, topic), 1))
}

var disconnectFrame = []byte{0xe0, 0}

// stampBytes is the beginning of every payload: who says it (4), the how
// manieth of it this is, from 1 (8), and when it was written (8).
const stampBytes = 20

// template is a publish of QoS 1, encoded but for its packet id and stamp.
type template struct {
	frame []byte
	at    int // of the packet id; the stamp follows
}

func newTemplate(topic string, from uint32, payload int) template {
	body := appendString(nil, topic)
	id := len(body)
	body = append(body, make([]byte, 2+max(payload, stampBytes))...)
	binary.BigEndian.PutUint32(body[id+2:], from)
	frame := packet(publishQoS1, body)
	return template{frame, len(frame) - len(body) + id}
}

// appendTo writes message n.
func (t template) appendTo(b []byte, id uint16, n uint64, now time.Duration) []byte {
	binary.BigEndian.PutUint16(t.frame[t.at:], id)
	binary.BigEndian.PutUint64(t.frame[t.at+6:], n)
	binary.BigEndian.PutUint64(t.frame[t.at+14:], uint64(now))
	return append(b, t.frame...)
}

// packetID of a connection's publish n: 1 to 60000, over and over.
func packetID(n uint64) uint16 { return uint16((n-1)%60000 + 1) }

// stamp is what a delivery tells.
type stamp struct {
	from uint32
	n    uint64
	at   time.Duration
	id   uint16 // 0 for QoS 0
	dup  bool
}

// readPublish reads a PUBLISH; ok is false when it is none of ours.
func readPublish(head byte, body []byte) (s stamp, ok bool) {
	if len(body) < 2 {
		return s, false
	}
	at := 2 + int(binary.BigEndian.Uint16(body))
	if head&0x06 != 0 {
		if len(body) < at+2 {
			return s, false
		}
		s.id = binary.BigEndian.Uint16(body[at:])
		at += 2
	}
	if len(body) < at+stampBytes {
		return s, false
	}
	p := body[at:]
	s.from = binary.BigEndian.Uint32(p)
	s.n = binary.BigEndian.Uint64(p[4:])
	s.at = time.Duration(binary.BigEndian.Uint64(p[12:]))
	s.dup = head&duplicateFlag != 0
	return s, true
}
