package grant

import (
	"errors"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/sallyport-dev/sallyport/internal/core/compile"
)

func TestNext(t *testing.T) {
	now := time.Date(2030, 1, 1, 12, 0, 0, 0, time.UTC)
	behind := apierrors.NewConflict(schema.GroupResource{Resource: "clusterroles"}, "x", errors.New("changed"))
	cases := map[string]struct {
		reason   string
		next     time.Duration // until a validity begins or ends; 0 for never
		failed   int           // passes that failed before
		errs     []error
		revoking bool
		want     time.Duration
	}{
		"Nothing":     {reason: "Events tell of everything else.", want: 0},
		"Expiry":      {reason: "A grant ends when it says.", next: 5 * time.Second, want: 5 * time.Second},
		"Due":         {reason: "What is due is done at once.", next: -time.Second, want: time.Millisecond},
		"Failure":     {reason: "What failed is tried again soon.", errs: []error{errors.New("no")}, want: 200 * time.Millisecond},
		"Failures":    {reason: "What keeps failing is tried less often.", failed: 20, errs: []error{errors.New("no")}, want: 30 * time.Second},
		"NotDelayed":  {reason: "What keeps failing does not keep another grant from ending when it says.", failed: 20, errs: []error{errors.New("no")}, next: 5 * time.Second, want: 5 * time.Second},
		"CacheBehind": {reason: "A conflict is no failure, and the next pass does it.", errs: []error{behind}, want: 100 * time.Millisecond},
		"Revoking":    {reason: "After the grace, what lingers is called residual.", revoking: true, want: 31 * time.Second},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			r := &Reconciler{Now: func() time.Time { return now }, failed: c.failed}
			p := plan{}
			if c.next != 0 {
				p.output = compile.Output{Next: now.Add(c.next)}
			}
			got, err := r.next(t.Context(), &observation{now: now}, p, c.revoking, c.errs)
			if err != nil || got.RequeueAfter != c.want {
				t.Errorf("%s\ngot %s, %v; want %s", c.reason, got.RequeueAfter, err, c.want)
			}
		})
	}
}
