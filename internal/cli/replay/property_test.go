package replay

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/internal/core/compile"
	"github.com/sallyport-dev/sallyport/internal/core/effective"
	"github.com/sallyport-dev/sallyport/internal/core/fleet"
	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
	"github.com/sallyport-dev/sallyport/internal/core/subject"
	"github.com/sallyport-dev/sallyport/internal/decisionlog"
	"github.com/sallyport-dev/sallyport/internal/policy"
)

// someGrants begin and end at any time within a day.
func someGrants(rnd *rand.Rand, n int) (out []compile.Grant) {
	verbs, resources := []string{"get", "list", "create", "*"}, []string{"pods", "pods/exec", "secrets", "*"}
	for i := range n {
		from := metav1.NewTime(t0.Add(time.Duration(rnd.IntN(24*60)) * time.Minute))
		to := metav1.NewTime(from.Add(time.Duration(1+rnd.IntN(600)) * time.Minute))
		s := &v1alpha1.AccessGrantSpec{
			Reason: "x", Subjects: []v1alpha1.Subject{{Kind: "User", Name: fmt.Sprint("u", rnd.IntN(10))}, {Kind: "Group", Name: fmt.Sprint("g", rnd.IntN(10))}},
			Clusters: v1alpha1.ClusterSelection{Names: []v1alpha1.ClusterName{v1alpha1.ClusterName(fmt.Sprint("c", rnd.IntN(3)))}},
			Access: []v1alpha1.AccessEntry{{
				Namespaces: []v1alpha1.NamespaceName{v1alpha1.NamespaceName(fmt.Sprint("n", rnd.IntN(3)))},
				Rules:      []v1alpha1.PolicyRule{{APIGroups: []string{""}, Resources: []string{resources[rnd.IntN(4)]}, Verbs: []string{verbs[rnd.IntN(4)]}}},
			}},
			Validity: &v1alpha1.Validity{NotBefore: &from, NotAfter: &to},
		}
		out = append(out, compile.Grant{Namespace: "a", Name: fmt.Sprint(i), Spec: s})
	}
	return out
}

func someRequest(rnd *rand.Rand, at time.Time) *effective.Request {
	q := &effective.Request{
		User:    guardrail.User{Name: fmt.Sprint("u", rnd.IntN(12)), Groups: []string{fmt.Sprint("g", rnd.IntN(12)), "system:authenticated"}},
		Cluster: fmt.Sprint("c", rnd.IntN(4)), Verb: []string{"get", "list", "create"}[rnd.IntN(3)], At: at,
	}
	if rnd.IntN(10) == 0 {
		q.Verb, q.Path = "get", []string{"/healthz", "/api"}[rnd.IntN(2)]
		return q
	}
	q.ResourceRequest, q.APIVersion, q.Resource, q.Namespace = true, "v1", []string{"pods", "secrets"}[rnd.IntN(2)], fmt.Sprint("n", rnd.IntN(4))
	if q.Resource == "pods" && rnd.IntN(2) == 0 {
		q.Subresource, q.Name = "exec", "p"
	}
	return q
}

// someWorld has guardrails at both points, one of which looks at the clock.
func someWorld(t testing.TB, rnd *rand.Rand, grants int) compile.Snapshot {
	t.Helper()
	var guardrails []*guardrail.Guardrail
	for name, spec := range map[string]*v1alpha1.GuardrailSpec{
		"hours":   {Points: []v1alpha1.GuardrailPoint{"Request"}, CEL: &v1alpha1.CELPolicy{Validations: []v1alpha1.CELValidation{{Expression: `input.request.resource != "secrets" || input.now.getHours() < 18`, Message: "not at night"}}}},
		"no-exec": {Points: []v1alpha1.GuardrailPoint{"Request"}, Enforcement: "Warn", CEL: &v1alpha1.CELPolicy{Validations: []v1alpha1.CELValidation{{Expression: `input.request.subresource != "exec"`, Message: "a shell"}}}},
	} {
		g, errs := policy.Compile(name, spec, policy.Options{})
		if len(errs) > 0 {
			t.Fatal(errs)
		}
		guardrails = append(guardrails, g)
	}
	var members []fleet.Member
	for i := range 3 {
		members = append(members, fleet.Member{Name: fmt.Sprint("c", i), Accepted: true, Delivery: fleet.Direct, Paths: subject.Gateway})
	}
	return compile.Snapshot{
		Grants: someGrants(rnd, grants), Fleet: fleet.New(members), Guardrails: guardrail.NewSet(guardrails, nil, guardrail.Options{}), Point: guardrail.Compile,
	}
}

// logOf requests, as a server decides them with an index that it builds when it has to.
func logOf(t testing.TB, rnd *rand.Rand, s compile.Snapshot, requests int) *bytes.Buffer {
	t.Helper()
	var out bytes.Buffer
	o := decisionlog.NewOptions()
	o.Stdout, o.Queue = &out, requests
	log, err := decisionlog.New(*o)
	if err != nil {
		t.Fatal(err)
	}
	var b effective.Builder
	var ix *effective.Index
	at := t0
	for i := range requests {
		at = at.Add(time.Duration(rnd.Int64N(int64(48 * time.Hour / time.Duration(requests)))))
		if ix == nil || !ix.Next().IsZero() && !at.Before(ix.Next()) {
			s.Now = at
			ix = b.Build(s)
		}
		q := someRequest(rnd, at)
		d := ix.DecideConnect(q)
		e := decisionlog.Of([]string{decisionlog.Gateway, decisionlog.Authorizer}[i%2], q, &d)
		if e.Server == decisionlog.Authorizer && e.Verdict == decisionlog.Allow {
			e.Verdict = decisionlog.NoOpinion
		}
		log.Log(e)
	}
	if err := log.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	return &out
}

// TestSameWorld: what was decided by grants and guardrails is decided by the same again,
// whatever the clock said, and by others it is not.
func TestSameWorld(t *testing.T) {
	for seed := range uint64(5) {
		rnd := rand.New(rand.NewPCG(seed, 0))
		s := someWorld(t, rnd, 200)
		log := logOf(t, rnd, s, 2000)
		others := s
		others.Grants = s.Grants[:150]
		for name, s := range map[string]compile.Snapshot{"Same": s, "Others": others} {
			var out bytes.Buffer
			p := &replay{write: newWriter("text", &out), complain: t.Errorf, timeline: timeline{snapshot: s}}
			if err := p.file("-", bytes.NewReader(log.Bytes())); err != nil {
				t.Fatal(err)
			}
			if p.sum.Replayed != 2000 || (p.sum.Differ > 0) != (name == "Others") {
				t.Errorf("seed %d, %s: %s\n%s", seed, name, &p.sum, out.String()[:min(out.Len(), 2000)])
			}
		}
	}
}

func BenchmarkReplay(b *testing.B) {
	rnd := rand.New(rand.NewPCG(1, 0))
	s := someWorld(b, rnd, 1000)
	log := logOf(b, rnd, s, 10_000).Bytes()
	b.SetBytes(int64(len(log)))
	for b.Loop() {
		p := &replay{write: newWriter("text", io.Discard), complain: b.Errorf, timeline: timeline{snapshot: s}}
		if err := p.file("-", bytes.NewReader(log)); err != nil || p.sum.Differ > 0 {
			b.Fatal(err, &p.sum)
		}
	}
	b.ReportMetric(float64(10_000*b.N)/b.Elapsed().Seconds(), "decisions/s")
}
