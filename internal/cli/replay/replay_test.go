package replay

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/internal/core/compile"
	"github.com/sallyport-dev/sallyport/internal/core/effective"
	"github.com/sallyport-dev/sallyport/internal/core/fleet"
	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
	"github.com/sallyport-dev/sallyport/internal/core/subject"
	"github.com/sallyport-dev/sallyport/internal/decisionlog"
)

var t0 = time.Date(2026, 1, 5, 10, 0, 0, 0, time.UTC)

func TestCompare(t *testing.T) {
	grants := func(names ...string) (out []decisionlog.Grant) {
		for i, n := range names {
			out = append(out, decisionlog.Grant{Namespace: "payments", Name: n, Rule: i, Revision: n})
		}
		return out
	}
	deny := decisionlog.Reason{Guardrail: "g", Enforcement: "Deny", Message: "m"}
	warn := decisionlog.Reason{Guardrail: "w", Enforcement: "Warn", Message: "m"}
	failed := decisionlog.Reason{Guardrail: "g", Enforcement: "Deny", Message: "m", Failed: true, Detail: "after 100ms"}
	failedAgain := failed
	failedAgain.Detail = "after 101ms"
	type entry = decisionlog.Entry
	for name, tc := range map[string]struct {
		reason   string
		was, now entry
		want     string // what, and the verdict then
		because  string
	}{
		"Same": {
			reason: "The order, the rule and the commit are no difference.",
			was:    entry{Verdict: "allow", Grants: grants("a", "b"), Reasons: []decisionlog.Reason{warn, deny}},
			now:    entry{Verdict: "allow", Grants: grants("b", "a"), Reasons: []decisionlog.Reason{deny, warn}},
		},
		"Revoked": {
			was: entry{Verdict: "allow", Grants: grants("a")}, now: entry{Verdict: "deny", Layer: "grant"},
			want: "verdict deny (grant)", because: "no active grant gives it",
		},
		"Given": {
			was: entry{Verdict: "deny", Layer: "grant"}, now: entry{Verdict: "allow", Grants: grants("b", "a")},
			want: "verdict allow", because: "given by payments/a, payments/b",
		},
		"Refused": {
			was: entry{Verdict: "deny", Layer: "grant"}, now: entry{Verdict: "deny", Layer: "guardrail", Reasons: []decisionlog.Reason{warn, deny}},
			want: "verdict deny (guardrail)", because: `guardrail "g": m`,
		},
		"Identity": {
			was: entry{Verdict: "deny", Layer: "grant"}, now: entry{Verdict: "deny", Layer: "identity"},
			want: "verdict deny (identity)", because: "the user has no name, or a group without one",
		},
		"Lenient": {
			reason: "A server that needs no grant lets it through all the same.",
			was:    entry{Verdict: "allow"}, now: entry{Verdict: "deny", Layer: "grant"},
		},
		"LenientRefused": {
			was: entry{Verdict: "allow"}, now: entry{Verdict: "deny", Layer: "guardrail", Reasons: []decisionlog.Reason{deny}},
			want: "verdict deny (guardrail)", because: `guardrail "g": m`,
		},
		"LenientGiven": {
			was: entry{Verdict: "allow"}, now: entry{Verdict: "allow", Grants: grants("a")},
			want: "grants allow", because: "new: grant payments/a",
		},
		"NoOpinion": {
			reason: "What a webhook answers of what is granted is its own affair.",
			was:    entry{Verdict: "no-opinion", Grants: grants("a")}, now: entry{Verdict: "allow", Grants: grants("a")},
		},
		"Reasons": {
			was: entry{Verdict: "allow", Grants: grants("a"), Reasons: []decisionlog.Reason{warn}}, now: entry{Verdict: "allow", Grants: grants("a")},
			want: "reasons allow", because: `no more: guardrail "w": m (Warn)`,
		},
		"Details": {
			reason: "Why one could not be evaluated may be another each time.",
			was:    entry{Verdict: "deny", Layer: "guardrail", Reasons: []decisionlog.Reason{failed}}, now: entry{Verdict: "deny", Layer: "guardrail", Reasons: []decisionlog.Reason{failedAgain}},
		},
		"Repaired": {
			was: entry{Verdict: "deny", Layer: "guardrail", Reasons: []decisionlog.Reason{failed}}, now: entry{Verdict: "deny", Layer: "guardrail", Reasons: []decisionlog.Reason{deny}},
			want: "reasons deny (guardrail)", because: `no more: guardrail "g": m; new: guardrail "g": m`,
		},
	} {
		d := compare(&tc.was, &tc.now)
		got, because := "", ""
		if d != nil {
			got, because = d.What+" "+d.Now.String(), d.Because
		}
		if got != tc.want || because != tc.because {
			t.Errorf("%s: %q because %q. %s", name, got, because, tc.reason)
		}
	}
}

// TestTimeline: at every instant the index is that of the instant, in whatever order
// they come, and few are made where they nearly come in order.
func TestTimeline(t *testing.T) {
	var grants []compile.Grant
	for i := range 10 { // one after the other, each for an hour
		from, to := metav1.NewTime(t0.Add(time.Duration(i)*time.Hour)), metav1.NewTime(t0.Add(time.Duration(i+1)*time.Hour))
		grants = append(grants, compile.Grant{Namespace: "a", Name: fmt.Sprint(i), Spec: &v1alpha1.AccessGrantSpec{
			Reason: "x", Subjects: []v1alpha1.Subject{{Kind: "User", Name: "ann"}}, Clusters: v1alpha1.ClusterSelection{Names: []v1alpha1.ClusterName{"c"}},
			Access:   []v1alpha1.AccessEntry{{Rules: []v1alpha1.PolicyRule{{APIGroups: []string{""}, Resources: []string{"pods"}, Verbs: []string{"get"}}}}},
			Validity: &v1alpha1.Validity{NotBefore: &from, NotAfter: &to},
		}})
	}
	tl := &timeline{snapshot: compile.Snapshot{
		Grants: grants, Fleet: fleet.New([]fleet.Member{{Name: "c", Accepted: true, Delivery: fleet.Direct, Paths: subject.Gateway}}),
		Guardrails: guardrail.NewSet(nil, nil, guardrail.Options{}), Point: guardrail.Compile,
	}}
	check := func(at time.Time, want string) {
		t.Helper()
		q := &effective.Request{User: guardrail.User{Name: "ann"}, Cluster: "c", Verb: "get", ResourceRequest: true, Resource: "pods", At: at}
		got := ""
		d := tl.index(at).Decide(q)
		for _, b := range d.Because {
			got += b.Grant.Name
		}
		if got != want {
			t.Errorf("%s: given by %q, not by %q", at, got, want)
		}
	}
	made := map[*effective.Index]bool{}
	for minute := range 600 {
		for _, late := range []time.Duration{0, -3 * time.Millisecond, 2 * time.Millisecond} {
			at := t0.Add(time.Duration(minute)*time.Minute + late)
			want := ""
			if !at.Before(t0) {
				want = fmt.Sprint(int(at.Sub(t0) / time.Hour))
			}
			check(at, want)
			made[tl.index(at)] = true
		}
	}
	if len(made) > 21 {
		t.Errorf("%d indexes were made for 10 hours", len(made))
	}
	check(t0.Add(10*time.Hour), "")
	check(t0.Add(30*time.Minute), "0")
	check(t0.Add(-time.Hour), "")
	check(t0.Add(5*time.Hour), "5")
}

// TestReadLine: whatever is in a file, it is read line by line and in bounded memory.
func TestReadLine(t *testing.T) {
	long := strings.Repeat("x", maxLine)
	in := bufio.NewReader(strings.NewReader("a\r\n\n" + long + "\n" + long + "y\nb\n" + long + "y"))
	var got []string
	for {
		line, err := readLine(in)
		if errors.Is(err, io.EOF) {
			break
		}
		switch {
		case err != nil:
			got = append(got, err.Error())
		case len(line) > 10:
			got = append(got, fmt.Sprint(len(line)))
		default:
			got = append(got, string(line))
		}
	}
	want := []string{"a", "", errLong.Error(), errLong.Error(), "b", errLong.Error()}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// broken is a pipe that nobody reads.
type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, errors.New("broken pipe") }

// TestNobodyListens: a difference that could not be told is no success.
func TestNobodyListens(t *testing.T) {
	for _, format := range []string{"text", "json"} {
		p := &replay{write: newWriter(format, broken{}), complain: t.Errorf, timeline: timeline{snapshot: compile.Snapshot{Fleet: fleet.New(nil)}}}
		log := `{"version":"v1alpha1","time":"2026-01-05T10:00:00Z","event":"request","user":{"name":"ann"},"verdict":"allow","grants":[{}],"snapshot":1}`
		err := p.file("-", bytes.NewReader([]byte(log)))
		if err == nil || !strings.Contains(err.Error(), "cannot write the differences: broken pipe") {
			t.Errorf("%s: %v", format, err)
		}
	}
}
