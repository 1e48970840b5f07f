package mqtt_test

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"holdline/test/wire"
)

// probeBroken are packets that end the connection they come on. 5 and 3.1.1
// say which versions they are wrong under.
var probeBroken = []struct {
	name     string
	versions string
	hex      string
}{
	{"SUBSCRIBE of eight bytes without options (mochi issue 501)", "5", "82 06 0001 00 000161"},
	{"SUBSCRIBE without options", "4", "82 05 0001 000161"},
	{"SUBSCRIBE with nothing", "45", "82 00"},
	{"SUBSCRIBE without filters", "4", "82 02 0001"},
	{"SUBSCRIBE without filters and properties", "5", "82 03 0001 00"},
	{"SUBSCRIBE with wrong flags", "5", "80 07 0001 00 000161 01"},
	{"SUBSCRIBE with packet id 0", "5", "82 07 0000 00 000161 01"},
	{"SUBSCRIBE with QoS 3", "5", "82 07 0001 00 000161 03"},
	{"SUBSCRIBE with reserved options", "5", "82 07 0001 00 000161 c1"},
	{"SUBSCRIBE with retain handling 3", "5", "82 07 0001 00 000161 31"},
	{"SUBSCRIBE whose filter is longer than the packet", "5", "82 07 0001 00 ffff61 01"},
	{"SUBSCRIBE whose properties are longer than the packet", "5", "82 07 0001 7f 000161 01"},
	{"SUBSCRIBE with subscription identifier 0", "5", "82 09 0001 02 0b00 000161 01"},
	{"UNSUBSCRIBE without filters", "4", "a2 02 0001"},
	{"UNSUBSCRIBE with wrong flags", "4", "a0 05 0001 000161"},
	{"UNSUBSCRIBE cut short", "5", "a2 04 0001 00 00"},
	{"PUBLISH with QoS 3", "4", "36 05 000161 0001"},
	{"PUBLISH with DUP and QoS 0", "4", "38 03 000161"},
	{"PUBLISH with packet id 0", "4", "32 05 000161 0000"},
	{"PUBLISH to a wildcard", "4", "30 05 0003 612f23"},
	{"PUBLISH to a wildcard", "5", "32 07 0001 2b 0001 00 78"},
	{"PUBLISH without topic or alias", "5", "30 03 0000 00"},
	{"PUBLISH with an empty topic", "4", "30 02 0000"},
	{"PUBLISH whose topic is not UTF-8", "4", "30 04 0002 c328"},
	{"PUBLISH whose topic is a surrogate", "5", "30 06 0003 eda080 00"},
	{"PUBLISH whose topic has U+0000", "4", "30 05 0003 610062"},
	{"PUBLISH whose topic is longer than the packet", "45", "30 04 00ff 6161"},
	{"PUBLISH with an unknown property", "5", "30 06 000161 02 7f00"},
	{"PUBLISH with a property of CONNACK", "5", "30 07 000161 03 220001"},
	{"PUBLISH with a property twice", "5", "30 0e 000161 0a 0200000001 0200000001"},
	{"PUBLISH with alias 0", "5", "30 07 000161 03 230000"},
	{"PUBLISH with an alias beyond the maximum", "5", "30 07 000161 03 23ffff"},
	{"PUBLISH with an alias that was never set", "5", "30 06 0000 03 230001"},
	{"PUBLISH with properties of four and more length bytes", "5", "30 08 000161 ffffffff7f"},
	{"PUBLISH with a subscription identifier from a client", "5", "30 06 000161 02 0b01"},
	{"PUBLISH with a wildcard as response topic", "5", "30 08 000161 04 08 0001 23"},
	{"remaining length of five bytes", "45", "30 ffffffff7f 000161"},
	{"packet type 0", "45", "00 00"},
	{"packet type 15 in 3.1.1", "4", "f0 00"},
	{"AUTH without a method", "5", "f0 00"},
	{"CONNECT again", "4", "10 0d 00044d515454 04 02 003c 000163"},
	{"CONNACK from a client", "45", "20 02 0000"},
	{"SUBACK from a client", "4", "90 03 0001 00"},
	{"UNSUBACK from a client", "4", "b0 02 0001"},
	{"PINGRESP from a client", "45", "d0 00"},
	{"PINGREQ with a body", "45", "c0 01 00"},
	{"PUBREL with wrong flags", "45", "60 02 0001"},
	{"PUBACK cut short", "45", "40 01 00"},
	{"PUBACK with nothing", "45", "40 00"},
	{"PUBACK with packet id 0", "45", "40 02 0000"},
	{"PUBACK with broken properties", "5", "40 05 0001 00 05 1f"},
	{"DISCONNECT with wrong flags", "45", "e1 00"},
	{"DISCONNECT with a broken property", "5", "e0 03 00 01 ff"},
}

// TestProbeBrokenPacketsEndOneConnection, and no other: a bystander keeps its
// connection and its messages.
func TestProbeBrokenPacketsEndOneConnection(t *testing.T) {
	b := startProbe(t)
	topic := probeName(t, "topic")
	bystander := wire.Open(t, b.Addr, probeLasting(wire.V5, probeName(t, "bystander")))
	bystander.Sub(1, topic, 1)
	publisher := probePublisher(t, b)
	for i, tt := range probeBroken {
		for _, version := range probeVersions {
			if !strings.Contains(tt.versions, fmt.Sprint(version)) {
				continue
			}
			t.Run(fmt.Sprintf("%s v%d", tt.name, version), func(t *testing.T) {
				c := wire.Open(t, b.Addr, wire.Hello{Version: version, Client: fmt.Sprintf("broken-%d-%d", i, version), Clean: true})
				probeBytes(t, c, tt.hex)
				last := c.Closed(wire.Patience)
				if last.Type == wire.Disconnect && (version != wire.V5 || last.Code < 0x80) {
					t.Errorf("%s to a v%d client", last, version)
				}
				publisher.Accepted(uint16(i+1), topic, []byte(tt.name))
				p := bystander.Get(wire.Publish)
				if string(p.Payload) != tt.name {
					t.Fatalf("the bystander got %s", p)
				}
				bystander.Ack(p)
			})
		}
	}
}

// TestProbeBrokenHellosAreRefused, one connection each, while others live on.
func TestProbeBrokenHellosAreRefused(t *testing.T) {
	b := startProbe(t)
	bystander := wire.Open(t, b.Addr, probeLasting(wire.V5, probeName(t, "bystander")))
	for _, tt := range []struct {
		name, hex string
	}{
		{"PUBLISH first", "30 04 000161 78"},
		{"SUBSCRIBE first", "82 09 0001 00 0003612f23 01"},
		{"PINGREQ first", "c0 00"},
		{"HTTP", hex.EncodeToString([]byte("GET / HTTP/1.1\r\nHost: holdline\r\n\r\n"))},
		{"TLS", "16 03 01 00 05 01 00 00 01 00"},
		{"wrong protocol name", "10 0d 00044d515458 04 02 003c 000163"},
		{"protocol level 6", "10 0e 00044d515454 06 02 003c 00 000163"},
		{"reserved flag", "10 0d 00044d515454 04 03 003c 000163"},
		{"will QoS 3", "10 13 00044d515454 04 1e 003c 000163 000177 000162"},
		{"will flags without will", "10 0d 00044d515454 04 0a 003c 000163"},
		{"user flag without user", "10 0d 00044d515454 04 82 003c 000163"},
		{"password without user in 3.1.1", "10 10 00044d515454 04 42 003c 000163 000170"},
		{"client id is not UTF-8", "10 0e 00044d515454 04 02 003c 0002c328"},
		{"client id longer than the packet", "10 0d 00044d515454 04 02 003c 00ff63"},
		{"lasting session without a client id in 3.1.1", "10 0c 00044d515454 04 00 003c 0000"},
		{"Receive Maximum 0", "10 11 00044d515454 05 02 003c 03 210000 000163"},
		{"Maximum Packet Size 0", "10 13 00044d515454 05 02 003c 05 2700000000 000163"},
		{"a property of PUBLISH", "10 11 00044d515454 05 02 003c 03 230001 000163"},
		{"a property twice", "10 14 00044d515454 05 02 003c 06 210001 210001 000163"},
		{"cut short", "10 04 00044d51"},
		{"remaining length of five bytes", "10 ffffffff7f"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := wire.Dialed(t, b.Addr)
			probeBytes(t, c, tt.hex)
			if err := c.Raw.SetReadDeadline(time.Now().Add(wire.Patience)); err != nil {
				t.Fatal(err)
			}
			// In which version a server refuses an unknown one is its own affair.
			answer, err := io.ReadAll(c.Raw)
			if err != nil && !wire.Gone(err) {
				t.Fatalf("the connection was not closed: %v", err)
			}
			if len(answer) > 0 && (len(answer) < 4 || answer[0] != 0x20 || answer[3] == 0) && answer[0] != 0xe0 {
				t.Errorf("answer %x, want a refusing CONNACK, a DISCONNECT or nothing", answer)
			}
			bystander.Alive()
		})
	}
}

// TestProbeASlowHelloIsNotWaitedForForever: a socket that says nothing, or the half of a CONNECT.
func TestProbeASlowHelloIsNotWaitedForForever(t *testing.T) {
	t.Parallel()
	b := startOwn(t) // mosquitto waits for half a minute and more
	silent, half := wire.Dialed(t, b.Addr), wire.Dialed(t, b.Addr)
	probeBytes(t, half, "10 0d 00044d51")
	silent.Closed(20 * time.Second)
	half.Closed(20 * time.Second)
}

// TestProbeMalformedFiltersAreRefused, each alone and beside a good one.
func TestProbeMalformedFiltersAreRefused(t *testing.T) {
	b := startProbe(t)
	for _, version := range probeVersions {
		for _, filter := range []string{"foo#", "foo/#/bar", "#/foo", "foo+", "+foo/bar", "foo/+bar", "foo/b+r", "##", "foo/##", "++", ""} {
			t.Run(fmt.Sprintf("%s v%d", filter, version), func(t *testing.T) {
				h := wire.Hello{Version: version, Client: "filters", Clean: true}
				c := wire.Open(t, b.Addr, h)
				c.Must(wire.Packet{Type: wire.Subscribe, ID: 5, Filters: []wire.Filter{{Topic: "good", Options: 1}, {Topic: filter, Options: 1}}})
				p, err := c.Next(wire.Patience)
				switch {
				case wire.Gone(err):
				case err != nil:
					t.Fatal(err)
				case p.Type == wire.Disconnect && version == wire.V5 && p.Code >= 0x80:
				case p.Type == wire.Suback && len(p.Codes) == 2 && p.Codes[0] < 0x80 && (version == wire.V5 && p.Codes[1] == 0x8f || version == wire.V311 && p.Codes[1] == 0x80):
					c.Alive()
				default:
					t.Errorf("subscribe to %q: %s", filter, p)
				}
			})
		}
	}
}

// TestProbeOversizePacketsAreRefused before they are read into memory.
func TestProbeOversizePacketsAreRefused(t *testing.T) {
	b := startOwn(t)
	for _, version := range probeVersions {
		t.Run(fmt.Sprintf("v%d", version), func(t *testing.T) {
			watcher := b.Service()
			ada := wire.Open(t, b.Addr, b.Customer(version, "ada", "phone"))
			limit := 64 << 10
			if version == wire.V5 {
				if n, ok := ada.Connack.Properties.Num(wire.MaximumPacketSize); !ok || int(n) != limit {
					t.Errorf("CONNACK announces %d, want %d", n, limit)
				}
			}
			// Only the beginning is sent: the length alone says too much.
			probeBytes(t, ada, "32 81 80 80 01 000a 75702f6d657373616765 0001")
			if last := ada.Closed(wire.Patience); version == wire.V5 && last.Code != 0x95 {
				t.Errorf("got %s, want DISCONNECT 0x95", last)
			}
			watcher.Alive()
			watcher.Drop()
		})
	}
}

// probeBytes sends bytes written in hex. That the server has closed already is no fault here.
func probeBytes(t *testing.T, c *wire.Client, h string) {
	t.Helper()
	raw, err := hex.DecodeString(strings.ReplaceAll(h, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Bytes(raw); err != nil && !wire.Gone(err) && !errors.Is(err, wire.ErrSilent) {
		t.Fatal(err)
	}
}
