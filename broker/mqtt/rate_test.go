package mqtt

import (
	"fmt"
	"net"
	"testing"
	"time"

	"holdline/broker/topics"
	"holdline/chat"
)

var noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

func TestARateHasABurstAndThenItsPace(t *testing.T) {
	r := PerSecond(2, 20)
	var b bucket
	for i := range 20 {
		if wait := b.take(r, noon); wait != 0 {
			t.Fatalf("number %d of the burst has to wait %s", i+1, wait)
		}
	}
	if wait := b.take(r, noon); wait != 500*time.Millisecond {
		t.Errorf("after the burst: wait %s, want 500ms", wait)
	}
	if wait := b.take(r, noon.Add(500*time.Millisecond)); wait != 0 {
		t.Errorf("half a second later: wait %s", wait)
	}
	if wait := b.take(r, noon.Add(time.Second/2)); wait == 0 {
		t.Error("two in the same half second")
	}
	later := noon.Add(time.Hour)
	for i := range 20 {
		if wait := b.take(r, later); wait != 0 {
			t.Fatalf("an hour later, number %d has to wait %s", i+1, wait)
		}
	}
	if wait := b.take(r, later); wait == 0 {
		t.Error("an hour saved up more than a burst")
	}
	if wait := b.take(Rate{}, later); wait != 0 {
		t.Errorf("no rate has to wait %s", wait)
	}
}

func TestRatesAreReadAsTheyAreWritten(t *testing.T) {
	for s, want := range map[string]Rate{"2/20": PerSecond(2, 20), "0.1/1": {10 * time.Second, 1}, "off": {}} {
		if got, err := ParseRate(s); err != nil || got != want {
			t.Errorf("ParseRate(%q) = %v, %v; want %v", s, got, err, want)
		}
	}
	for _, s := range []string{"", "2", "/", "2/", "0/1", "-1/5", "1/0", "NaN/1", "Inf/1", "1e9/1", "2/20/3", "on"} {
		if got, err := ParseRate(s); err == nil {
			t.Errorf("ParseRate(%q) = %v, want an error", s, got)
		}
	}
}

func TestEachKeyHasItsOwnRateAndFewAreRemembered(t *testing.T) {
	k := keyed{rate: PerSecond(1, 1)}
	for key := range uint64(maxBuckets + 1000) {
		if wait := k.take(key, noon); wait != 0 {
			t.Fatalf("key %d has to wait %s for others", key, wait)
		}
	}
	if len(k.m) != maxBuckets {
		t.Errorf("%d are remembered, want %d", len(k.m), maxBuckets)
	}
	if k.take(7, noon) == 0 {
		t.Error("a key's second time was not too early")
	}
	if k.take(maxBuckets+7, noon.Add(2*sweepWhenFull)); len(k.m) != 1 {
		t.Errorf("%d are remembered after all were full again, want 1", len(k.m))
	}
}

func TestAddressesCountOnlyWhatWasRefused(t *testing.T) {
	a := newAdmission(DefaultAdmission())
	at := func(ip string) net.Addr { return &net.TCPAddr{IP: net.ParseIP(ip), Port: 1000} }
	refusedAfter := func(from func(i int) net.Addr) int {
		for i := range 1000 {
			if no, after := a.failed(from(i), noon); no != nil {
				if no.code.Code != 0x9f || no.old != 3 || after < 5*time.Second || after > 30*time.Second {
					t.Errorf("refused with %v, %d, to come back after %s", no.code, no.old, after)
				}
				return i
			}
		}
		return 1000
	}
	if n := refusedAfter(func(int) net.Addr { return at("192.0.2.1") }); n != 200 {
		t.Errorf("an IPv4 address failed %d times, want 200", n)
	}
	if n := refusedAfter(func(int) net.Addr { return at("::ffff:192.0.2.1") }); n != 0 {
		t.Errorf("the same address written as IPv6 failed %d times more", n)
	}
	if n := refusedAfter(func(i int) net.Addr { return at(fmt.Sprintf("2001:db8:0:1::%x", i)) }); n != 20 {
		t.Errorf("an IPv6 network failed %d times, want 20", n)
	}
	if n := refusedAfter(func(i int) net.Addr { return at(fmt.Sprintf("2001:db8:0:%x::1", i+2)) }); n != 1000 {
		t.Errorf("different networks failed %d times, want no limit", n)
	}
	if n := refusedAfter(func(int) net.Addr { return at("127.0.0.1") }); n != 1000 {
		t.Errorf("a proxy on this machine failed %d times, want no limit", n)
	}
	// Two hundred phones behind the address that was refused are let in.
	for i := range 200 {
		who := topics.MountFor(chat.Account{Tenant: chat.DefaultTenant, Role: chat.Customer, Subject: fmt.Sprint("c-", i)}, "phone-1")
		if no, _ := a.let(who, false, noon); no != nil {
			t.Fatalf("phone %d: %v", i, no)
		}
	}
}

func TestASessionThatFlapsStaysWithWhoeverHasIt(t *testing.T) {
	j := jail{allowed: 15, m: map[uint64]*flapping{}}
	now := noon
	flap := func() (times int, wait time.Duration) {
		for times = range 100 {
			if wait = j.takeover(1, now); wait > 0 {
				return times, wait
			}
			now = now.Add(time.Second)
		}
		return 100, 0
	}
	if n, wait := flap(); n != 15 || wait != 30*time.Second {
		t.Errorf("jailed after %d takeovers for %s, want 15 and 30s", n, wait)
	}
	if wait := j.takeover(2, now); wait != 0 {
		t.Error("another session is jailed, too")
	}
	now = now.Add(29 * time.Second)
	if wait := j.takeover(1, now); wait != time.Second {
		t.Errorf("after 29 s: %s more, want 1s", wait)
	}
	now = now.Add(20 * time.Second)
	if n, wait := flap(); n == 0 || wait != time.Minute {
		t.Errorf("then jailed after %d takeovers for %s, want a minute", n, wait)
	}
	for range 10 {
		now = now.Add(20 * time.Minute)
		flap()
	}
	if now = now.Add(20 * time.Minute); len(j.m) == 0 {
		t.Error("the session is not watched")
	}
	if _, wait := flap(); wait != jailTermMax {
		t.Errorf("jailed for %s, want %s at most", wait, jailTermMax)
	}
	now = now.Add(2 * time.Hour)
	if n, wait := flap(); n != 15 || wait != 30*time.Second {
		t.Errorf("after hours in peace: jailed after %d for %s, want 15 and 30s again", n, wait)
	}
	now = now.Add(2 * time.Hour)
	if j.takeover(3, now); len(j.m) != 1 {
		t.Errorf("%d sessions are watched after hours, want the new one", len(j.m))
	}
}

func TestTakeoversThatAreNotManyAreLetThrough(t *testing.T) {
	j := jail{allowed: 15, m: map[uint64]*flapping{}}
	for i := range 200 {
		if wait := j.takeover(1, noon.Add(time.Duration(i)*5*time.Second)); wait > 0 {
			t.Fatalf("takeover %d, every five seconds, has to wait %s", i, wait)
		}
	}
}

// TestABurstThatWasTooEarlyIsSoAsAWhole: otherwise some of it would be taken in
// another order than it was said.
func TestABurstThatWasTooEarlyIsSoAsAWhole(t *testing.T) {
	th := throttle{rate: PerSecond(2, 4)}
	now := noon
	took := func(n int, every time.Duration) (list []bool) {
		for range n {
			list = append(list, th.take(now) == 0)
			now = now.Add(every)
		}
		return list
	}
	if got, want := fmt.Sprint(took(6, 0)), "[true true true true false false]"; got != want {
		t.Errorf("a burst: %s, want %s", got, want)
	}
	now = now.Add(400 * time.Millisecond)
	if got, want := fmt.Sprint(took(4, 300*time.Millisecond)), "[false false false false]"; got != want {
		t.Errorf("the rest of it: %s, want %s", got, want)
	}
	now = now.Add(time.Second)
	if !took(1, 0)[0] {
		t.Error("after a pause it is still too early")
	}
	// Who never pauses goes on when the whole burst is there again.
	th, now = throttle{rate: PerSecond(2, 4)}, noon
	n := 0
	for _, ok := range took(100, 300*time.Millisecond) {
		if ok {
			n++
		}
	}
	if n < 30 || n > 64 {
		t.Errorf("%d of 100 in half a minute were taken, want about 60 at most and not none", n)
	}
}
