package mqtt

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"math/big"
	"net"
	"testing"
	"time"
)

// TestClosingTLSDoesNotWaitForThePeer: TLS's own Close says goodbye first, for
// five seconds when nobody reads.
func TestClosingTLSDoesNotWaitForThePeer(t *testing.T) {
	public, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, public, key)
	if err != nil {
		t.Fatal(err)
	}
	s := &secured{slots: make(chan struct{}, 1), log: slog.New(slog.DiscardHandler)}
	s.config = &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}},
		GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			return nil, hello.Conn.(*shaking).begin(hello.Context())
		},
	}
	ours, theirs := net.Pipe() // nothing is buffered: who does not read jams it
	defer theirs.Close()
	client := tls.Client(theirs, &tls.Config{InsecureSkipVerify: true})
	greeted := make(chan error, 1)
	go func() {
		_, err := client.Write([]byte("hello")) // with the handshake before it
		greeted <- err
	}()
	end := s.wrap(ours)
	if _, err := end.Read(make([]byte, 5)); err != nil {
		t.Fatal(err)
	}
	if err := <-greeted; err != nil {
		t.Fatal(err)
	}
	if len(s.slots) != 0 {
		t.Error("the handshake is over and holds its turn")
	}
	began := time.Now()
	if err := end.Close(); err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took > time.Second {
		t.Errorf("Close took %s", took)
	}
}
