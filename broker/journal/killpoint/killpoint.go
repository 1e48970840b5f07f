// Package killpoint names the places on a message's way where a crash must
// lose nothing, so that tests can crash exactly there.
//
// In an ordinary build At does nothing and costs nothing. Built with the tag
// `killpoints`, the process kills itself with SIGKILL at the place that
// HOLDLINE_KILL_AT names, "name" or "name:n" for the n-th time it is reached.
package killpoint

// The places, in the order of the way.
const (
	Appended       = "appended"        // written to the journal, not yet synced
	Synced         = "synced"          // durable, not yet acknowledged
	Acknowledged   = "acknowledged"    // PUBACK written
	Committed      = "committed"       // stored, events not yet in the journal
	EventsAppended = "events-appended" // events in the journal, not yet marked
	EventsMarked   = "events-marked"   // events marked as published
	Checkpointed   = "checkpointed"    // a session's cursor written
)
