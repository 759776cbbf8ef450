package transport

import (
	"testing"
	"time"
)

// TestBreaker is of one breaker, with a clock that is turned.
func TestBreaker(t *testing.T) {
	type step struct {
		at   int // seconds
		do   string
		want int // seconds to wait
	}
	cases := map[string]struct {
		reason string
		steps  []step
	}{
		"Closed":    {"Everything passes.", []step{{0, "try", 0}, {0, "try", 0}}},
		"Opens":     {"One failure is enough.", []step{{0, "failure", 0}, {0, "wait", 1}, {1, "wait", 0}}},
		"OneTries":  {"The others wait for how it ends.", []step{{0, "failure", 0}, {1, "try", 0}, {1, "try", 1}, {5, "try", 1}}},
		"LookOnly":  {"To look takes no turn.", []step{{0, "failure", 0}, {1, "wait", 0}, {1, "wait", 0}, {1, "try", 0}}},
		"Success":   {"Everything passes again.", []step{{0, "failure", 0}, {1, "try", 0}, {1, "success", 0}, {1, "try", 0}, {1, "try", 0}}},
		"Together":  {"A burst that fails counts once.", []step{{0, "failure", 0}, {0, "failure", 0}, {0, "failure", 0}, {0, "wait", 1}}},
		"Abandoned": {"Who leaves gives the turn back.", []step{{0, "failure", 0}, {1, "try", 0}, {1, "abandoned", 0}, {1, "try", 0}}},
		"Doubles": {"Up to a bound.", []step{
			{0, "failure", 0}, {1, "try", 0}, {1, "failure", 0}, {1, "wait", 2}, {3, "try", 0}, {3, "failure", 0}, {3, "wait", 4},
			{7, "try", 0}, {7, "failure", 0}, {7, "wait", 8}, {15, "try", 0}, {15, "failure", 0}, {15, "wait", 15},
			{30, "try", 0}, {30, "failure", 0}, {30, "wait", 15},
		}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			var b breaker
			for i, s := range tc.steps {
				now, got := time.Unix(int64(s.at), 0), time.Duration(0)
				switch s.do {
				case "try":
					got = b.try(now)
				case "wait":
					got = b.wait(now)
				case "failure":
					b.failure(now)
				case "success":
					b.success()
				case "abandoned":
					b.abandoned()
				}
				if want := time.Duration(s.want) * time.Second; got != want {
					t.Errorf("step %d, %s at %d s: wait %s, want %s: %s", i, s.do, s.at, got, want, tc.reason)
				}
			}
		})
	}
}
