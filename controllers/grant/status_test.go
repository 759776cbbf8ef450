package grant

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/internal/core/compile"
	"github.com/sallyport-dev/sallyport/internal/core/fleet"
	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
	"github.com/sallyport-dev/sallyport/internal/distribute"
)

func TestStatus(t *testing.T) {
	const key = "team/g"
	label := compile.GrantLabel(key)
	names := func(l ...string) distribute.Labels {
		labels := map[string]string{}
		for _, k := range l {
			labels[k] = ""
		}
		return distribute.LabelsOf(labels)
	}
	now := time.Date(2030, 1, 1, 12, 0, 0, 0, time.UTC)
	f := fleet.New([]fleet.Member{
		{Name: "a", Accepted: true, Delivery: fleet.Direct}, {Name: "b", Accepted: true, Delivery: fleet.Direct},
		{Name: "down", Accepted: true, Delivery: fleet.Direct, Availability: fleet.Unavailable},
	})
	active := func(clusters ...string) compile.Result {
		return compile.Result{Grant: key, Phase: compile.Active, Clusters: clusters}
	}
	judged := func(v guardrail.Verdict, message string) *guardrail.Judgement {
		return &guardrail.Judgement{Verdict: v, Reasons: []guardrail.Reason{{Guardrail: "r", Message: message, Failed: v == guardrail.Undecided}}}
	}
	orElse := func(s, otherwise string) string {
		if s == "" {
			return otherwise
		}
		return s
	}
	holds := func(cluster string) *distribute.Standing {
		return &distribute.Standing{Cluster: cluster, Grants: names(label), Confirmed: true}
	}
	waits := func(cluster string) *distribute.Standing {
		return &distribute.Standing{Cluster: cluster, Grants: names(label)}
	}
	cases := map[string]struct {
		reason   string
		result   compile.Result
		judged   *guardrail.Judgement // Allowed if nil
		stands   []*distribute.Standing
		outcome  *outcome
		deleting bool
		hub      bool
		before   []metav1.Condition
		suspend  bool
		steady   bool

		ready, active        string
		compliant            string // not looked at if empty
		reconciling, stalled bool
		counts               v1alpha1.ClusterCounts
	}{
		"Applied": {
			reason: "Every selected cluster has confirmed.",
			result: active("a", "b"), stands: []*distribute.Standing{holds("a"), holds("b")},
			ready: "True Applied", active: "True Active", counts: v1alpha1.ClusterCounts{Matched: 2, Applied: 2},
		},
		"Progressing": {
			reason: "A cluster that has not confirmed is waited for.",
			result: active("a", "b"), stands: []*distribute.Standing{holds("a"), waits("b")},
			ready: "False Progressing", active: "True Active", reconciling: true, counts: v1alpha1.ClusterCounts{Matched: 2, Applied: 1},
		},
		"OneOfTwoWorks": {
			reason: "A cluster is done when each of its works is.",
			result: active("a"), stands: []*distribute.Standing{holds("a"), waits("a")},
			ready: "False Progressing", active: "True Active", reconciling: true, counts: v1alpha1.ClusterCounts{Matched: 1},
		},
		"OthersChange": {
			reason: "While a work changes for other grants, a grant that means what it did goes on holding.",
			result: active("a"), stands: []*distribute.Standing{{Cluster: "a", Grants: names(label, "other"), Before: true}}, steady: true,
			ready: "True Applied", active: "True Active", counts: v1alpha1.ClusterCounts{Matched: 1, Applied: 1},
		},
		"Changes": {
			reason: "One that means something else has to be confirmed.",
			result: active("a"), stands: []*distribute.Standing{{Cluster: "a", Grants: names(label), Before: true}},
			ready: "False Progressing", active: "True Active", reconciling: true, counts: v1alpha1.ClusterCounts{Matched: 1},
		},
		"AnotherWork": {
			reason: "A work that no member has ever confirmed holds nothing yet.",
			result: active("a"), stands: []*distribute.Standing{waits("a")}, steady: true,
			ready: "False Progressing", active: "True Active", reconciling: true, counts: v1alpha1.ClusterCounts{Matched: 1},
		},
		"NothingStands": {
			reason: "A cluster for which nothing was written is not done.",
			result: active("a"),
			ready:  "False Progressing", active: "True Active", reconciling: true, counts: v1alpha1.ClusterCounts{Matched: 1},
		},
		"OthersFail": {
			reason: "The failure of another grant's object is not this grant's.",
			result: active("a"), stands: []*distribute.Standing{{Cluster: "a", Grants: names(label, "other"), Failures: []distribute.Failure{{Grants: names("other"), Message: "no"}}}},
			ready: "True Applied", active: "True Active", counts: v1alpha1.ClusterCounts{Matched: 1, Applied: 1},
		},
		"Fails": {
			reason: "The failure of its own object is.",
			result: active("a", "b"), stands: []*distribute.Standing{holds("b"), {Cluster: "a", Grants: names(label), Failures: []distribute.Failure{{Grants: names(label), Message: "no"}}}},
			ready: "False ApplyFailed", active: "True Active", counts: v1alpha1.ClusterCounts{Matched: 2, Applied: 1, Failed: 1},
		},
		"WriteFails": {
			reason: "A write that was refused is told.",
			result: active("a"), outcome: &outcome{clusters: map[string]error{"a": errors.New("forbidden")}},
			ready: "False ApplyFailed", active: "True Active", counts: v1alpha1.ClusterCounts{Matched: 1, Failed: 1},
		},
		"HubFails": {
			reason: "Without the hub side nobody gets in.",
			result: active("a"), stands: []*distribute.Standing{holds("a")},
			outcome: &outcome{hub: []labelledError{{names(label), errors.New("forbidden")}}},
			ready:   "False ApplyFailed", active: "True Active", counts: v1alpha1.ClusterCounts{Matched: 1, Applied: 1},
		},
		"Rejected": {
			reason: "A part that cannot be compiled stalls the grant; the rest holds.",
			result: compile.Result{Grant: key, Phase: compile.Active, Clusters: []string{"a"}, Rejections: []compile.Rejection{{Reason: v1alpha1.FailureUnknownRole, Message: "none"}}},
			stands: []*distribute.Standing{holds("a")},
			ready:  "False Rejected", active: "True Active", stalled: true, counts: v1alpha1.ClusterCounts{Matched: 1, Applied: 1},
		},
		"NoClusters": {
			reason: "A selection of nothing is told, since it is seldom meant.",
			result: active(), ready: "False NoClusters", active: "True Active", stalled: true,
		},
		"LeftACluster": {
			reason: "A cluster that left the selection lingers until it confirms.",
			result: active("a"), stands: []*distribute.Standing{holds("a"), {Cluster: "b", Residual: names(label)}},
			ready: "False Revoking", active: "True Active", reconciling: true, counts: v1alpha1.ClusterCounts{Matched: 1, Applied: 1, Revoking: 1},
		},
		"Expired": {
			reason: "Expired and gone everywhere is done.",
			result: compile.Result{Grant: key, Phase: compile.Expired}, ready: "True Expired", active: "False Expired",
		},
		"Expiring": {
			reason: "Expired is not said before the member has confirmed.",
			result: compile.Result{Grant: key, Phase: compile.Expired}, stands: []*distribute.Standing{{Cluster: "a", Residual: names(label)}},
			ready: "False Revoking", active: "False Revoking", reconciling: true, counts: v1alpha1.ClusterCounts{Revoking: 1},
		},
		"HubNotCut": {
			reason: "While the hub may let somebody in, nothing is revoked.",
			result: compile.Result{Grant: key, Phase: compile.Expired}, hub: true,
			ready: "False Revoking", active: "False Revoking", reconciling: true,
		},
		"DeletedWhileDown": {
			reason:   "A member that is known to be down keeps residual access.",
			deleting: true, stands: []*distribute.Standing{{Cluster: "down", Grants: names(label), Deleting: true}},
			ready: "False ResidualAccess", active: "False ResidualAccess", reconciling: true, counts: v1alpha1.ClusterCounts{Revoking: 1},
		},
		"DeletedTooLongAgo": {
			reason:   "A member that takes longer than the grace is told as well.",
			deleting: true, stands: []*distribute.Standing{{Cluster: "a", Residual: names(label)}},
			before: []metav1.Condition{{Type: v1alpha1.ConditionActive, Status: metav1.ConditionFalse, Reason: v1alpha1.ReasonRevoking, LastTransitionTime: metav1.NewTime(now.Add(-time.Minute))}},
			ready:  "False ResidualAccess", active: "False ResidualAccess", reconciling: true, counts: v1alpha1.ClusterCounts{Revoking: 1},
		},
		"Suspended": {
			reason: "What stands is kept, and that is what is said.",
			result: active("a"), stands: []*distribute.Standing{holds("a")}, suspend: true,
			ready: "True Suspended", active: "True Active", counts: v1alpha1.ClusterCounts{Matched: 1, Applied: 1},
		},
		"SuspendedAndExpiredWithoutValidity": {
			reason: "A held validity can end though the spec has none any more.",
			result: compile.Result{Grant: key, Phase: compile.NotYetActive}, suspend: true,
			ready: "True NotYetActive", active: "False NotYetActive",
		},
		"Refused": {
			reason: "What a guardrail refuses gives nothing, and waits for somebody to change something.",
			result: active(), judged: judged(guardrail.Denied, "no"),
			ready: "False Refused", active: "False Refused", compliant: "False Refused", stalled: true,
		},
		"RefusedAndRevoking": {
			reason: "Refused is not gone before the member has confirmed.",
			result: active(), judged: judged(guardrail.Denied, "no"), stands: []*distribute.Standing{{Cluster: "a", Residual: names(label)}},
			ready: "False Revoking", active: "False Revoking", compliant: "False Refused", reconciling: true, counts: v1alpha1.ClusterCounts{Revoking: 1},
		},
		"RefusedBeforeItBegins": {
			reason: "A grant that is refused is told so before its time comes.",
			result: compile.Result{Grant: key, Phase: compile.NotYetActive}, judged: judged(guardrail.Denied, "no"),
			ready: "False Refused", active: "False Refused", compliant: "False Refused", stalled: true,
		},
		"CannotBeJudged": {
			reason: "What cannot be judged does not begin.",
			result: active(), judged: judged(guardrail.Undecided, "the guardrail cannot be evaluated"),
			ready: "False EvaluationFailed", active: "False EvaluationFailed", compliant: "Unknown EvaluationFailed",
		},
		"CannotBeJudgedAndStands": {
			reason: "What stands stays active, and is not Ready.",
			result: active("a"), judged: judged(guardrail.Undecided, "the guardrail cannot be evaluated"), stands: []*distribute.Standing{holds("a")},
			ready: "False EvaluationFailed", active: "True Active", compliant: "Unknown EvaluationFailed", counts: v1alpha1.ClusterCounts{Matched: 1, Applied: 1},
		},
		"ExpiredIsNotJudged": {
			reason: "An expired grant is neither compliant nor not.",
			result: compile.Result{Grant: key, Phase: compile.Expired}, ready: "True Expired", active: "False Expired", compliant: "-",
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			g := &v1alpha1.AccessGrant{ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: "g"}}
			g.Spec.Suspend = c.suspend
			g.Status.Conditions = c.before
			done := c.outcome
			if done == nil {
				done = &outcome{}
			}
			c.result.Judgement = guardrail.Judgement{Verdict: guardrail.Allowed}
			if c.judged != nil {
				c.result.Judgement = *c.judged
			}
			p := measure(c.result, label, c.stands, f, done, c.steady)
			p.deleting, p.hub = c.deleting, c.hub
			p.write(g, now, 30*time.Second)
			is := func(condition string) string {
				c := meta.FindStatusCondition(g.Status.Conditions, condition)
				if c == nil {
					return ""
				}
				return string(c.Status) + " " + c.Reason
			}
			got := []any{is(v1alpha1.ConditionReady), is(v1alpha1.ConditionActive), is(v1alpha1.ConditionReconciling) != "", is(v1alpha1.ConditionStalled) != "", *g.Status.Clusters}
			want := []any{c.ready, c.active, c.reconciling, c.stalled, c.counts}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s\n%s\n%+v", c.reason, diff, g.Status)
			}
			if was := orElse(is(v1alpha1.ConditionCompliant), "-"); c.compliant != "" && was != c.compliant {
				t.Errorf("%s\nCompliant is %q, want %q", c.reason, was, c.compliant)
			}
			// Nothing flaps: the same progress writes the same status.
			again := g.DeepCopy()
			p.write(again, now, 30*time.Second)
			if diff := cmp.Diff(g.Status, again.Status); diff != "" {
				t.Errorf("a second writing changed the status: %s", diff)
			}
		})
	}
}

func TestCut(t *testing.T) {
	for in, want := range map[string]string{"short": "short", strings.Repeat("é", 10): strings.Repeat("é", 3) + "…"} {
		if got := cut(in, 10); got != want || len(got) > 10 {
			t.Errorf("cut(%q) = %q", in, got)
		}
	}
}
