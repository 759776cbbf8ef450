package lint

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/internal/core/compile"
	"github.com/sallyport-dev/sallyport/internal/core/fleet"
	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
	"github.com/sallyport-dev/sallyport/internal/core/subject"
	"github.com/sallyport-dev/sallyport/internal/inventory"
	"github.com/sallyport-dev/sallyport/internal/policy"
	"github.com/sallyport-dev/sallyport/internal/policy/examples"
)

// judge is one run of the evaluator over what was read.
type judge struct {
	*read
	now            time.Time
	requireCeiling bool
	// bundled are the guardrails of bundles, and the names of these.
	bundled []*guardrail.Guardrail
	bundles map[string]bool

	fleet      *fleet.Fleet
	placements map[types.NamespacedName][]string
	compiled   map[*object]*guardrail.Guardrail
}

func (j *judge) tell(f finding) { j.findings = append(j.findings, f) }

// all judges every grant.
func (j *judge) all() error {
	j.compiled = map[*object]*guardrail.Guardrail{}
	for _, o := range j.of(v1alpha1.GuardrailKind) {
		j.compiled[o] = j.compile(o)
	}
	if err := j.readFleet(); err != nil {
		return err
	}
	for _, w := range j.worlds() {
		j.judge(w)
	}
	for _, o := range j.of(v1alpha1.GuardrailBundleKind) {
		if !j.bundles[o.name] {
			j.tell(o.finding(warning, "", "its guardrails are not in the repository; without --bundle %s=FILE they are not asked", o.name))
		}
	}
	slices.SortStableFunc(j.findings, func(a, b finding) int { return a.compare(&b) })
	j.findings = slices.CompactFunc(j.findings, func(a, b finding) bool { return a.same(&b) })
	return nil
}

// of a kind, in all builds.
func (j *judge) of(kind string) (out []*object) {
	for _, o := range j.objects {
		if o.kind == kind {
			out = append(out, o)
		}
	}
	return out
}

// count of a kind, by name.
func (j *judge) count(kind string) int {
	names := map[string]struct{}{}
	for _, o := range j.of(kind) {
		names[o.label()] = struct{}{}
	}
	return len(names)
}

func (j *judge) compile(o *object) *guardrail.Guardrail {
	g, errs := policy.Compile(o.name, &o.typed.(*v1alpha1.Guardrail).Spec, policy.Options{})
	for _, e := range examples.Problems(o.doc, o.within, errs) {
		j.tell(finding{severity: invalid, place: cmp.Or(e.Place, o.at), build: o.build, object: o.label(), field: e.Field, message: e.Err.Error()})
	}
	return g
}

// readFleet from what was read. Where there is no cluster in it, those that grants
// name are taken for members of which nothing is known.
func (j *judge) readFleet() error {
	hub, err := newOffline(j.read.fleet)
	if err != nil {
		return err
	}
	j.placements = map[types.NamespacedName][]string{}
	if knowsClusters(j.read.fleet) {
		inv := inventory.New(hub, inventory.Options{ProfileNamespaces: hub.profileNamespaces()})
		f, problems, err := inv.Fleet(context.Background())
		if err != nil {
			return err
		}
		for _, p := range problems {
			j.tell(finding{severity: warning, message: p.String()})
		}
		members := slices.Clone(f.Members())
		for i := range members {
			if members[i].Delivery == fleet.None {
				// Kubeconfigs, by which it may be delivered to, are not in files.
				members[i].Delivery, members[i].Paths = fleet.Direct, subject.Gateway
			}
		}
		j.fleet = fleet.New(members)
		j.placements, err = inv.Placements(context.Background())
		return err
	}
	var members []fleet.Member
	for _, o := range j.of(v1alpha1.AccessGrantKind) {
		for _, name := range o.typed.(*v1alpha1.AccessGrant).Spec.Clusters.Names {
			members = append(members, fleet.Member{Name: string(name), Accepted: true, Delivery: fleet.Direct, Paths: subject.Gateway})
		}
	}
	j.fleet = fleet.New(members)
	if j.count(v1alpha1.AccessGrantKind) > 0 && len(j.compiled)+len(j.bundled) > 0 {
		j.tell(finding{severity: warning, message: "no fleet is known: clusters that grants select by labels or placement are not judged, and guardrails see no labels and claims of those that are named; --fleet gives them"})
	}
	return nil
}

// world is what one hub may hold: a repository can have overlays for several.
type world struct {
	objects []*object
	grants  []*object
}

// worlds of the repository: one, unless builds have different objects of one name.
// Then each build is one, with what else there is beside it.
func (j *judge) worlds() []world {
	variants := map[string][]*object{}
	var builds []string
	differ := false
	for _, o := range j.objects {
		if !slices.Contains(builds, o.build) {
			builds = append(builds, o.build)
		}
		of := variants[o.label()]
		differ = differ || len(of) > 0 && !reflect.DeepEqual(of[0].content, o.content)
		variants[o.label()] = append(of, o)
	}
	slices.Sort(builds)
	if !differ {
		builds = builds[:min(len(builds), 1)]
	}
	var out []world
	for _, build := range builds {
		var w world
		for _, label := range slices.Sorted(maps.Keys(variants)) {
			all := variants[label]
			i := max(0, slices.IndexFunc(all, func(o *object) bool { return o.build == build }))
			w.objects = append(w.objects, all[i])
			if o := all[i]; o.kind == v1alpha1.AccessGrantKind && (!differ || o.build == build) {
				w.grants = append(w.grants, o)
			}
		}
		out = append(out, w)
	}
	return out
}

// judge a world.
func (j *judge) judge(w world) {
	s := compile.Snapshot{
		Roles: map[string]*v1alpha1.AccessRoleSpec{}, Fleet: j.fleet, Placements: j.placements, Now: j.now,
		Point: guardrail.Plan, Namespaces: map[string]map[string]string{},
	}
	guardrails := slices.Clone(j.bundled)
	exceptions := map[string]*object{} // by namespace/name
	var excused []guardrail.Exception
	for _, o := range w.objects {
		if o.invalid && o.kind == v1alpha1.GuardrailExceptionKind { // the others are what they would be, as far as they go
			continue
		}
		switch typed := o.typed.(type) {
		case *v1alpha1.AccessRole:
			s.Roles[o.name] = &typed.Spec
		case *v1alpha1.Guardrail:
			guardrails = append(guardrails, j.compiled[o])
		case *v1alpha1.GuardrailException:
			exceptions[o.namespace+"/"+o.name] = o
			excused = append(excused, exceptionOf(o))
		case nil:
			u := unstructured.Unstructured{Object: o.content}
			s.Namespaces[o.name] = u.GetLabels()
		}
	}
	s.Guardrails = guardrail.NewSet(guardrails, excused, guardrail.Options{RequireCeiling: j.requireCeiling})
	grants := map[string]*object{}
	for _, o := range w.grants {
		if o.invalid {
			continue
		}
		g := o.typed.(*v1alpha1.AccessGrant)
		grants[o.namespace+"/"+o.name] = o
		s.Grants = append(s.Grants, compile.Grant{Namespace: o.namespace, Name: o.name, Spec: &g.Spec, Labels: g.Labels, Annotations: g.Annotations})
	}
	for _, r := range askAgain(s) {
		j.tellResult(grants[r.Grant], &r, exceptions)
	}
	for _, key := range slices.Sorted(maps.Keys(exceptions)) {
		j.checkException(exceptions[key], &w, s.Guardrails)
	}
}

// askAgain compiles a snapshot. Who cannot be judged is judged again, by themselves: a
// deadline that was missed on a busy machine says nothing of the grant.
func askAgain(s compile.Snapshot) []compile.Result {
	out := compile.Judge(s)
	of := map[string]int{}
	for i := range out {
		of[out[i].Grant] = i
	}
	for range retries {
		s.Grants = slices.DeleteFunc(slices.Clone(s.Grants), func(g compile.Grant) bool {
			return !slices.ContainsFunc(out[of[g.Key()]].Judgement.Reasons, func(r guardrail.Reason) bool { return r.Failed })
		})
		if len(s.Grants) == 0 {
			break
		}
		for _, r := range compile.Judge(s) {
			out[of[r.Grant]] = r
		}
	}
	return out
}

const retries = 2

func (j *judge) tellResult(o *object, r *compile.Result, exceptions map[string]*object) {
	if r.Phase == compile.Expired {
		j.tell(o.finding(warning, "spec.validity.notAfter", "has expired, gives nothing and is not judged"))
	}
	for i := range r.Rejections {
		j.tell(rejected(o, &r.Rejections[i]))
	}
	for i := range r.Judgement.Reasons {
		reason := &r.Judgement.Reasons[i]
		f := finding{place: o.place(reason.Field), build: o.build, object: o.label(), field: reason.Field, reason: reason}
		switch {
		case reason.Exception != "":
			f.severity = note
			if e := exceptions[o.namespace+"/"+reason.Exception]; e != nil {
				f.until = " until " + exceptionOf(e).NotAfter.UTC().Format(time.RFC3339)
			}
		case reason.Enforcement == v1alpha1.EnforcementAudit:
			f.severity = note
		case reason.Enforcement == v1alpha1.EnforcementWarn:
			f.severity = warning
		case reason.Failed:
			f.severity = invalid
		}
		j.tell(f)
	}
}

var fieldOfRejection = regexp.MustCompile(`^(access\[\d+\]|clusters\.selector): `)

// rejected is what the compiler does not take. What depends on the state of the hub
// is for it to say, and no fault of the repository.
func rejected(o *object, r *compile.Rejection) finding {
	s := invalid
	switch r.Reason {
	case v1alpha1.FailureUnknownPlacement, v1alpha1.FailureNotAccepted, v1alpha1.FailureNoDelivery, v1alpha1.FailureUnknownRules:
		s = warning
	}
	field, message := "", r.Message
	switch found := fieldOfRejection.FindStringSubmatch(r.Message); {
	case found != nil:
		field, message = "spec."+found[1], strings.TrimPrefix(r.Message, found[0])
	case r.Cluster != "":
		names := o.typed.(*v1alpha1.AccessGrant).Spec.Clusters.Names
		field, message = "spec.clusters", fmt.Sprintf("cluster %q: %s", r.Cluster, r.Message)
		if i := slices.Index(names, v1alpha1.ClusterName(r.Cluster)); i >= 0 {
			field = fmt.Sprintf("spec.clusters.names[%d]", i)
		}
	case r.Reason == v1alpha1.FailureUnknownPlacement:
		field = "spec.clusters.placementRef"
		message += ": the clusters that it chooses are not judged, unless --fleet has its PlacementDecisions"
	case strings.HasPrefix(r.Message, "subject "):
		field = "spec.subjects"
	}
	return o.finding(s, field, "%s", message)
}

func exceptionOf(o *object) guardrail.Exception {
	e := o.typed.(*v1alpha1.GuardrailException)
	return guardrail.Exception{
		Namespace: o.namespace, Name: o.name, Guardrail: e.Spec.Guardrail, Grant: e.Spec.Grant,
		NotBefore: e.Spec.NotBefore.Time, NotAfter: e.Spec.NotAfter.Time,
	}
}

// checkException says, in the words of admission, why one is not honoured.
func (j *judge) checkException(o *object, w *world, set *guardrail.Set) {
	e := exceptionOf(o)
	if !e.NotBefore.Before(e.NotAfter) {
		j.tell(o.finding(invalid, "spec.notAfter", "must be later than notBefore"))
		return
	}
	known := false
	for _, g := range set.Guardrails() {
		if g.Name != e.Guardrail {
			continue
		}
		known = true
		switch {
		case g.Exceptions.Longest <= 0:
			j.tell(o.finding(invalid, "spec.guardrail", "guardrail %q allows no exceptions", g.Name))
		case !g.Exceptions.Honour(&e):
			j.tell(o.finding(invalid, "spec.notAfter", "guardrail %q honours exceptions of at most %s from notBefore to notAfter, and this one is of %s",
				g.Name, g.Exceptions.Longest, e.NotAfter.Sub(e.NotBefore)))
		}
	}
	if !known {
		j.tell(o.finding(warning, "spec.guardrail", "there is no guardrail %q", e.Guardrail))
	}
	if !slices.ContainsFunc(w.objects, func(g *object) bool {
		return g.kind == v1alpha1.AccessGrantKind && g.namespace == e.Namespace && g.name == e.Grant
	}) {
		j.tell(o.finding(warning, "spec.grant", "there is no grant %q in namespace %q", e.Grant, e.Namespace))
	}
	if !j.now.Before(e.NotAfter) {
		j.tell(o.finding(warning, "spec.notAfter", "has expired: take it out"))
	}
}
