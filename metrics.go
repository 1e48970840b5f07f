package main

import (
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// metrics serves the figures of every part to Prometheus.
func (p *process) metrics() http.Handler {
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), collector{p})
	return promhttp.HandlerFor(r, promhttp.HandlerOpts{})
}

// collector reads the parts' Stats when it is asked; nothing is counted twice.
type collector struct{ *process }

// Describe sends nothing: labels such as reasons are known only when they occur.
func (collector) Describe(chan<- *prometheus.Desc) {}

// Collect reads every part once.
func (c collector) Collect(out chan<- prometheus.Metric) {
	send := func(kind prometheus.ValueType, name, help string, v float64, labels ...string) {
		var names, values []string
		for i := 0; i < len(labels); i += 2 {
			names, values = append(names, labels[i]), append(values, labels[i+1])
		}
		out <- prometheus.MustNewConstMetric(prometheus.NewDesc("holdline_"+name, help, names, nil), kind, v, values...)
	}
	counter := func(name, help string, v uint64, labels ...string) {
		send(prometheus.CounterValue, name+"_total", help, float64(v), labels...)
	}
	gauge := func(name, help string, v float64, labels ...string) {
		send(prometheus.GaugeValue, name, help, v, labels...)
	}

	b := c.broker.Stats()
	gauge("connections", "Open connections.", float64(b.Connections))
	gauge("sessions_online", "Sessions that are connected.", float64(b.Online))
	gauge("sessions", "Sessions that are known, connected or not.", float64(b.Sessions))
	gauge("sessions_replaying", "Connected sessions that read what they missed.", float64(b.Replaying))
	counter("accepted_connections", "Connections accepted.", b.Accepted)
	counter("turned_away", "Connections turned away because there were too many.", b.Turned)
	counter("received", "Publishes received from clients.", b.Received)
	counter("acknowledged", "Publishes answered.", b.Acked)
	counter("delivered", "Messages handed to connections.", b.Delivered)
	counter("confirmed", "Deliveries that clients acknowledged.", b.Confirmed)
	counter("skipped", "Deliveries left out: expired, or too large for the client.", b.Skipped)
	counter("qos0_dropped", "QoS 0 messages for clients that did not keep up.", b.DroppedQoS0)
	counter("qos1_dropped", "QoS 1 messages dropped: must stay 0.", b.QoS1Drops)
	counter("throttled", "Publishes that came faster than their role's rate.", b.Throttled)
	counter("takeovers", "Sessions taken over by a new connection.", b.Takeovers)
	counter("panics", "Connections that ended in a panic.", b.Panics)
	for reason, n := range b.Refused {
		counter("refused", "Publishes refused for good, by reason.", n, "reason", reason)
	}
	for reason, n := range b.Rejected {
		counter("rejected_connections", "Connections refused, by reason.", n, "reason", reason)
	}

	j := c.journal.Stats()
	counter("journal_entries", "Entries appended to the journal.", j.Entries)
	counter("journal_bytes", "Bytes appended to the journal.", j.Bytes)
	counter("journal_syncs", "Syncs of the journal.", j.Syncs)
	counter("journal_engine_reads", "Reads that the memory ring could not serve.", j.EngineReads)
	gauge("journal_waiting", "Submissions that are not yet durable.", float64(j.Waiting))
	gauge("journal_tail", "The newest durable entry.", float64(j.Tail.Seq))
	gauge("journal_oldest", "The oldest entry kept.", float64(j.Oldest))
	gauge("journal_free_bytes", "Free space where the journal lies.", float64(j.FreeBytes))

	g := c.bridge.Stats()
	counter("bridge_entries", "Journal entries stored.", g.Entries)
	counter("bridge_transactions", "Transactions they were stored in.", g.Groups)
	counter("bridge_duplicates", "Things said before, with the same content.", g.Duplicates)
	counter("bridge_poison", "Entries that could not be stored.", g.Poison)
	counter("bridge_events_published", "Events appended to inboxes.", g.Published)
	for reason, n := range g.Refused {
		counter("bridge_refused", "Input refused, by reason.", n, "reason", string(reason))
	}
	var lag uint64
	for partition, n := range g.Lag {
		gauge("bridge_lag_entries", "How far a partition is behind the journal.", float64(n), "partition", strconv.Itoa(partition))
		lag = max(lag, n)
	}
	gauge("bridge_lag_max_entries", "How far the slowest partition is behind the journal.", float64(lag))
	gauge("bridge_input_leases", "Partitions this process stores.", float64(g.InputLeases))
	gauge("bridge_publish_leases", "Partitions this process publishes.", float64(g.PublishLeases))

	a := c.agentd.Stats()
	counter("assigned", "Conversations given to an agent.", a.Assigned)
	counter("requeued", "Conversations given back to the queue.", a.Requeued)
	counter("routing_failures", "Rounds of routing that ended with an error.", a.Failures)
	wait := 0.0
	if !a.Oldest.IsZero() {
		wait = time.Since(a.Oldest).Seconds()
	}
	gauge("queue_oldest_seconds", "How long the first of the queue waits.", wait)
}
