//go:build peers

package main

import (
	"fmt"
	"slices"
	"testing"
)

// BenchmarkGateway is a request for one small pod by all ways to it, and what is under
// way for long. See newStand for what is in force.
func BenchmarkGateway(b *testing.B) {
	s := newStand(b)
	for _, clients := range []int{1, 8, 64} {
		hub := s.hubward()
		report(b, fmt.Sprintf("hub/clients=%d", clients), hub, race(b, clients, hub))
	}
	shared, err := s.startHTTP2()
	if err != nil {
		b.Fatal(err)
	}
	direct := s.straight()
	http2 := &entrant{name: "http2", config: s.at(shared, "proxy.sallyport.dev"), path: pod, pid: s.pid("gateway-http2")}
	if err := s.await(http2); err != nil {
		b.Fatal(err)
	}
	for _, clients := range []int{1, 8, 64} {
		entrants := direct
		if clients > 1 { // one client uses one connection either way
			entrants = slices.Concat(direct, []*entrant{http2})
		}
		report(b, fmt.Sprintf("direct/clients=%d", clients), entrants, race(b, clients, entrants))
	}
	s.streams()
	s.watches()
	s.revocations()
}
