package agentd

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/crypto/argon2"

	"holdline/chat"
)

// The cost of a password hash: about 60 ms and 19 MiB (OWASP's second choice
// for argon2id). Hashes carry their own parameters, so these may grow.
const (
	hashPasses     = 2
	hashMemoryKiB  = 19 << 10
	hashThreads    = 1
	hashSaltBytes  = 16
	hashBytes      = 32
	maxMemoryKiB   = 256 << 10 // of a stored hash: a damaged row must not take the machine
	maxHashPasses  = 16
	maxHashThreads = 16
)

// The bounds of a password. There are no rules about kinds of characters:
// length is what counts.
const (
	MinPasswordRunes = 8
	MaxPasswordBytes = 256
)

// HashPassword makes the string that is stored, in PHC format:
// $argon2id$v=19$m=19456,t=2,p=1$salt$hash. It takes its time on purpose.
func HashPassword(password string) string {
	salt := make([]byte, hashSaltBytes)
	rand.Read(salt) // never fails
	h := phc{passes: hashPasses, memory: hashMemoryKiB, threads: hashThreads, salt: salt}
	h.hash = h.derive(password, hashBytes)
	return h.String()
}

// VerifyPassword reports whether the password is the one of the hash, in a
// time that does not depend on where they differ. outdated says that the hash was
// made at another cost than HashPassword's: it is still good, and goes away
// with the next change of the password (sign-in does not rewrite it, because
// that could undo a change made at the same moment). The error wraps
// chat.ErrInvalid when the hash is not one of ours.
func VerifyPassword(hash, password string) (ok, outdated bool, err error) {
	h, err := parsePHC(hash)
	if err != nil {
		return false, false, err
	}
	if len(password) > MaxPasswordBytes {
		return false, false, nil
	}
	ok = subtle.ConstantTimeCompare(h.derive(password, uint32(len(h.hash))), h.hash) == 1
	return ok, h.passes != hashPasses || h.memory != hashMemoryKiB || h.threads != hashThreads || len(h.hash) != hashBytes, nil
}

// phc is a parsed hash.
type phc struct {
	passes, memory uint32
	threads        uint8
	salt, hash     []byte
}

func (h phc) derive(password string, n uint32) []byte {
	return argon2.IDKey([]byte(password), h.salt, h.passes, h.memory, h.threads, n)
}

func (h phc) String() string {
	b64 := base64.RawStdEncoding
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s",
		argon2.Version, h.memory, h.passes, h.threads, b64.EncodeToString(h.salt), b64.EncodeToString(h.hash))
}

func parsePHC(s string) (phc, error) {
	bad := fmt.Errorf("%w: stored password hash cannot be read; set the password again", chat.ErrInvalid)
	part := strings.Split(s, "$")
	if len(part) != 6 || part[0] != "" || part[1] != "argon2id" || part[2] != "v="+strconv.Itoa(argon2.Version) {
		return phc{}, bad
	}
	var n [3]uint64
	cost := strings.Split(part[3], ",")
	if len(cost) != len(n) {
		return phc{}, bad
	}
	for i, name := range []string{"m=", "t=", "p="} {
		v, ok := strings.CutPrefix(cost[i], name)
		var err error
		if n[i], err = strconv.ParseUint(v, 10, 32); !ok || err != nil {
			return phc{}, bad
		}
	}
	salt, err1 := base64.RawStdEncoding.DecodeString(part[4])
	hash, err2 := base64.RawStdEncoding.DecodeString(part[5])
	switch {
	case err1 != nil, err2 != nil, len(salt) < 8, len(salt) > 64, len(hash) < 16, len(hash) > 64:
		return phc{}, bad
	case n[0] < 8*n[2], n[0] > maxMemoryKiB, n[1] < 1, n[1] > maxHashPasses, n[2] < 1, n[2] > maxHashThreads:
		return phc{}, bad
	}
	return phc{passes: uint32(n[1]), memory: uint32(n[0]), threads: uint8(n[2]), salt: salt, hash: hash}, nil
}

// CheckPassword returns an error that wraps chat.ErrInvalid and names
// everything that is wrong with a password someone chose.
func CheckPassword(password string) error {
	var faults []error
	fault := func(format string, a ...any) {
		faults = append(faults, fmt.Errorf("%w: password "+format, append([]any{chat.ErrInvalid}, a...)...))
	}
	if !utf8.ValidString(password) || strings.ContainsFunc(password, unicode.IsControl) {
		fault("contains a control character or is not UTF-8")
	}
	if utf8.RuneCountInString(password) < MinPasswordRunes {
		fault("is shorter than %d characters", MinPasswordRunes)
	}
	if len(password) > MaxPasswordBytes {
		fault("is longer than %d bytes", MaxPasswordBytes)
	}
	return errors.Join(faults...)
}

// NewPassword makes a password of 100 random bits that can be read out aloud:
// four groups of five letters and digits.
func NewPassword() string {
	s := strings.ToLower(rand.Text())
	return s[0:5] + "-" + s[5:10] + "-" + s[10:15] + "-" + s[15:20]
}
