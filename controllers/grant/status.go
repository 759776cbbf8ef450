package grant

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/fluxcd/pkg/apis/meta"
	"github.com/fluxcd/pkg/runtime/conditions"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/internal/core/compile"
	"github.com/sallyport-dev/sallyport/internal/core/fleet"
	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
	"github.com/sallyport-dev/sallyport/internal/distribute"
)

// progress is how far one grant has come.
type progress struct {
	label  string
	result compile.Result
	// deleting: the grant is to be revoked, whatever result says.
	deleting bool
	// stood is what stood of a grant that cannot be judged.
	stood *compile.Standing
	// hub: the hub may still let its subjects in, though nothing says it should.
	hub bool
	// hubError is why the hub side could not be written.
	hubError error
	applied  []string
	// pending clusters have not confirmed what they should hold.
	pending []string
	// lingering clusters may hold what they should not.
	lingering []string
	// down are those of the lingering that the inventory says are unavailable.
	down     []string
	failures []v1alpha1.GrantFailure
}

// measure compares what a grant should give with what stands. steady: since it was
// last found to be applied everywhere, the grant means the same.
func measure(result compile.Result, label string, stands []*distribute.Standing, f *fleet.Fleet, done *outcome, steady bool) progress {
	p := progress{label: label, result: result}
	wanted := map[string]*clusterProgress{}
	for _, c := range result.Clusters {
		wanted[c] = &clusterProgress{}
	}
	lingering := map[string]bool{}
	for _, s := range stands {
		w, ok := wanted[s.Cluster]
		if !ok {
			if s.MayHold(label) {
				lingering[s.Cluster] = true
			}
			continue
		}
		w.add(s, label, steady)
	}
	for _, c := range result.Clusters {
		p.measureCluster(c, wanted[c], f, done, steady)
	}
	for _, r := range result.Rejections {
		p.failures = append(p.failures, v1alpha1.GrantFailure{Cluster: r.Cluster, Reason: r.Reason, Message: r.Message})
	}
	p.lingering = slices.Sorted(maps.Keys(lingering))
	for _, c := range p.lingering {
		p.measureLingering(c, f, done)
	}
	for _, e := range done.hub {
		if e.labels.Has(label) && !conflict(e.err) {
			p.hubError = e.err
			p.failures = append(p.failures, v1alpha1.GrantFailure{Reason: v1alpha1.ReasonApplyFailed, Message: e.err.Error()})
			break
		}
	}
	slices.SortFunc(p.failures, func(a, b v1alpha1.GrantFailure) int {
		return strings.Compare(a.Cluster+"\x00"+a.Reason+"\x00"+a.Message, b.Cluster+"\x00"+b.Reason+"\x00"+b.Message)
	})
	p.failures = slices.Compact(p.failures)
	return p
}

// clusterProgress is what the carriers for one cluster say of one grant.
type clusterProgress struct {
	carriers, confirmed int
	failures            []distribute.Failure
}

func (c *clusterProgress) add(s *distribute.Standing, label string, steady bool) {
	c.carriers++
	failed := false
	for _, f := range s.Failures {
		if f.Grants.Has(label) {
			c.failures = append(c.failures, f)
			failed = true
		}
	}
	// Where only objects of other grants fail, this one holds; and where a carrier
	// changes for the sake of other grants, this one goes on holding.
	if s.Confirmed || len(s.Failures) > 0 && !failed && !s.Deleting || steady && s.Before && !failed {
		c.confirmed++
	}
}

func (p *progress) measureCluster(cluster string, w *clusterProgress, f *fleet.Fleet, done *outcome, steady bool) {
	fail := func(reason, message string) {
		p.failures = append(p.failures, v1alpha1.GrantFailure{Cluster: cluster, Reason: reason, Message: message})
	}
	err := done.clusters[cluster]
	switch {
	case err != nil && !conflict(err):
		fail(v1alpha1.ReasonApplyFailed, err.Error())
	case len(w.failures) > 0:
		for _, failure := range w.failures {
			fail(v1alpha1.ReasonApplyFailed, strings.TrimPrefix(failure.Object+": "+failure.Message, ": "))
		}
	case (err == nil || steady) && w.carriers > 0 && w.confirmed == w.carriers:
		p.applied = append(p.applied, cluster)
		return
	}
	p.pending = append(p.pending, cluster)
	if m, ok := f.Get(cluster); ok && m.Availability == fleet.Unavailable {
		fail(v1alpha1.FailureUnreachable, "the inventory reports the cluster as unavailable")
	}
}

func (p *progress) measureLingering(cluster string, f *fleet.Fleet, done *outcome) {
	message := "the cluster has not confirmed that the access is gone"
	switch m, known := f.Get(cluster); {
	case !known:
		message = "the cluster is not in the fleet any more, and has not confirmed that the access is gone"
		p.down = append(p.down, cluster)
	case m.Availability == fleet.Unavailable:
		message = "the cluster is unavailable and has not confirmed that the access is gone"
		p.down = append(p.down, cluster)
	}
	if err := done.clusters[cluster]; err != nil && !conflict(err) {
		message = err.Error()
	}
	p.failures = append(p.failures, v1alpha1.GrantFailure{Cluster: cluster, Reason: v1alpha1.ReasonResidualAccess, Message: message})
}

// gone reports whether nothing of the grant is left anywhere.
func (p *progress) gone() bool { return !p.hub && len(p.lingering) == 0 && p.hubError == nil }

// maxFailures in a status.
const maxFailures = 50

// write the progress into a grant's status.
func (p *progress) write(g *v1alpha1.AccessGrant, now time.Time, grace time.Duration) {
	g.Status.Clusters = &v1alpha1.ClusterCounts{
		Matched: int32(len(p.result.Clusters)), Applied: int32(len(p.applied)),
		Failed: int32(p.failedClusters()), Revoking: int32(len(p.lingering)),
	}
	g.Status.Failures = nil
	for i, f := range p.failures {
		if i == maxFailures {
			break
		}
		f.Message = cut(f.Message, 1024)
		g.Status.Failures = append(g.Status.Failures, f)
	}
	set := func(c metav1.Condition) {
		c.LastTransitionTime = metav1.NewTime(now.Truncate(time.Second))
		conditions.Set(g, &c)
	}
	g.Status.Violations = nil
	if c := compliant(p.result.Phase, &p.result.Judgement); c.Type != "" && !p.deleting {
		g.Status.Violations = violationsOf(&p.result.Judgement)
		set(c)
	} else {
		conditions.Delete(g, v1alpha1.ConditionCompliant)
	}
	active := p.active(g, now, grace)
	ready, reconciling, stalled := p.ready(g, active)
	set(active)
	set(ready)
	for kind, holds := range map[string]bool{v1alpha1.ConditionReconciling: reconciling, v1alpha1.ConditionStalled: stalled} {
		if holds {
			set(metav1.Condition{Type: kind, Status: metav1.ConditionTrue, Reason: ready.Reason, Message: ready.Message})
		} else {
			conditions.Delete(g, kind)
		}
	}
}

func (p *progress) failedClusters() int {
	clusters := map[string]bool{}
	for _, f := range p.failures {
		if f.Cluster != "" && f.Reason != v1alpha1.ReasonResidualAccess {
			clusters[f.Cluster] = true
		}
	}
	return len(clusters)
}

// active says whether the grant gives access, and of one that does not, whether it
// is really gone.
func (p *progress) active(g *v1alpha1.AccessGrant, now time.Time, grace time.Duration) metav1.Condition {
	is := func(status metav1.ConditionStatus, reason, message string) metav1.Condition {
		return metav1.Condition{Type: v1alpha1.ConditionActive, Status: status, Reason: reason, Message: message}
	}
	barred, reason := p.barred()
	if !p.deleting && p.result.Phase == compile.Active && !barred {
		if end := instant(g, func(v *v1alpha1.Validity) *metav1.Time { return v.NotAfter }); end != "" {
			return is(metav1.ConditionTrue, v1alpha1.ReasonActive, "until "+end)
		}
		return is(metav1.ConditionTrue, v1alpha1.ReasonActive, "within its validity")
	}
	if !p.gone() {
		return is(metav1.ConditionFalse, p.revocation(g, now, grace), p.revocationMessage())
	}
	switch {
	case p.deleting:
		return is(metav1.ConditionFalse, v1alpha1.ReasonRevoked, "nothing of the grant is left")
	case barred:
		return is(metav1.ConditionFalse, reason, refusal(&p.result.Judgement))
	case p.result.Phase == compile.NotYetActive:
		return is(metav1.ConditionFalse, v1alpha1.ReasonNotYetActive, strings.TrimSpace("before notBefore "+instant(g, func(v *v1alpha1.Validity) *metav1.Time { return v.NotBefore })))
	default:
		return is(metav1.ConditionFalse, v1alpha1.ReasonExpired, strings.TrimSpace("after notAfter "+instant(g, func(v *v1alpha1.Validity) *metav1.Time { return v.NotAfter })))
	}
}

// barred reports whether guardrails let the grant give nothing at all, and the reason
// that goes with it.
func (p *progress) barred() (bool, string) {
	switch {
	case p.result.Judgement.Verdict == guardrail.Denied:
		return true, v1alpha1.ReasonRefused
	case p.result.Judgement.Verdict == guardrail.Undecided && len(p.result.Clusters) == 0:
		return true, v1alpha1.ReasonEvaluationFailed
	}
	return false, ""
}

// instant of a grant's validity, or "" where its spec has none: a suspended grant
// goes by the validity that it holds, whatever its spec has become.
func instant(g *v1alpha1.AccessGrant, of func(*v1alpha1.Validity) *metav1.Time) string {
	if g.Spec.Validity == nil || of(g.Spec.Validity) == nil {
		return ""
	}
	return of(g.Spec.Validity).UTC().Format(time.RFC3339)
}

// revocation is under way, or residual where a member is known to be down or has
// taken longer than the grace.
func (p *progress) revocation(g *v1alpha1.AccessGrant, now time.Time, grace time.Duration) string {
	if len(p.down) > 0 {
		return v1alpha1.ReasonResidualAccess
	}
	if c := conditions.Get(g, v1alpha1.ConditionActive); c != nil && len(p.lingering) > 0 && c.Status == metav1.ConditionFalse {
		if c.Reason == v1alpha1.ReasonResidualAccess || c.Reason == v1alpha1.ReasonRevoking && now.Sub(c.LastTransitionTime.Time) > grace {
			return v1alpha1.ReasonResidualAccess
		}
	}
	return v1alpha1.ReasonRevoking
}

func (p *progress) revocationMessage() string {
	if p.hub || p.hubError != nil {
		return "the hub side is not cut yet"
	}
	return fmt.Sprintf("the hub is cut; %d %s not confirmed: %s", len(p.lingering), plural(len(p.lingering), "cluster has", "clusters have"), firstN(p.lingering, 5))
}

// ready sums up, with whether the grant is Reconciling and whether it is Stalled.
func (p *progress) ready(g *v1alpha1.AccessGrant, active metav1.Condition) (ready metav1.Condition, reconciling, stalled bool) {
	is := func(status metav1.ConditionStatus, reason, message string) metav1.Condition {
		return metav1.Condition{Type: v1alpha1.ConditionReady, Status: status, Reason: reason, Message: message}
	}
	matched := len(p.result.Clusters)
	whole, parts := p.rejections()
	barred, reason := p.barred()
	switch {
	case active.Status == metav1.ConditionFalse && !p.gone():
		return is(metav1.ConditionFalse, active.Reason, active.Message), true, false
	case barred && !p.deleting:
		return is(metav1.ConditionFalse, reason, refusal(&p.result.Judgement)), false, reason == v1alpha1.ReasonRefused
	case active.Status == metav1.ConditionFalse && (whole == "" || p.deleting):
		return is(metav1.ConditionTrue, active.Reason, active.Message), false, false
	case p.hubError != nil:
		return is(metav1.ConditionFalse, v1alpha1.ReasonApplyFailed, p.hubError.Error()), false, false
	case p.result.Judgement.Verdict == guardrail.Undecided:
		return is(metav1.ConditionFalse, v1alpha1.ReasonEvaluationFailed, "what stands is kept and does not widen: "+refusal(&p.result.Judgement)), false, false
	case whole != "":
		return is(metav1.ConditionFalse, v1alpha1.ReasonRejected, whole), false, true
	case matched == 0 && !g.Spec.Suspend:
		return is(metav1.ConditionFalse, v1alpha1.ReasonNoClusters, "no cluster of the fleet is selected"), false, true
	case p.applyFailures() != "":
		return is(metav1.ConditionFalse, v1alpha1.ReasonApplyFailed, p.applyFailures()), false, false
	case len(p.lingering) > 0:
		reason := v1alpha1.ReasonRevoking
		if len(p.down) > 0 {
			reason = v1alpha1.ReasonResidualAccess
		}
		return is(metav1.ConditionFalse, reason, p.revocationMessage()), true, false
	case len(p.pending) > 0:
		return is(metav1.ConditionFalse, v1alpha1.ReasonProgressing, fmt.Sprintf("%d of %d clusters have confirmed; waiting for %s", len(p.applied), matched, firstN(p.pending, 5))), true, false
	case parts != "":
		return is(metav1.ConditionFalse, v1alpha1.ReasonRejected, parts), false, true
	case g.Spec.Suspend:
		return is(metav1.ConditionTrue, v1alpha1.ReasonSuspended, fmt.Sprintf("suspended; what stands is kept on %d %s", matched, plural(matched, "cluster", "clusters"))), false, false
	default:
		return is(metav1.ConditionTrue, v1alpha1.ReasonApplied, fmt.Sprintf("applied on %d %s", matched, plural(matched, "cluster", "clusters"))), false, false
	}
}

// rejections sums up what could not be compiled: of the whole grant, where nothing
// is left of it, and of parts.
func (p *progress) rejections() (whole, parts string) {
	if len(p.result.Rejections) == 0 {
		return "", ""
	}
	messages := make([]string, 0, len(p.result.Rejections))
	for _, r := range p.result.Rejections {
		m := r.Message
		if r.Cluster != "" {
			m = r.Cluster + ": " + m
		}
		messages = append(messages, m)
	}
	summary := cut(firstN(messages, 3), 2048)
	if len(p.result.Clusters) == 0 {
		return summary, ""
	}
	return "", summary
}

func (p *progress) applyFailures() string {
	var clusters []string
	first := ""
	for _, f := range p.failures {
		if f.Reason == v1alpha1.ReasonApplyFailed && f.Cluster != "" && !slices.Contains(clusters, f.Cluster) {
			clusters = append(clusters, f.Cluster)
			if first == "" {
				first = f.Message
			}
		}
	}
	if len(clusters) == 0 {
		return ""
	}
	return cut(fmt.Sprintf("%s: %s", firstN(clusters, 5), first), 2048)
}

// firstN joins the first n with commas and counts the rest.
func firstN(items []string, n int) string {
	if len(items) <= n {
		return strings.Join(items, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(items[:n], ", "), len(items)-n)
}

func plural(n int, one, many string) string {
	if n == 1 {
		return one
	}
	return many
}

// cut a message to a length in bytes, at a character.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n-len("…")], "") + "…"
}

// requested reports whether somebody asked for a reconciliation that has not been
// handled yet, and with which value.
func requested(g *v1alpha1.AccessGrant) (string, bool) {
	v, ok := meta.ReconcileAnnotationValue(g.GetAnnotations())
	return v, ok && v != g.Status.LastHandledReconcileAt
}
