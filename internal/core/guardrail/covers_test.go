package guardrail

import (
	"testing"
	"time"
)

func TestCovers(t *testing.T) {
	a, b := &Guardrail{Name: "a", Digest: "1"}, &Guardrail{Name: "b", Digest: "1"}
	changed := &Guardrail{Name: "a", Digest: "2"}
	e := Exception{Namespace: "team", Name: "e", Guardrail: "a", Grant: "g", NotAfter: time.Unix(1, 0)}
	longer := e
	longer.NotAfter = time.Unix(2, 0)
	set := func(o Options, excused []Exception, guardrails ...*Guardrail) *Set {
		return NewSet(guardrails, excused, o)
	}
	var none Options
	cases := map[string]struct {
		reason string
		s, o   *Set
		want   bool
	}{
		"Same":           {"The same policy.", set(none, []Exception{e}, a), set(none, []Exception{e}, a), true},
		"More":           {"One guardrail more.", set(none, nil, a, b), set(none, nil, a), true},
		"Fewer":          {"One guardrail fewer.", set(none, nil, a), set(none, nil, a, b), false},
		"Changed":        {"A guardrail that was changed may allow what it refused.", set(none, nil, changed), set(none, nil, a), false},
		"Excused":        {"One exception more.", set(none, []Exception{e}, a), set(none, nil, a), false},
		"ExcusedLonger":  {"An exception that is longer.", set(none, []Exception{longer}, a), set(none, []Exception{e}, a), false},
		"NotExcused":     {"One exception fewer.", set(none, nil, a), set(none, []Exception{e}, a), true},
		"CeilingAsked":   {"A ceiling is required.", set(Options{RequireCeiling: true}, nil), set(none, nil), true},
		"CeilingUnasked": {"It is not any more.", set(none, nil), set(Options{RequireCeiling: true}, nil), false},
		"Unknown":        {"What is not known denies.", nil, set(none, nil, a), true},
		"WasUnknown":     {"What is known may allow what was denied for want of it.", set(none, nil, a), nil, false},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			if got := tc.s.Covers(tc.o); got != tc.want {
				t.Errorf("%s Got %t.", tc.reason, got)
			}
			if both := Together(tc.s, tc.o); !both.Covers(tc.s) || !both.Covers(tc.o) {
				t.Error("both together allow what one refuses")
			}
		})
	}
}

func TestTogetherOfOne(t *testing.T) {
	s := NewSet([]*Guardrail{{Name: "a", Digest: "1"}}, []Exception{{Namespace: "team", Name: "e", Guardrail: "a", Grant: "g"}}, Options{RequireCeiling: true})
	if Together(s, s).Digest() != s.Digest() {
		t.Error("a set with itself is another policy")
	}
}
