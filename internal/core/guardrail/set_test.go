package guardrail_test

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
)

var t0 = time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC)

// says is a Check with a fixed answer.
type says struct {
	violations []guardrail.Violation
	err        error
	panics     bool
	timed      bool
}

func (s says) Check(*guardrail.Input) ([]guardrail.Violation, error) {
	if s.panics {
		panic("boom")
	}
	return s.violations, s.err
}

func (s says) Timed() bool { return s.timed }

func objects(message string) says {
	return says{violations: []guardrail.Violation{{Message: message}}}
}

func grantInput() *guardrail.Input {
	return &guardrail.Input{
		Version: guardrail.InputVersion, Now: t0,
		Grant: &guardrail.Grant{
			Metadata: guardrail.Metadata{Namespace: "payments", Name: "oncall"},
			Spec:     &v1alpha1.AccessGrantSpec{Subjects: []v1alpha1.Subject{{Kind: v1alpha1.UserSubject, Name: "alice"}}},
		},
		Namespace: &guardrail.Namespace{Name: "payments", Labels: map[string]string{"tier": "tenant"}},
		Access:    []*guardrail.Access{{Known: true, ClusterWide: true, Rules: []rbacv1.PolicyRule{{Verbs: []string{"get"}, APIGroups: []string{""}, Resources: []string{"pods"}}}}},
		Clusters:  []*guardrail.Cluster{{Name: "prod-eu-1", Labels: map[string]string{"env": "prod"}}},
	}
}

func requestInput(grants ...string) *guardrail.Input {
	in := &guardrail.Input{
		Version: guardrail.InputVersion, Now: t0,
		Request: &guardrail.RequestInfo{
			User: guardrail.User{Name: "alice", Groups: []string{"oncall"}}, Verb: "get", Resource: "pods",
			Cluster: &guardrail.Cluster{Name: "prod-eu-1", Labels: map[string]string{"env": "prod"}},
		},
	}
	for _, g := range grants {
		in.Grants = append(in.Grants, &guardrail.GrantInfo{Namespace: "payments", Name: g})
	}
	return in
}

func rail(name string, c guardrail.Check) *guardrail.Guardrail {
	return &guardrail.Guardrail{
		Name: name, Digest: "d", Enforcement: v1alpha1.EnforcementDeny, Points: guardrail.GrantPoints | 1<<guardrail.Request,
		Check: c, Exceptions: guardrail.Terms{Longest: time.Hour},
	}
}

func enforced(g *guardrail.Guardrail, e v1alpha1.Enforcement) *guardrail.Guardrail {
	g.Enforcement = e
	return g
}

func exception(name, guardrailName, grant string, from, length time.Duration) guardrail.Exception {
	return guardrail.Exception{
		Namespace: "payments", Name: name, Guardrail: guardrailName, Grant: grant,
		NotBefore: t0.Add(from), NotAfter: t0.Add(from + length),
	}
}

func TestJudge(t *testing.T) {
	tests := map[string]struct {
		reason     string
		guardrails []*guardrail.Guardrail
		exceptions []guardrail.Exception
		in         *guardrail.Input
		options    guardrail.Options
		want       guardrail.Verdict
		reasons    []string // GUARDRAIL: MESSAGE [EXCEPTION]
		next       time.Time
	}{
		"None": {
			reason: "Guardrails only take away: where there are none, nothing is taken.",
			in:     grantInput(), want: guardrail.Allowed,
		},
		"Passed": {
			reason:     "A policy that objects to nothing allows.",
			guardrails: []*guardrail.Guardrail{rail("a", says{})},
			in:         grantInput(), want: guardrail.Allowed,
		},
		"AllReasons": {
			reason:     "Every reason is told, sorted, whatever the order of the guardrails.",
			guardrails: []*guardrail.Guardrail{rail("b", objects("two")), rail("a", objects("one")), enforced(rail("0", objects("warned")), v1alpha1.EnforcementWarn)},
			in:         grantInput(), want: guardrail.Denied,
			reasons: []string{"a: one", "b: two", "0: warned"},
		},
		"WarnAndAuditAllow": {
			reason:     "Only Deny refuses.",
			guardrails: []*guardrail.Guardrail{enforced(rail("w", objects("w")), v1alpha1.EnforcementWarn), enforced(rail("a", objects("a")), v1alpha1.EnforcementAudit)},
			in:         grantInput(), want: guardrail.Allowed, reasons: []string{"w: w", "a: a"},
		},
		"UnknownEnforcementDenies": {
			reason:     "An enforcement that nobody set is Deny.",
			guardrails: []*guardrail.Guardrail{enforced(rail("a", objects("a")), "")},
			in:         grantInput(), want: guardrail.Denied, reasons: []string{"a: a"},
		},
		"FailureIsUndecided": {
			reason:     "S16: an error neither allows nor revokes.",
			guardrails: []*guardrail.Guardrail{rail("a", says{err: errors.New("no")})},
			in:         grantInput(), want: guardrail.Undecided, reasons: []string{"a: the guardrail cannot be evaluated"},
		},
		"PanicIsUndecided": {
			reason:     "S22: a panic in a policy is a failure of that policy.",
			guardrails: []*guardrail.Guardrail{rail("a", says{panics: true})},
			in:         grantInput(), want: guardrail.Undecided, reasons: []string{"a: the guardrail cannot be evaluated"},
		},
		"DenialOverFailure": {
			reason:     "A violation that is known revokes, whatever else cannot be told.",
			guardrails: []*guardrail.Guardrail{rail("a", says{err: errors.New("no")}), rail("b", objects("two"))},
			in:         grantInput(), want: guardrail.Denied, reasons: []string{"b: two", "a: the guardrail cannot be evaluated"},
		},
		"Stalled": {
			reason:     "A guardrail that does not compile is not passed, and takes down no other.",
			guardrails: []*guardrail.Guardrail{{Name: "a", Points: guardrail.GrantPoints, Err: errors.New("1:2: no")}, rail("b", says{})},
			in:         grantInput(), want: guardrail.Undecided, reasons: []string{"a: the guardrail cannot be evaluated"},
		},
		"FailedWarningAllows": {
			reason:     "What would only have warned takes nothing away when it fails.",
			guardrails: []*guardrail.Guardrail{enforced(rail("a", says{err: errors.New("no")}), v1alpha1.EnforcementWarn)},
			in:         grantInput(), want: guardrail.Allowed, reasons: []string{"a: the guardrail cannot be evaluated"},
		},
		"Excused": {
			reason:     "An exception in force excuses its grant from its guardrail, until it ends.",
			guardrails: []*guardrail.Guardrail{rail("a", objects("one"))},
			exceptions: []guardrail.Exception{exception("e", "a", "oncall", -time.Minute, time.Hour)},
			in:         grantInput(), want: guardrail.Allowed, reasons: []string{"a: one [e]"}, next: t0.Add(59 * time.Minute),
		},
		"ExceptionEnded": {
			reason:     "At notAfter an exception has ended.",
			guardrails: []*guardrail.Guardrail{rail("a", objects("one"))},
			exceptions: []guardrail.Exception{exception("e", "a", "oncall", -time.Minute, time.Minute)},
			in:         grantInput(), want: guardrail.Denied, reasons: []string{"a: one"},
		},
		"ExceptionToCome": {
			reason:     "An exception that has yet to begin excuses nothing, and says when to look again.",
			guardrails: []*guardrail.Guardrail{rail("a", objects("one"))},
			exceptions: []guardrail.Exception{exception("e", "a", "oncall", time.Minute, time.Minute)},
			in:         grantInput(), want: guardrail.Denied, reasons: []string{"a: one"}, next: t0.Add(time.Minute),
		},
		"ExceptionTooLong": {
			reason:     "An exception longer than the guardrail allows never counts, nor do two that overlap.",
			guardrails: []*guardrail.Guardrail{rail("a", objects("one"))},
			exceptions: []guardrail.Exception{exception("e", "a", "oncall", -time.Minute, 61*time.Minute), exception("f", "a", "oncall", -time.Minute, 2*time.Hour)},
			in:         grantInput(), want: guardrail.Denied, reasons: []string{"a: one"},
		},
		"ExceptionsForbidden": {
			reason:     "A guardrail without terms honours no exception.",
			guardrails: []*guardrail.Guardrail{{Name: "a", Points: guardrail.GrantPoints, Check: objects("one")}},
			exceptions: []guardrail.Exception{exception("e", "a", "oncall", -time.Minute, time.Hour)},
			in:         grantInput(), want: guardrail.Denied, reasons: []string{"a: one"},
		},
		"ExceptionOfAnotherNamespace": {
			reason:     "S24: an exception counts in its own namespace only.",
			guardrails: []*guardrail.Guardrail{rail("a", objects("one"))},
			exceptions: []guardrail.Exception{{Namespace: "other", Name: "e", Guardrail: "a", Grant: "oncall", NotBefore: t0, NotAfter: t0.Add(time.Minute)}},
			in:         grantInput(), want: guardrail.Denied, reasons: []string{"a: one"},
		},
		"ExceptionForAnotherGuardrail": {
			reason:     "S24: an exception from one guardrail is none from another.",
			guardrails: []*guardrail.Guardrail{rail("a", objects("one")), rail("b", objects("two"))},
			exceptions: []guardrail.Exception{exception("e", "a", "oncall", 0, time.Minute)},
			in:         grantInput(), want: guardrail.Denied, reasons: []string{"b: two", "a: one [e]"}, next: t0.Add(time.Minute),
		},
		"RequestExcusedByOneGrant": {
			reason:     "A request is excused where one grant that allows it is excused from all that object.",
			guardrails: []*guardrail.Guardrail{rail("a", objects("one")), rail("b", objects("two"))},
			exceptions: []guardrail.Exception{exception("e", "a", "h", 0, time.Minute), exception("f", "b", "h", 0, time.Minute)},
			in:         requestInput("g", "h"), want: guardrail.Allowed, reasons: []string{"a: one [e]", "b: two [f]"}, next: t0.Add(time.Minute),
		},
		"ExceptionsNeverCombine": {
			reason:     "S24: two grants, each excused from one guardrail, do not make one that is excused from both.",
			guardrails: []*guardrail.Guardrail{rail("a", objects("one")), rail("b", objects("two"))},
			exceptions: []guardrail.Exception{exception("e", "a", "g", 0, time.Minute), exception("f", "b", "h", 0, time.Minute)},
			in:         requestInput("g", "h"), want: guardrail.Denied, reasons: []string{"a: one", "b: two"}, next: t0.Add(time.Minute),
		},
		"NoCeiling": {
			reason:     "With the option, a namespace without a ceiling grants nothing, and no exception helps.",
			options:    guardrail.Options{RequireCeiling: true},
			exceptions: []guardrail.Exception{exception("e", guardrail.RequireCeiling, "oncall", 0, time.Minute)},
			in:         grantInput(), want: guardrail.Denied,
			reasons: []string{`require-ceiling: namespace "payments" has no ceiling, and without one nothing may be granted`},
		},
		"CeilingThatWarns": {
			reason:     "A ceiling that only warns is none.",
			options:    guardrail.Options{RequireCeiling: true},
			guardrails: []*guardrail.Guardrail{{Name: "c", Points: guardrail.GrantPoints, Enforcement: v1alpha1.EnforcementWarn, Ceiling: true, Check: says{}}},
			in:         grantInput(), want: guardrail.Denied,
			reasons: []string{`require-ceiling: namespace "payments" has no ceiling, and without one nothing may be granted`},
		},
		"Ceiling": {
			reason:     "A ceiling that matches the namespace is one.",
			options:    guardrail.Options{RequireCeiling: true},
			guardrails: []*guardrail.Guardrail{{Name: "c", Points: guardrail.GrantPoints, Ceiling: true, Check: says{}}},
			in:         grantInput(), want: guardrail.Allowed,
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			point := guardrail.Compile
			if tc.in.Request != nil {
				point = guardrail.Request
			}
			j := guardrail.NewSet(tc.guardrails, tc.exceptions, tc.options).Judge(point, tc.in)
			if j.Verdict != tc.want {
				t.Errorf("%s\nverdict %v, want %v", tc.reason, j.Verdict, tc.want)
			}
			var got []string
			for _, r := range j.Reasons {
				s := r.Guardrail + ": " + r.Message
				if r.Exception != "" {
					s += " [" + r.Exception + "]"
				}
				got = append(got, s)
			}
			if diff := cmp.Diff(tc.reasons, got); diff != "" {
				t.Errorf("%s\nreasons (-want +got):\n%s", tc.reason, diff)
			}
			if !j.Next.Equal(tc.next) {
				t.Errorf("%s\nnext %v, want %v", tc.reason, j.Next, tc.next)
			}
		})
	}
}

// TestZero: S16. What nobody set denies.
func TestZero(t *testing.T) {
	var v guardrail.Verdict
	var j guardrail.Judgement
	if v != guardrail.Denied || j.Verdict != guardrail.Denied {
		t.Error("the zero verdict does not deny")
	}
	var s *guardrail.Set
	for p := guardrail.Plan; p <= guardrail.Request; p++ {
		if got := s.Judge(p, grantInput()).Verdict; got == guardrail.Allowed {
			t.Errorf("%v: a Set that is not there allows", p)
		}
	}
}

func TestPoints(t *testing.T) {
	for p := guardrail.Plan; p <= guardrail.Request; p++ {
		only := rail("a", objects("no"))
		only.Points = guardrail.PointsOf([]v1alpha1.GuardrailPoint{v1alpha1.GuardrailPoint(p.String())})
		set := guardrail.NewSet([]*guardrail.Guardrail{only}, nil, guardrail.Options{})
		for q := guardrail.Plan; q <= guardrail.Request; q++ {
			want := guardrail.Allowed
			if p == q {
				want = guardrail.Denied
			}
			if got := set.Judge(q, grantInput()).Verdict; got != want {
				t.Errorf("a guardrail for %v says %v at %v, want %v", p, got, q, want)
			}
		}
	}
	if guardrail.PointsOf(nil).Has(guardrail.Request) {
		t.Error("a guardrail that names no points is asked about requests")
	}
}

func TestMatch(t *testing.T) {
	prod := &metav1.LabelSelector{MatchLabels: map[string]string{"env": "prod"}}
	tenant := &metav1.LabelSelector{MatchLabels: map[string]string{"tier": "tenant"}}
	opaque := grantInput()
	opaque.Access = []*guardrail.Access{{Role: &guardrail.RoleRef{Kind: "ClusterRole", Name: "view"}}}
	unlabelled := grantInput()
	unlabelled.Namespace.Labels = nil
	everything := grantInput()
	everything.Access[0].Rules[0].Verbs = []string{"*"}
	request := requestInput("g")
	request.Grants[0].NamespaceLabels = map[string]string{"tier": "tenant"}
	robot := requestInput()
	robot.Request.User = guardrail.User{Name: "system:serviceaccount:ci:deployer"}

	tests := map[string]struct {
		reason string
		match  *v1alpha1.GuardrailMatch
		in     *guardrail.Input
		want   bool
	}{
		"Nothing":          {"No match is every match.", nil, grantInput(), true},
		"Namespace":        {"A pattern matches.", &v1alpha1.GuardrailMatch{Namespaces: &v1alpha1.NamespaceMatch{Names: []v1alpha1.Pattern{"pay*"}}}, grantInput(), true},
		"OtherNamespace":   {"A name is matched as a whole.", &v1alpha1.GuardrailMatch{Namespaces: &v1alpha1.NamespaceMatch{Names: []v1alpha1.Pattern{"pay"}}}, grantInput(), false},
		"NamespaceLabel":   {"Labels of the namespace count.", &v1alpha1.GuardrailMatch{Namespaces: &v1alpha1.NamespaceMatch{Selector: tenant}}, grantInput(), true},
		"NamespaceUnknown": {"Labels that are not known may be any.", &v1alpha1.GuardrailMatch{Namespaces: &v1alpha1.NamespaceMatch{Selector: tenant}}, unlabelled, true},
		"RequestNamespace": {"A request is matched by the grants that allow it.",
			&v1alpha1.GuardrailMatch{Namespaces: &v1alpha1.NamespaceMatch{Selector: tenant}}, request, true},
		"RequestWithoutGrants": {"Where it cannot be told, it matches.",
			&v1alpha1.GuardrailMatch{Namespaces: &v1alpha1.NamespaceMatch{Selector: tenant}}, requestInput(), true},
		"Cluster":        {"One cluster suffices.", &v1alpha1.GuardrailMatch{Clusters: &v1alpha1.ClusterMatch{Selector: prod}}, grantInput(), true},
		"OtherCluster":   {"No cluster of that name.", &v1alpha1.GuardrailMatch{Clusters: &v1alpha1.ClusterMatch{Names: []v1alpha1.Pattern{"dev-*"}}}, grantInput(), false},
		"RequestCluster": {"The cluster of a request.", &v1alpha1.GuardrailMatch{Clusters: &v1alpha1.ClusterMatch{Selector: prod}}, requestInput(), true},
		"User":           {"A subject by kind.", &v1alpha1.GuardrailMatch{Subjects: []v1alpha1.SubjectPattern{{Kind: v1alpha1.UserSubject}}}, grantInput(), true},
		"Group":          {"A kind that the grant does not name.", &v1alpha1.GuardrailMatch{Subjects: []v1alpha1.SubjectPattern{{Kind: v1alpha1.GroupSubject}}}, grantInput(), false},
		"RequestGroup":   {"A group of the user.", &v1alpha1.GuardrailMatch{Subjects: []v1alpha1.SubjectPattern{{Kind: v1alpha1.GroupSubject, Name: "on*"}}}, requestInput(), true},
		"RequestRobot":   {"A service account by its parts.", &v1alpha1.GuardrailMatch{Subjects: []v1alpha1.SubjectPattern{{Kind: v1alpha1.ServiceAccountSubject, Namespace: "ci", Name: "dep*"}}}, robot, true},
		"RequestNoRobot": {"A user is no service account.", &v1alpha1.GuardrailMatch{Subjects: []v1alpha1.SubjectPattern{{Kind: v1alpha1.ServiceAccountSubject}}}, requestInput(), false},
		"Verb":           {"A verb of a rule.", &v1alpha1.GuardrailMatch{Verbs: []string{"get"}}, grantInput(), true},
		"OtherVerb":      {"A verb that is not given.", &v1alpha1.GuardrailMatch{Verbs: []string{"delete"}}, grantInput(), false},
		"EveryVerb":      {"The verb * gives each.", &v1alpha1.GuardrailMatch{Verbs: []string{"delete"}}, everything, true},
		"UnknownVerbs":   {"What only the member knows may give each.", &v1alpha1.GuardrailMatch{Verbs: []string{"delete"}}, opaque, true},
		"Both":           {"Each part has to match.", &v1alpha1.GuardrailMatch{Verbs: []string{"get"}, Clusters: &v1alpha1.ClusterMatch{Names: []v1alpha1.Pattern{"dev"}}}, grantInput(), false},
		"EmptySelector":  {"An empty selector matches all, as everywhere in Kubernetes.", &v1alpha1.GuardrailMatch{Clusters: &v1alpha1.ClusterMatch{Selector: &metav1.LabelSelector{}}}, grantInput(), true},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			m, err := guardrail.NewMatch(tc.match)
			if err != nil {
				t.Fatal(err)
			}
			if got := m.Matches(tc.in); got != tc.want {
				t.Errorf("%s Got %t, want %t.", tc.reason, got, tc.want)
			}
		})
	}
	if _, err := guardrail.NewMatch(&v1alpha1.GuardrailMatch{Clusters: &v1alpha1.ClusterMatch{Selector: &metav1.LabelSelector{
		MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "a", Operator: "Near"}},
	}}}); err == nil {
		t.Error("a selector that cannot be read is taken")
	}
}

func TestBoth(t *testing.T) {
	match := func(verb string) guardrail.Match {
		m, err := guardrail.NewMatch(&v1alpha1.GuardrailMatch{Verbs: []string{verb}})
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	yes, no := match("get"), match("delete")
	for name, tc := range map[string]struct {
		match guardrail.Match
		want  bool
	}{
		"Both":    {guardrail.Both(yes, yes), true},
		"First":   {guardrail.Both(yes, no), false},
		"Second":  {guardrail.Both(no, yes), false},
		"Nothing": {guardrail.Both(guardrail.Match{}, guardrail.Match{}), true},
		"Nested":  {guardrail.Both(guardrail.Both(yes, no), yes), false},
	} {
		if got := tc.match.Matches(grantInput()); got != tc.want {
			t.Errorf("%s: %t, want %t", name, got, tc.want)
		}
	}
	if !yes.Matches(grantInput()) {
		t.Error("a match has changed by having been made part of another")
	}
}

func TestPattern(t *testing.T) {
	for pattern, names := range map[string]map[string]bool{
		"":      {"": true, "a": false},
		"*":     {"": true, "a": true},
		"a*":    {"a": true, "ab": true, "ba": false},
		"*a":    {"a": true, "ba": true, "ab": false},
		"a*a":   {"aa": true, "aba": true, "a": false},
		"a*b*c": {"abc": true, "aXbYc": true, "acb": false, "ac": false},
		"a.c":   {"a.c": true, "abc": false},
	} {
		for name, want := range names {
			if got := guardrail.NewPattern(v1alpha1.Pattern(pattern)).Matches(name); got != want {
				t.Errorf("%q matches %q: %t, want %t", pattern, name, got, want)
			}
		}
	}
}

func TestDigest(t *testing.T) {
	a, b := rail("a", says{}), rail("b", says{})
	digest := func(o guardrail.Options, x []guardrail.Exception, g ...*guardrail.Guardrail) string {
		return guardrail.NewSet(g, x, o).Digest()
	}
	same := digest(guardrail.Options{}, nil, a, b)
	if digest(guardrail.Options{}, nil, b, a) != same {
		t.Error("the digest depends on the order")
	}
	changed := *a
	changed.Digest = "other"
	for name, other := range map[string]string{
		"guardrail": digest(guardrail.Options{}, nil, &changed, b),
		"fewer":     digest(guardrail.Options{}, nil, a),
		"exception": digest(guardrail.Options{}, []guardrail.Exception{exception("e", "a", "g", 0, time.Minute)}, a, b),
		"option":    digest(guardrail.Options{RequireCeiling: true}, nil, a, b),
	} {
		if other == same {
			t.Errorf("%s: the digest is the same", name)
		}
	}
}

// counting counts how often it is asked.
type counting struct {
	says
	asked *int
}

func (c counting) Check(in *guardrail.Input) ([]guardrail.Violation, error) {
	*c.asked++
	return c.says.Check(in)
}

func TestJudgeAgain(t *testing.T) {
	tests := map[string]struct {
		reason string
		says   says
		want   int
	}{
		"Passed":   {"What passed is not evaluated again.", says{}, 1},
		"Objected": {"Nor is what objected.", objects("no"), 1},
		"Timed":    {"What looks at the instant is.", says{timed: true}, 2},
		"Failed":   {"What could not be evaluated is: it may be able to now.", says{err: errors.New("no")}, 2},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			asked := 0
			g := rail("a", counting{tc.says, &asked})
			in := grantInput()
			first, answers := guardrail.NewSet([]*guardrail.Guardrail{g}, nil, guardrail.Options{}).JudgeAgain(guardrail.Compile, in, nil)
			// Another guardrail and an exception make another Set.
			set := guardrail.NewSet([]*guardrail.Guardrail{g, rail("b", says{})}, []guardrail.Exception{exception("e", "a", "oncall", 0, time.Minute)}, guardrail.Options{})
			second, _ := set.JudgeAgain(guardrail.Compile, in, answers)
			if asked != tc.want {
				t.Errorf("%s Asked %d times, want %d.", tc.reason, asked, tc.want)
			}
			if diff := cmp.Diff(set.Judge(guardrail.Compile, in), second); diff != "" {
				t.Errorf("judged again it is another judgement (-Judge +JudgeAgain):\n%s", diff)
			}
			if len(first.Reasons) > 0 && first.Reasons[0].Exception != "" {
				t.Error("the first judgement has changed")
			}
		})
	}
}
