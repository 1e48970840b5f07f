package token_test

import (
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"holdline/broker/token"
	"holdline/chat"
)

var now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func key(b byte) []byte { return []byte(strings.Repeat(string(b), 32)) }

func TestIssuedTokenIsRead(t *testing.T) {
	k, err := token.NewKeys(key('a'), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := token.Claims{
		Account: chat.Account{Tenant: chat.DefaultTenant, Role: chat.Customer, Subject: "ada"},
		Device:  "phone-1", Name: "Ada", Issued: now, Expires: now.Add(time.Hour),
	}
	s, err := k.Issue(want)
	if err != nil {
		t.Fatal(err)
	}
	got, err := k.Verify(s, now)
	if err != nil {
		t.Fatal(err)
	}
	if got.Account != want.Account || got.Device != want.Device || got.Name != want.Name || !got.Expires.Equal(want.Expires) {
		t.Errorf("Verify = %+v, want %+v", got, want)
	}
	if _, err := k.Verify(s, now.Add(time.Hour+token.Leeway+time.Second)); !errors.Is(err, token.ErrExpired) {
		t.Errorf("an hour later: %v, want ErrExpired", err)
	}
	if _, err := k.Verify(s, now.Add(time.Hour+token.Leeway/2)); err != nil {
		t.Errorf("within the leeway: %v", err)
	}
}

func TestForgedTokensAreRefused(t *testing.T) {
	pub, priv, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	_, otherPriv, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	k, err := token.NewKeys(key('a'), key('h'), pub)
	if err != nil {
		t.Fatal(err)
	}
	claims := func() jwt.MapClaims {
		return jwt.MapClaims{"role": "customer", "sub": "ada", "exp": now.Add(time.Hour).Unix()}
	}
	with := func(name string, v any) jwt.MapClaims {
		c := claims()
		if v == nil {
			delete(c, name)
		} else {
			c[name] = v
		}
		return c
	}
	sign := func(m jwt.SigningMethod, c jwt.Claims, key any) string {
		s, err := jwt.NewWithClaims(m, c).SignedString(key)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	none := sign(jwt.SigningMethodNone, claims(), jwt.UnsafeAllowNoneSignatureType)
	good := sign(jwt.SigningMethodHS256, claims(), key('a'))
	parts := strings.Split(good, ".")
	tampered := parts[0] + "." + base64.RawURLEncoding.EncodeToString([]byte(`{"role":"service","sub":"root","exp":9999999999}`)) + "." + parts[2]

	for _, tt := range []struct {
		name, token string
		ok          bool
	}{
		{"own key", good, true},
		{"host secret", sign(jwt.SigningMethodHS256, claims(), key('h')), true},
		{"host Ed25519 key", sign(jwt.SigningMethodEdDSA, claims(), priv), true},
		{"empty", "", false},
		{"garbage", "not a token", false},
		{"alg none", none, false},
		{"alg none with the signature of another", strings.Split(none, ".")[0] + "." + parts[1] + "." + parts[2], false},
		{"unknown HS256 key", sign(jwt.SigningMethodHS256, claims(), key('x')), false},
		{"unknown Ed25519 key", sign(jwt.SigningMethodEdDSA, claims(), otherPriv), false},
		{"public key used as HMAC secret", sign(jwt.SigningMethodHS256, claims(), []byte(pub)), false},
		{"HS512", sign(jwt.SigningMethodHS512, claims(), key('a')), false},
		{"tampered claims", tampered, false},
		{"no exp", sign(jwt.SigningMethodHS256, with("exp", nil), key('a')), false},
		{"no sub", sign(jwt.SigningMethodHS256, with("sub", nil), key('a')), false},
		{"unknown role", sign(jwt.SigningMethodHS256, with("role", "admin"), key('a')), false},
		{"not yet", sign(jwt.SigningMethodHS256, with("nbf", now.Add(time.Hour).Unix()), key('a')), false},
		{"too long", good + strings.Repeat("x", token.MaxBytes), false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := k.Verify(tt.token, now)
			if tt.ok != (err == nil) {
				t.Fatalf("Verify = %v, want ok %t", err, tt.ok)
			}
			if err != nil && !errors.Is(err, chat.ErrForbidden) {
				t.Errorf("Verify = %v, want chat.ErrForbidden", err)
			}
			if err != nil && len(tt.token) > 20 && strings.Contains(err.Error(), tt.token[:20]) {
				t.Errorf("the error repeats the token: %v", err)
			}
		})
	}
}

func TestShortKeysAreRefused(t *testing.T) {
	_, err := token.NewKeys([]byte("short"), []byte("short"), ed25519.PublicKey("short"))
	if err == nil || strings.Count(err.Error(), "\n") != 2 {
		t.Errorf("NewKeys = %v, want all three faults", err)
	}
}
