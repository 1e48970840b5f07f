// Package client is the reference phone: how a program on a bad link speaks to
// Holdline without losing or doubling anything. The terminal phone, the tests
// and the simulator use it; what it does is what docs/write-your-own-client.md
// tells authors of other clients to do.
//
// Send writes a message to an outbox on disk and returns. Run connects, sends
// the outbox in order with a small window, and sends again after every cut until
// the server has told, by the message's own event, that it is stored. Events
// arrive at the callback in the order of their numbers, each once; the position
// is on disk before the event is acknowledged, and a gap is closed by asking
// for what was missed. Everything else is timing: back-off with jitter, a timer
// for acknowledgements that do not come, a fresh token when the old one is refused.
//
// The library underneath is paho.golang: its Client runs one connection (CONNECT,
// SUBSCRIBE, reading, DISCONNECT). The session state is ours, because paho
// forgets unacknowledged publishes when the server forgot the session, and
// because only the outbox knows what was already stored. Packet ids come from
// the place in the outbox, so a resend carries its original id even after
// a restart of the process [MQTT-4.4.0-1].
//
// It does not keep events, does not know what a conversation looks like on a
// screen, and does not speak MQTT over WebSocket.
package client
