package mqtt

import (
	"net"
	"net/netip"

	"holdline/broker"
)

// Describe tells operators about the connection. They see the network it comes
// from, which is enough to find a provider's trouble, and not where somebody lives.
func (c *conn) Describe() broker.Peer {
	p := broker.Peer{Protocol: "3.1.1", Transport: "tcp", Address: network(c.s.RemoteAddr()), Since: c.since}
	if c.version == 5 {
		p.Protocol = "5"
	}
	switch c.s.Conn.(type) {
	case *secure:
		p.Transport = "tls"
	case frames:
		p.Transport = "websocket"
	}
	return p
}

// network is an address without what tells neighbours apart: /24, or /48 of IPv6.
func network(a net.Addr) string {
	ap, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return ""
	}
	ip := ap.Addr().Unmap().WithZone("")
	bits := 24
	if ip.Is6() {
		bits = 48
	}
	prefix, err := ip.Prefix(bits)
	if err != nil {
		return ""
	}
	return prefix.String()
}
