// Package test proves the whole system from outside: it builds the real program,
// starts it, talks to it as phones, desks and operators do, kills it, cuts its
// links, and looks at what is left.
//
// A Server is the program on a data directory. A Phone and a Desk are
// clients that keep a record of everything they were told: what was
// acknowledged, what arrived, in which order. Every scenario ends with one
// check of those records against the server and against each other: nothing acknowledged is
// lost, nothing is doubled, one order for everybody, one owner. Phones and desks are written
// on package wire, not on our own client library: a mistake cannot hide in both.
//
// `go test -short` does less of everything and HOLDLINE_LONG=1 more; single
// amounts are set by HOLDLINE_KILLS, HOLDLINE_PHONES, HOLDLINE_STORM_SECONDS,
// HOLDLINE_ROUNDS and HOLDLINE_OFFLINE. In CI (CI set) a missing mosquitto or Postgres is
// a failure, else those tests are skipped.
//
// It measures no throughput, and it reads no state that a client could not see, but
// for the memory of the process.
package test
