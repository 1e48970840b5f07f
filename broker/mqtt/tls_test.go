package mqtt_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"holdline/broker/mqtt"
	"holdline/test/wire"
)

// certified are the files of a certificate for this machine.
type certified struct {
	mqtt.TLS
	t    *testing.T
	pool *x509.CertPool
}

// certify makes a certificate in files of its own, and room for ticket keys.
func certify(t *testing.T) *certified {
	dir := t.TempDir()
	c := &certified{t: t, pool: x509.NewCertPool()}
	c.TLS = mqtt.TLS{
		Addr: "127.0.0.1:0", CertFile: filepath.Join(dir, "cert.pem"), KeyFile: filepath.Join(dir, "key.pem"),
		TicketFile: filepath.Join(dir, "tickets.key"),
	}
	cert, key := c.issue(1)
	c.write(c.CertFile, cert)
	c.write(c.KeyFile, key)
	return c
}

// issue makes a certificate that clients trust.
func (c *certified) issue(serial int64) (cert, key []byte) {
	c.t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		c.t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "holdline test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &k.PublicKey, k)
	if err != nil {
		c.t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		c.t.Fatal(err)
	}
	cert = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	c.pool.AppendCertsFromPEM(cert)
	return cert, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})
}

func (c *certified) write(file string, content []byte) {
	c.t.Helper()
	if err := os.WriteFile(file+".new", content, 0o600); err != nil {
		c.t.Fatal(err)
	}
	if err := os.Rename(file+".new", file); err != nil {
		c.t.Fatal(err)
	}
}

// client is how a client connects that trusts the certificates made so far.
func (c *certified) client() *tls.Config {
	return &tls.Config{RootCAs: c.pool.Clone(), ServerName: "127.0.0.1"}
}

func (c *certified) serve() *served {
	c.t.Helper()
	return serve(c.t, func(m *mqtt.Config) { m.TLS = c.TLS })
}

// state is the TLS side of a connection made by wire.Secured.
func state(c *wire.Client) tls.ConnectionState { return c.Raw.(*tls.Conn).ConnectionState() }

func TestATLSConnectionIsLikeAnyOther(t *testing.T) {
	c := certify(t)
	s := c.serve()
	config := c.client()
	config.NextProtos = []string{"mqtt"}
	phone := wire.Secured(t, s.TLSAddr().String(), config)
	if st := state(phone); st.NegotiatedProtocol != "mqtt" || st.Version != tls.VersionTLS13 {
		t.Errorf("ALPN %q, version %x; want mqtt and 1.3", st.NegotiatedProtocol, st.Version)
	}
	phone.Welcome(wire.Hello{Client: "phone", Clean: true})
	phone.Sub(1, "room", 1)
	plain := wire.Open(t, s.Addr().String(), wire.Hello{Client: "other", Clean: true})
	large := bytes.Repeat([]byte("x"), 200<<10) // many records
	for id, text := range [][]byte{[]byte("one"), large, []byte("three")} {
		plain.Accepted(uint16(id+1), "room", text)
		p := phone.Get(wire.Publish)
		if !bytes.Equal(p.Payload, text) {
			t.Fatalf("got %s, want message %d", p, id)
		}
		phone.Ack(p)
		phone.Accepted(uint16(id+1), "elsewhere", text)
	}
	phone.Alive()
	if err := phone.Goodbye(); err != nil {
		t.Fatal(err)
	}
	phone.Closed(wire.Patience)
}

func TestAStoppingServerSaysSoOverTLS(t *testing.T) {
	c := certify(t)
	s := c.serve()
	phone := wire.Secured(t, s.TLSAddr().String(), c.client())
	phone.Welcome(wire.Hello{Version: wire.V5, Client: "phone", Clean: true})
	silent := wire.Dialed(t, s.TLSAddr().String()) // has not begun its handshake
	began := time.Now()
	s.end()
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("stopping took %s", took)
	}
	if d := phone.Get(wire.Disconnect); d.Code != 0x8b {
		t.Errorf("%s, want 0x8B", d)
	}
	silent.Closed(wire.Patience)
}

func TestOldTLSNeedsASetting(t *testing.T) {
	c := certify(t)
	config := c.client()
	config.MaxVersion = tls.VersionTLS12
	dial := func(s *served) (uint16, error) {
		conn, err := tls.Dial("tcp", s.TLSAddr().String(), config)
		if err != nil {
			return 0, err
		}
		defer conn.Close()
		return conn.ConnectionState().Version, nil
	}
	strict := c.serve()
	if v, err := dial(strict); err == nil {
		t.Errorf("TLS %x was taken, want 1.3 only", v)
	}
	wire.Eventually(t, "the refused handshake is not counted", func() bool { return strict.engine.Stats().Rejected["tls"] == 1 })
	c.MinVersion = tls.VersionTLS12
	if v, err := dial(c.serve()); err != nil || v != tls.VersionTLS12 {
		t.Errorf("with 1.2 allowed: version %x, %v", v, err)
	}
}

func TestANewCertificateIsUsedWithoutARestart(t *testing.T) {
	c := certify(t)
	s := c.serve()
	old := wire.Secured(t, s.TLSAddr().String(), c.client())
	old.Welcome(wire.Hello{Client: "old", Clean: true})

	// The certificate comes before its key: until both are there, the old one serves.
	cert, key := c.issue(2)
	c.write(c.CertFile, cert)
	serial := func() int64 {
		conn, err := tls.Dial("tcp", s.TLSAddr().String(), c.client())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		return conn.ConnectionState().PeerCertificates[0].SerialNumber.Int64()
	}
	if n := serial(); n != 1 {
		t.Errorf("certificate %d without its key, want 1", n)
	}
	c.write(c.KeyFile, key)
	wire.Eventually(t, "the new certificate is not used", func() bool { return serial() == 2 })
	old.Alive()
}

func TestPhonesResumeAcrossARestart(t *testing.T) {
	c := certify(t)
	config := c.client()
	config.ClientSessionCache = tls.NewLRUClientSessionCache(8)
	connect := func(s *served) bool {
		phone := wire.Secured(t, s.TLSAddr().String(), config)
		phone.Welcome(wire.Hello{Client: "phone", Clean: true}) // reads the ticket, too
		return state(phone).DidResume
	}
	if connect(c.serve()) {
		t.Error("the first connection resumed something")
	}
	if !connect(c.serve()) {
		t.Error("another server with the same ticket keys does not resume")
	}
	if info, err := os.Stat(c.TicketFile); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("ticket keys: %v, %v; want mode 0600", info.Mode(), err)
	}
	c.TicketFile = filepath.Join(t.TempDir(), "others")
	if connect(c.serve()) {
		t.Error("a server with other ticket keys resumes")
	}
}

func TestASilentSocketHoldsUpNoHandshake(t *testing.T) {
	c := certify(t)
	s := c.serve()
	for range 200 { // more than may be computed at once
		wire.Dialed(t, s.TLSAddr().String())
	}
	began := time.Now()
	wire.Secured(t, s.TLSAddr().String(), c.client()).Welcome(wire.Hello{Client: "phone", Clean: true})
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("the handshake took %s behind silent sockets", took)
	}
}

// TestAJammedTLSSocketIsGivenUpAtOnce: TLS itself would say goodbye for five seconds.
func TestAJammedTLSSocketIsGivenUpAtOnce(t *testing.T) {
	c := certify(t)
	s := c.serve()
	hello := probeLasting(wire.V5, "phone")
	jammed := wire.NarrowSecured(t, s.TLSAddr().String(), c.client())
	jammed.Welcome(hello)
	jammed.Sub(1, "room", 1)
	publisher := wire.Open(t, s.Addr().String(), wire.Hello{Client: "publisher", Clean: true})
	const bulk = 1000
	for i := range bulk {
		publisher.Accepted(probeID(i), "room", append([]byte{byte('0' + i%10), ' '}, bytes.Repeat([]byte("."), 8<<10)...))
	}
	again := wire.Secured(t, s.TLSAddr().String(), c.client())
	began := time.Now()
	if !again.Welcome(hello).SessionPresent {
		t.Error("the session is gone")
	}
	connack := time.Since(began)
	wire.Eventually(t, "the jammed connection is still there", func() bool { return s.engine.Stats().Connections == 2 })
	ended := time.Since(began)
	t.Logf("CONNACK after %s, the jammed socket closed after %s", connack, ended)
	if ended > 2*time.Second {
		t.Errorf("the jammed socket was closed after %s", ended)
	}
}
