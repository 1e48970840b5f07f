// Command load measures the broker, and mosquitto in the same run, and prints
// both as one table: `make bench`.
//
// Each figure is the median of runs that take turns (ours, theirs, ours, theirs
// …), each on a fresh broker in a process and a directory of its own, so that what
// else the machine does meets both alike; ratios say more than figures. One generator
// serves both: plain sockets under one epoll loop on one thread, publishes encoded
// beforehand, everything that is ready for a socket in one write. It keeps a ledger of what
// it published and what arrived: a message that is lost, out of order or there
// twice is a fault, is printed, and makes the command fail.
//
// It does not compare promises: mosquitto acknowledges from memory, ours from
// disk. It measures no links but loopback, and nothing but Linux.
package main
