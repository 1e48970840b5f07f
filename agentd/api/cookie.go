package api

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"time"

	"holdline/chat"
	"holdline/storage"
)

// CookieName is the cookie of a signed-in agent.
const CookieName = "holdline_session"

const (
	cookieLife = 12 * time.Hour     // from the last renewal
	signedIn   = 7 * 24 * time.Hour // from the password, however often renewed
)

// ticket is what a cookie says, in the clear but signed.
type ticket struct {
	Tenant  chat.Tenant `json:"t"`
	Agent   string      `json:"a"`
	Since   int64       `json:"s"` // when the password was given, Unix seconds
	Expires int64       `json:"e"`
	// Password identifies the stored hash, so that the cookie ends with the password.
	Password []byte `json:"p"`
}

// baker signs and reads cookies. Its keys serve nothing else.
type baker struct{ sign, password []byte }

func newBaker(secret []byte) baker {
	if len(secret) == 0 {
		secret = make([]byte, 32)
		rand.Read(secret) // never fails
	}
	derive := func(purpose string) []byte {
		k, err := hkdf.Key(sha256.New, secret, nil, purpose, sha256.Size)
		if err != nil {
			panic(err) // only for lengths that SHA-256 cannot give
		}
		return k
	}
	return baker{derive("holdline desk cookie"), derive("holdline desk cookie password")}
}

// bake returns a cookie for an agent whose password was given at since.
func (b baker) bake(c storage.Credential, since, now time.Time) string {
	t := ticket{
		Tenant: c.Agent.Tenant, Agent: c.Agent.ID, Since: since.Unix(),
		Expires: min(now.Add(cookieLife).Unix(), since.Add(signedIn).Unix()), Password: b.mark(c.PasswordHash),
	}
	body, err := json.Marshal(t)
	if err != nil {
		panic(err) // strings and numbers: cannot happen
	}
	return encode(body) + "." + encode(mac(b.sign, body))
}

var errCookie = errors.New("sign in first") // says no more: what is wrong with a cookie helps nobody honest

// read checks signature and time of a cookie. Whether the agent may still
// come in is for fits, with what is stored.
func (b baker) read(cookie string, now time.Time) (ticket, error) {
	body64, mac64, ok := strings.Cut(cookie, ".")
	body, err1 := base64.RawURLEncoding.DecodeString(body64)
	sum, err2 := base64.RawURLEncoding.DecodeString(mac64)
	if !ok || err1 != nil || err2 != nil || !hmac.Equal(sum, mac(b.sign, body)) {
		return ticket{}, errCookie
	}
	var t ticket
	if err := json.Unmarshal(body, &t); err != nil || now.Unix() >= t.Expires {
		return ticket{}, errCookie
	}
	return t, nil
}

// fits reports whether the cookie's agent is enabled and has the password of then.
func (b baker) fits(t ticket, c storage.Credential) bool {
	return !c.Agent.Disabled && subtle.ConstantTimeCompare(t.Password, b.mark(c.PasswordHash)) == 1
}

func (b baker) mark(passwordHash string) []byte { return mac(b.password, []byte(passwordHash))[:16] }

func mac(key, body []byte) []byte {
	h := hmac.New(sha256.New, key)
	h.Write(body)
	return h.Sum(nil)
}

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// setCookie is the header that stores value, or removes the cookie when value is empty.
func (s *server) setCookie(value string) string {
	c := http.Cookie{
		Name: CookieName, Value: value, Path: prefix, MaxAge: int(cookieLife / time.Second),
		HttpOnly: true, Secure: s.Secure, SameSite: http.SameSiteStrictMode,
	}
	if value == "" {
		c.MaxAge = -1
	}
	return c.String()
}
