package broker

import (
	"context"
	"sync"

	"holdline/broker/journal"
	"holdline/broker/topics"
)

// follow routes one batch of the journal to the live sessions. The journal
// calls it, in order, after every acknowledgement of the batch was decided.
//
// routing is set before the first look into the index, so that a pump which
// finds its place past it knows that nothing before was missed; routed after the last
// offer.
func (b *Broker) follow(batch []*journal.Entry) {
	last := batch[len(batch)-1].Seq
	b.retained.follow(batch)
	b.routing.Store(last)
	for _, e := range batch {
		if e.Refused != nil {
			continue // a note for the bridge, not a publish
		}
		var m *Message
		found := b.index.match(e.Topic, &b.finding)
		for _, to := range found {
			if m == nil {
				m = messageOf(e).Share(len(found))
			}
			if to.session.offer(m, to.sub) {
				b.wakeLater(to.session.link)
			}
		}
	}
	b.routed.Store(last)
	b.wakeNow()
}

// wakes are the links that something is ready for since the batch began:
// acknowledgements and deliveries of one batch leave in one write.
type wakes struct {
	mu    sync.Mutex
	links []Link
	spare []Link
}

func (b *Broker) wakeLater(l Link) {
	b.wakes.mu.Lock()
	b.wakes.links = append(b.wakes.links, l)
	b.wakes.mu.Unlock()
}

func (b *Broker) wakeNow() {
	w := &b.wakes
	w.mu.Lock()
	links := w.links
	w.links, w.spare = w.spare[:0], nil
	w.mu.Unlock()
	for _, l := range links {
		l.Wake()
	}
	clear(links)
	w.mu.Lock()
	w.spare = links[:0]
	w.mu.Unlock()
}

var finds = sync.Pool{New: func() any { return new(find) }}

// scatter hands a message that is not in the journal to whoever is there.
func (b *Broker) scatter(m *Message) {
	f := finds.Get().(*find)
	defer finds.Put(f)
	found := b.index.match(m.Topic, f)
	m.Share(len(found))
	for _, to := range found {
		if to.session.toss(m, to.sub) {
			to.session.link.Wake()
		}
	}
	clear(found)
}

// heard takes an announcement: a reply, or a word between the parts that no
// session is subscribed to.
func (b *Broker) heard(a journal.Announcement) {
	if a.Topic == topics.Revoked() {
		b.revoke(a.Payload)
		return
	}
	b.scatter(&Message{Topic: a.Topic, Payload: a.Payload, Properties: a.Properties})
}

const (
	// pumpWorkers read the journal for sessions that are behind.
	pumpWorkers = 16
	// pageEntries bounds what one session reads before it is the next one's turn.
	pageEntries = 256
)

// pumps are the sessions that are behind and have room. Each is in the queue
// at most once, so the queue is as long as there are connections at most.
type pumps struct {
	mu    sync.Mutex
	queue []*Session
	head  int
	wake  chan struct{} // holds one for each worker
}

func (p *pumps) add(s *Session) {
	p.mu.Lock()
	if p.head > len(p.queue)/2 {
		n := copy(p.queue, p.queue[p.head:])
		clear(p.queue[n:])
		p.queue, p.head = p.queue[:n], 0
	}
	p.queue = append(p.queue, s)
	p.mu.Unlock()
	select {
	case p.wake <- struct{}{}:
	default: // every worker has been told already
	}
}

func (p *pumps) next() *Session {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.head == len(p.queue) {
		p.queue, p.head = p.queue[:0], 0
		return nil
	}
	s := p.queue[p.head]
	p.queue[p.head] = nil
	p.head++
	return s
}

// work pumps until ctx ends. Sessions take turns, a page each.
func (p *pumps) work(ctx context.Context) {
	for {
		select {
		case <-p.wake:
		case <-ctx.Done():
			return
		}
		for s := p.next(); s != nil; s = p.next() {
			if s.pump(ctx) {
				p.add(s)
			}
			if ctx.Err() != nil {
				return
			}
		}
	}
}
