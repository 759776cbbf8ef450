package rego

import (
	"testing"
	"time"

	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
)

func TestDeadlines(t *testing.T) {
	request, grant := &guardrail.Input{Request: &guardrail.RequestInfo{}}, &guardrail.Input{}
	for name, tc := range map[string]struct {
		reason          string
		set             time.Duration
		request, grants time.Duration
	}{
		"Defaults": {"Somebody waits for a request; a grant has time.", 0, RequestDeadline, GrantDeadline},
		"Set":      {"One that is set is for both.", time.Minute, time.Minute, time.Minute},
	} {
		o := Options{Deadline: tc.set}
		if o.deadline(request) != tc.request || o.deadline(grant) != tc.grants {
			t.Errorf("%s: %s Got %v and %v.", name, tc.reason, o.deadline(request), o.deadline(grant))
		}
	}
}
