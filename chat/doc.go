// Package chat holds the words of customer support and every rule that needs
// no I/O: what a message is, how a conversation lives, who may do what, whose
// turn it is.
//
// Everything here is a plain value or a function of plain values. Time is
// passed in and is UTC; randomness is passed in; nothing blocks. The stages
// (broker, bridge, agentd) and the storage engines all speak these types, so
// the same rule cannot exist twice.
//
// It imports the standard library only, keeps no state and does not know
// MQTT, SQL or HTTP.
package chat
