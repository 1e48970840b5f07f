// Package wire is a raw MQTT 3.1.1 and 5 client for tests, with a codec of its
// own, so that what it says of a broker owes nothing to the libraries that the
// broker is built on.
//
// It does nothing by itself: no goroutine, no acknowledgement, no ping, no
// reconnect. The test decides about every packet, and so it can also misbehave: send
// any bytes, choose packet ids, acknowledge late, out of order or never, read nothing,
// vanish without a word. What the server sends is checked strictly against the
// standard; a server that breaks it is an error of Next that cites the clause.
//
// It is no client for production: it retries nothing and knows no outbox.
package wire
