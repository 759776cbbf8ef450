//go:build peers

package main

import (
	"context"
	"fmt"
	"time"

	"k8s.io/client-go/rest"

	"github.com/sallyport-dev/sallyport/test/install"
)

// at is a config of alice's for something that listens on this machine.
func (s *stand) at(port int, group string) *rest.Config {
	config := rest.CopyConfig(s.alice)
	config.Host = fmt.Sprintf("https://localhost:%d%s", port, below(group))
	return config
}

// through the hub, by one of its aggregated APIs.
func (s *stand) through(group string) *rest.Config {
	config := rest.CopyConfig(s.alice)
	config.Host += below(group)
	return config
}

// hubward are those that are reached through the hub, the gateway first.
func (s *stand) hubward() []*entrant {
	return s.beside(map[string]int{"hub": s.pid("hub"), "member": s.pid(only)},
		&entrant{name: "gateway", config: s.through("proxy.sallyport.dev"), path: pod, pid: s.pid("sallyport-gateway")},
		&entrant{name: "floor", config: s.through(floorGroup.Group), path: pod, pid: s.pid("floor")},
		&entrant{name: "karmada", config: s.through("cluster.karmada.io"), path: pod, pid: s.pid("karmada-aggregated-apiserver")},
	)
}

// beside has the processor time of others looked at, too.
func (*stand) beside(others map[string]int, entrants ...*entrant) []*entrant {
	for _, e := range entrants {
		e.beside = others
	}
	return entrants
}

// straight are those that are addressed directly, the gateway first.
func (s *stand) straight() []*entrant {
	member, err := s.fleet.Member(only).User("alice", oncall, "payments", "staff")
	if err != nil {
		s.Fatal(err)
	}
	return s.beside(map[string]int{"member": s.pid(only)},
		&entrant{name: "gateway", config: s.gates.Directly(s.alice, only), path: pod, pid: s.pid("sallyport-gateway")},
		&entrant{name: "floor", config: s.at(s.floor, floorGroup.Group), path: pod, pid: s.pid("floor")},
		&entrant{name: "karmada", config: s.at(s.karmada, "cluster.karmada.io"), path: pod, pid: s.pid("karmada-aggregated-apiserver")},
		&entrant{name: "member", config: member, path: pod, pid: s.pid(only)},
	)
}

func (s *stand) awaitAll() error { return s.await(append(s.hubward(), s.straight()...)...) }

// await an answer of each.
func (s *stand) await(entrants ...*entrant) error {
	for _, e := range entrants {
		c := clientOf(s, e.config)
		defer c.CloseIdleConnections()
		err := install.Until(s.ctx, 2*time.Minute, func(ctx context.Context) string {
			if err := e.once(ctx, c); err != nil {
				return err.Error()
			}
			return ""
		})
		if err != nil {
			return fmt.Errorf("%s: %w", e.config.Host, err)
		}
	}
	return nil
}
