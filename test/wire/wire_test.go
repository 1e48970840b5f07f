package wire

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestPacketsAreTheBytesOfTheStandard(t *testing.T) {
	for _, tt := range []struct {
		name    string
		version byte
		packet  Packet
		hex     string
	}{
		{"publish QoS 0", V311, Packet{Type: Publish, Topic: "a/b", Payload: []byte("x")}, "30 06 0003612f62 78"},
		{"publish QoS 1 dup", V311, Packet{Type: Publish, QoS: 1, Dup: true, ID: 10, Topic: "a/b"}, "3a 07 0003612f62 000a"},
		{"publish with alias", V5, Packet{Type: Publish, Retain: true, Topic: "a", Properties: Properties{{ID: TopicAlias, Num: 7}}}, "31 07 000161 03 230007"},
		{"subscribe", V5, Packet{Type: Subscribe, ID: 1, Filters: []Filter{{"a/#", 1}}}, "82 09 0001 00 0003612f23 01"},
		{"unsubscribe", V311, Packet{Type: Unsubscribe, ID: 2, Filters: []Filter{{Topic: "a"}}}, "a2 05 0002 000161"},
		{"puback without code", V5, Packet{Type: Puback, ID: 258}, "40 02 0102"},
		{"puback with code", V5, Packet{Type: Puback, ID: 1, Code: 0x87}, "40 03 0001 87"},
		{"pubrel", V311, Packet{Type: Pubrel, ID: 3}, "62 02 0003"},
		{"suback", V311, Packet{Type: Suback, ID: 4, Codes: []byte{1, 0x80}}, "90 04 0004 01 80"},
		{"connack", V5, Packet{Type: Connack, SessionPresent: true, Properties: Properties{
			{ID: ReceiveMaximum, Num: 20}, {ID: MaximumPacketSize, Num: 65536}, {ID: UserProperty, Str: "k", Value: "v"},
		}}, "20 12 01 00 0f 210014 2700010000 26 00016b 000176"},
		{"ping", V5, Packet{Type: Pingreq}, "c0 00"},
		{"disconnect", V5, Packet{Type: Disconnect, Code: 0x8e}, "e0 01 8e"},
		{"two length bytes", V311, Packet{Type: Publish, Topic: "a", Payload: bytes.Repeat([]byte("y"), 200)}, "30 cb01 000161" + strings.Repeat("79", 200)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			want, err := hex.DecodeString(strings.ReplaceAll(tt.hex, " ", ""))
			if err != nil {
				t.Fatal(err)
			}
			got := tt.packet.Encode(tt.version)
			if !bytes.Equal(got, want) {
				t.Fatalf("Encode = %x, want %x", got, want)
			}
			c := Conn{Version: tt.version, in: got}
			back, err := c.read(time.Now())
			if err != nil {
				t.Fatal(err)
			}
			if len(back.Payload) == 0 {
				back.Payload = nil
			}
			if d := cmp.Diff(tt.packet, back); d != "" {
				t.Errorf("read back (-want +got):\n%s", d)
			}
		})
	}
}

func TestHelloIsTheBytesOfTheStandard(t *testing.T) {
	for _, tt := range []struct {
		name  string
		hello Hello
		hex   string
	}{
		{"3.1.1", Hello{Version: V311, Client: "c", Clean: true, KeepAlive: 60}, "10 0d 00044d515454 04 02 003c 000163"},
		{"5 with token", Hello{Client: "c", User: "u", Password: "p", Properties: Properties{{ID: SessionExpiry, Num: 1}}},
			"10 19 00044d515454 05 c0 0000 05 1100000001 000163 000175 000170"},
		{"5 with will", Hello{Client: "c", Will: &Packet{Topic: "w", QoS: 1, Retain: true, Payload: []byte("b")}},
			"10 15 00044d515454 05 2c 0000 00 000163 00 000177 000162"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got, want := hex.EncodeToString(tt.hello.Encode()), strings.ReplaceAll(tt.hex, " ", ""); got != want {
				t.Errorf("Encode = %s, want %s", got, want)
			}
		})
	}
}

func TestWhatTheStandardForbidsIsAnError(t *testing.T) {
	for _, tt := range []struct {
		name, hex, fault string
		version          byte
	}{
		{"QoS 3", "36 05 000161 0001", "MQTT-3.3.1-4", V311},
		{"DUP at QoS 0", "38 03 000161", "MQTT-3.3.1-2", V311},
		{"packet id 0", "32 05 000161 0000", "MQTT-2.2.1-3", V311},
		{"wildcard topic", "30 03 000123", "MQTT-3.3.2-2", V311},
		{"no topic, no alias", "30 03 0000 00", "MQTT-4.7.3-1", V5},
		{"pubrel flags", "60 02 0001", "MQTT-2.1.3-1", V311},
		{"session present and refused", "20 02 01 05", "MQTT-3.2.2-6", V311},
		{"unknown property", "20 05 00 00 02 7f00", "does not exist", V5},
		{"misplaced property", "20 06 00 00 03 230001", "does not belong", V5},
		{"property twice", "20 09 00 00 06 210001 210001", "twice", V5},
		{"cut short", "40 01 00", "too early", V311},
		{"too long", "d0 01 00", "too many", V5},
		{"not UTF-8", "30 03 0001ff", "MQTT-1.5.4-1", V311},
		{"AUTH in 3.1.1", "f0 00", "AUTH", V311},
		{"CONNECT from a server", "10 00", "unexpected", V5},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b, err := hex.DecodeString(strings.ReplaceAll(tt.hex, " ", ""))
			if err != nil {
				t.Fatal(err)
			}
			c := Conn{Version: tt.version, in: b}
			if p, err := c.read(time.Now()); err == nil || !strings.Contains(err.Error(), tt.fault) {
				t.Errorf("read = %s, %v; want an error with %q", p, err, tt.fault)
			}
		})
	}
}

// TestAPacketMayComeInPieces also shows that a wait that ends in the middle of a packet loses nothing.
func TestAPacketMayComeInPieces(t *testing.T) {
	client, server := net.Pipe()
	defer server.Close()
	c := &Conn{Raw: client, Version: V5}
	defer c.Drop()
	whole := Packet{Type: Publish, Topic: "t", Payload: []byte("payload")}.Encode(V5)
	wrote := make(chan error, 1)
	go func() {
		_, err := server.Write(whole[:5])
		wrote <- err
	}()
	if _, err := c.Next(50 * time.Millisecond); !errors.Is(err, ErrSilent) {
		t.Fatalf("Next of half a packet = %v, want ErrSilent", err)
	}
	if err := <-wrote; err != nil {
		t.Fatal(err)
	}
	go func() {
		_, err := server.Write(append(whole[5:len(whole):len(whole)], Packet{Type: Pingresp}.Encode(V5)...))
		wrote <- err
	}()
	if p, err := c.Await(Patience, func(p Packet) bool { return p.Type == Pingresp }); err != nil {
		t.Fatalf("Await = %s, %v", p, err)
	}
	if p, err := c.Next(0); err != nil || string(p.Payload) != "payload" {
		t.Errorf("Next = %s, %v; want the packet that Await passed over", p, err)
	}
	if err := <-wrote; err != nil {
		t.Fatal(err)
	}
}

// TestFramesAreTakenApart: lengths of every form, packets over several frames,
// a ping in between, the end.
func TestFramesAreTakenApart(t *testing.T) {
	long := Packet{Type: Publish, Topic: "t", Payload: bytes.Repeat([]byte("x"), 70_000)}.Encode(V5)
	var sent []byte
	frame := func(opcode byte, payload []byte) {
		sent = append(sent, 0x80|opcode)
		switch n := len(payload); {
		case n < 126:
			sent = append(sent, byte(n))
		case n < 1<<16:
			sent = append(sent, 126, byte(n>>8), byte(n))
		default:
			sent = append(sent, 127, 0, 0, 0, 0, byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
		}
		sent = append(sent, payload...)
	}
	frame(BinaryFrame, long[:100])
	frame(pingFrame, []byte("?"))
	frame(BinaryFrame, long[100:1000])
	frame(BinaryFrame, append(long[1000:len(long):len(long)], Packet{Type: Pingresp}.Encode(V5)...))
	frame(closeFrame, []byte{3, 232})

	client, server := net.Pipe()
	defer server.Close()
	wrote, answers := make(chan error, 1), make(chan []byte, 1)
	go func() {
		_, err := server.Write(sent)
		wrote <- err
	}()
	go func() {
		b := make([]byte, 7+8) // a masked pong of one byte, a masked close of two
		n, _ := io.ReadFull(server, b)
		answers <- b[:n]
	}()
	c := &Conn{Raw: &webSocket{Conn: client, r: bufio.NewReader(client)}, Version: V5}
	defer c.Drop()
	if p, err := c.Next(Patience); err != nil || len(p.Payload) != 70_000 {
		t.Fatalf("Next = %s, %v", p, err)
	}
	if p, err := c.Next(Patience); err != nil || p.Type != Pingresp {
		t.Fatalf("Next = %s, %v", p, err)
	}
	if _, err := c.Next(Patience); !errors.Is(err, io.EOF) {
		t.Fatalf("after a close frame: %v, want io.EOF", err)
	}
	if err := <-wrote; err != nil {
		t.Error(err)
	}
	if got, want := hex.EncodeToString(<-answers), "8a81000000003f"+"8882000000"+"0003e8"; got != want {
		t.Errorf("answered %s, want a pong and a close, %s", got, want)
	}
}

func TestFramesThatAreForbiddenAreErrors(t *testing.T) {
	for name, frame := range map[string]string{"masked": "8281000000003f", "text": "810141", "reserved opcode": "830141"} {
		client, server := net.Pipe()
		b, err := hex.DecodeString(frame)
		if err != nil {
			t.Fatal(err)
		}
		go func() { _, _ = server.Write(b) }() // a fault shows in what is read
		c := &Conn{Raw: &webSocket{Conn: client, r: bufio.NewReader(client)}, Version: V5}
		if p, err := c.Next(Patience); err == nil || !strings.Contains(err.Error(), "broken frame") {
			t.Errorf("%s: Next = %s, %v; want a broken frame", name, p, err)
		}
		c.Drop()
		server.Close()
	}
}
