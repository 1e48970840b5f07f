package wire

import (
	"crypto/tls"
	"testing"
)

// Secured opens the socket and does the TLS handshake.
func Secured(tb testing.TB, addr string, config *tls.Config) *Client {
	tb.Helper()
	conn, err := Dial(tb.Context(), addr)
	return adoptSecured(tb, conn, err, config)
}

// NarrowSecured is Secured with the smallest receive buffer; see DialNarrow.
func NarrowSecured(tb testing.TB, addr string, config *tls.Config) *Client {
	tb.Helper()
	conn, err := DialNarrow(tb.Context(), addr)
	return adoptSecured(tb, conn, err, config)
}

func adoptSecured(tb testing.TB, conn *Conn, err error, config *tls.Config) *Client {
	tb.Helper()
	c := adopt(tb, conn, err)
	t := tls.Client(c.Raw, config)
	if err := t.HandshakeContext(tb.Context()); err != nil {
		tb.Fatalf("TLS: %v", err)
	}
	c.Raw = t
	return c
}
