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
