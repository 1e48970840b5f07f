// Package token says who a client is: it reads and issues the JSON Web Tokens
// that clients give as MQTT password or HTTP bearer.
//
// A token is accepted when its signature is right under one of the configured
// keys, its algorithm is the key's (never what the token claims: `none` and
// mixed-up algorithms are refused), it has not expired, and its claims name a
// valid account. Checking is local: no I/O, no state.
//
// It is the only importer of the JWT library.
package token

import (
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"holdline/chat"
)

// Leeway is how far the issuer's clock may differ from ours.
const Leeway = 60 * time.Second

// MaxBytes bounds a token; a longer one is refused unread.
const MaxBytes = 4096

// MinKeyBytes is the shortest HS256 key that is accepted (RFC 7518 §3.2).
const MinKeyBytes = 32

// ErrExpired is a token that was right once: the client should fetch a new one.
var ErrExpired = fmt.Errorf("%w: token has expired; fetch a new one", chat.ErrForbidden)

// Claims is what a token says.
type Claims struct {
	Account chat.Account
	// Device, when set, is the only client id the token may connect with.
	Device  string
	Name    string // how the account is called; may be empty
	Issued  time.Time
	Expires time.Time
}

// Keys holds what tokens are checked against: our own key, and the host
// application's if one is configured. It is safe for concurrent use.
type Keys struct {
	own     []byte
	host    []byte            // HS256
	hostPub ed25519.PublicKey // EdDSA
}

// NewKeys takes our own HS256 key, which also signs, and the host
// application's HS256 secret and Ed25519 public key, each of which may be nil.
func NewKeys(own, hostSecret []byte, hostKey ed25519.PublicKey) (*Keys, error) {
	var errs []error
	if len(own) < MinKeyBytes {
		errs = append(errs, fmt.Errorf("own token key has %d bytes, at least %d are needed", len(own), MinKeyBytes))
	}
	if hostSecret != nil && len(hostSecret) < MinKeyBytes {
		errs = append(errs, fmt.Errorf("host token secret has %d bytes, at least %d are needed", len(hostSecret), MinKeyBytes))
	}
	if hostKey != nil && len(hostKey) != ed25519.PublicKeySize {
		errs = append(errs, fmt.Errorf("host token key has %d bytes, an Ed25519 public key has %d", len(hostKey), ed25519.PublicKeySize))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return &Keys{own: own, host: hostSecret, hostPub: hostKey}, nil
}

// wire is the JSON of the claims. Subject and the like come from the registered ones.
type wire struct {
	Role   string `json:"role"`
	Tenant string `json:"tenant,omitempty"`
	Device string `json:"device,omitempty"`
	Name   string `json:"name,omitempty"`
	jwt.RegisteredClaims
}

// Issue signs claims with our own key.
func (k *Keys) Issue(c Claims) (string, error) {
	if err := c.Account.Validate(); err != nil {
		return "", err
	}
	w := wire{
		Role: string(c.Account.Role), Device: c.Device, Name: c.Name,
		RegisteredClaims: jwt.RegisteredClaims{
			Subject: c.Account.Subject, IssuedAt: jwt.NewNumericDate(c.Issued), ExpiresAt: jwt.NewNumericDate(c.Expires),
		},
	}
	if c.Account.Tenant != chat.DefaultTenant {
		w.Tenant = string(c.Account.Tenant)
	}
	return jwt.NewWithClaims(jwt.SigningMethodHS256, w).SignedString(k.own)
}

// Verify reads a token. The error wraps chat.ErrForbidden and says what is
// wrong without repeating the token; ErrExpired when it is only too old.
func (k *Keys) Verify(token string, now time.Time) (Claims, error) {
	if token == "" {
		return Claims{}, fmt.Errorf("%w: no token; give it as the password", chat.ErrForbidden)
	}
	if len(token) > MaxBytes {
		return Claims{}, fmt.Errorf("%w: token is longer than %d bytes", chat.ErrForbidden, MaxBytes)
	}
	var w wire
	parser := jwt.NewParser(
		jwt.WithValidMethods([]string{jwt.SigningMethodHS256.Alg(), jwt.SigningMethodEdDSA.Alg()}),
		jwt.WithLeeway(Leeway), jwt.WithExpirationRequired(), jwt.WithIssuedAt(),
		jwt.WithTimeFunc(func() time.Time { return now }),
	)
	_, err := parser.ParseWithClaims(token, &w, k.keysFor)
	switch {
	case errors.Is(err, jwt.ErrTokenExpired):
		return Claims{}, ErrExpired
	case errors.Is(err, jwt.ErrTokenSignatureInvalid), errors.Is(err, jwt.ErrTokenUnverifiable):
		return Claims{}, fmt.Errorf("%w: token is not signed with a key that is known here", chat.ErrForbidden)
	case errors.Is(err, jwt.ErrTokenRequiredClaimMissing):
		return Claims{}, fmt.Errorf("%w: token has no exp claim", chat.ErrForbidden)
	case errors.Is(err, jwt.ErrTokenNotValidYet), errors.Is(err, jwt.ErrTokenUsedBeforeIssued):
		return Claims{}, fmt.Errorf("%w: token is not valid yet; check the issuer's clock", chat.ErrForbidden)
	case err != nil:
		return Claims{}, fmt.Errorf("%w: token cannot be read", chat.ErrForbidden)
	}
	c := Claims{
		Account: chat.Account{Tenant: chat.Tenant(w.Tenant), Role: chat.Role(w.Role), Subject: w.Subject},
		Device:  w.Device, Name: w.Name, Expires: w.ExpiresAt.Time,
	}
	if w.IssuedAt != nil {
		c.Issued = w.IssuedAt.Time
	}
	if c.Account.Tenant == "" {
		c.Account.Tenant = chat.DefaultTenant
	}
	if err := c.Account.Validate(); err != nil {
		return Claims{}, fmt.Errorf("%w: token: %w", chat.ErrForbidden, err)
	}
	return c, nil
}

// keysFor chooses keys by algorithm family: an HMAC key is never used as a
// public key nor the other way round.
func (k *Keys) keysFor(t *jwt.Token) (any, error) {
	switch t.Method.Alg() {
	case jwt.SigningMethodHS256.Alg():
		set := jwt.VerificationKeySet{Keys: []jwt.VerificationKey{k.own}}
		if k.host != nil {
			set.Keys = append(set.Keys, k.host)
		}
		return set, nil
	case jwt.SigningMethodEdDSA.Alg():
		if k.hostPub != nil {
			return k.hostPub, nil
		}
	}
	return nil, errors.New("no key for this algorithm")
}

// MarshalJSON keeps claims out of logs by accident: only who and until when.
func (c Claims) MarshalJSON() ([]byte, error) {
	return json.Marshal(map[string]any{"account": c.Account.String(), "device": c.Device, "expires": c.Expires})
}
