// Package ceiling decides whether a grant stays below the most that its namespace
// may grant.
//
// Rules are compared by the algorithm with which Kubernetes keeps people from
// granting what they do not have: Covers of k8s.io/component-helpers. Each
// combination of verb, group, resource and name that the grant gives has to be
// covered by one rule of the ceiling, and a star in the grant only by a star in
// the ceiling, whatever exists today.
//
// Three verbs give more than they seem to: who has escalate, bind or impersonate
// has whatever can be had. Here the ceiling is stricter than Kubernetes.
//
//   - A verb escalate, bind or impersonate, or one of the constrained forms
//     impersonate:MODE and impersonate-on:MODE:VERB, is covered only by a rule that
//     spells it out, in the same words; never by the verb *.
//   - The verb * of a grant gives these verbs too. It is covered by a rule with the
//     verb *, where the ceiling also spells out those that mean something on the
//     resource: escalate and bind on roles and clusterroles; impersonate on users,
//     groups and service accounts of the core group, and on all that
//     authentication.k8s.io has of an identity. So a * on pods is covered by a * on
//     pods, and a * on * is not covered by a * on *. The constrained forms give
//     less than impersonate, which here stands for them; on other resources they
//     are of no use without it.
//
// A role that exists on members is covered by its name alone, since only the
// member knows its rules. A pattern does not come upon the most powerful by
// accident: cluster-admin is matched by its name in full, and a name that begins
// with system: by a pattern that begins so.
//
// Nothing here can aggregate a role to another: the compiler gives what it
// delivers labels of its own and no others. A grant that carries such a label is
// refused, because whoever wrote it believes otherwise.
package ceiling

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
	"github.com/sallyport-dev/sallyport/internal/core/rules"
)

// Compile a ceiling.
func Compile(at *field.Path, c *v1alpha1.Ceiling) (guardrail.Check, field.ErrorList) {
	if errs := problems(at, c); len(errs) > 0 {
		return nil, errs
	}
	clusters, err := guardrail.NewClusters(c.Clusters)
	if err != nil {
		return nil, field.ErrorList{field.Invalid(at.Child("clusters"), field.OmitValueType{}, err.Error())}
	}
	out := &check{
		rules:         rules.Of(c.Rules),
		anyNamespace:  c.Namespaces == nil,
		namespaces:    guardrail.Patterns(c.Namespaces),
		clusters:      clusters,
		anySubject:    c.Subjects == nil,
		subjects:      guardrail.NewSubjects(c.Subjects),
		boundedInTime: c.MaxDuration != nil,
	}
	out.spelled = spelled(out.rules)
	for _, r := range c.Roles {
		out.roles = append(out.roles, role{r.Kind, r.Name, guardrail.NewPattern(r.Name)})
	}
	if c.MaxDuration != nil {
		out.longest = c.MaxDuration.Duration
	}
	return out, nil
}

// problems that the API server refuses, for ceilings that come another way. An
// empty list, which allows nothing, would be taken for an absent one, which
// allows everything, by whoever reads it again.
func problems(at *field.Path, c *v1alpha1.Ceiling) (errs field.ErrorList) {
	for i := range c.Rules {
		if p := rules.Problem(c.Rules[i : i+1]); p != "" {
			errs = append(errs, field.Invalid(at.Child("rules").Index(i), field.OmitValueType{}, p))
		}
	}
	if c.Namespaces != nil && len(c.Namespaces) == 0 {
		errs = append(errs, field.Required(at.Child("namespaces"), "an empty list allows nothing: leave it out to allow all"))
	}
	if c.Subjects != nil && len(c.Subjects) == 0 {
		errs = append(errs, field.Required(at.Child("subjects"), "an empty list allows nobody: leave it out to allow all"))
	}
	if c.Clusters != nil {
		errs = append(errs, metavalidation.ValidateLabelSelector(c.Clusters.Selector, metavalidation.LabelSelectorValidationOptions{}, at.Child("clusters", "selector"))...)
	}
	if c.MaxDuration != nil && c.MaxDuration.Duration <= 0 {
		errs = append(errs, field.Invalid(at.Child("maxDuration"), c.MaxDuration.Duration.String(), "must be positive"))
	}
	return errs
}

// check is a ceiling. The zero check lets no access pass.
type check struct {
	// rules of the ceiling, and what they say of special verbs.
	rules, spelled []rbacv1.PolicyRule
	roles          []role
	anyNamespace   bool
	namespaces     []guardrail.Pattern
	clusters       guardrail.Clusters
	anySubject     bool
	subjects       guardrail.Subjects
	boundedInTime  bool
	longest        time.Duration
}

// Timed reports whether the ceiling bounds the validity, which is measured from
// the instant for a grant that has no notBefore.
func (c *check) Timed() bool { return c.boundedInTime }

// Check tells what a grant gives beyond the ceiling.
func (c *check) Check(in *guardrail.Input) ([]guardrail.Violation, error) {
	if in.Grant == nil {
		return nil, errors.New("a ceiling judges grants, and there is none")
	}
	o := &objections{of: fmt.Sprintf("the ceiling of namespace %q", in.Grant.Metadata.Namespace)}
	left := maxComparisons
	for i, asked := range demands(in) {
		a := in.Access[i]
		if a.Known {
			c.checkRules(o, a, asked, &left)
		} else {
			c.checkRole(o, a)
		}
		c.checkScope(o, a)
	}
	c.checkClusters(o, in.Clusters)
	c.checkSubjects(o, in.Grant.Spec.Subjects)
	c.checkValidity(o, in.Grant.Spec.Validity, in.Now)
	checkLabels(o, in.Grant.Metadata.Labels)
	return o.list, nil
}

func (c *check) checkRules(o *objections, a *guardrail.Access, asked []demand, left *int) {
	var missing []rbacv1.PolicyRule
	for i := range asked {
		owners := c.rules
		if asked[i].spelled {
			owners = c.spelled
		}
		rest, ok := asked[i].uncovered(owners, left)
		if !ok {
			o.add(a.Field, "gives more combinations of verbs, groups, resources and names than can be compared with %s: write rules that each are within one of its rules", o.of)
			return
		}
		missing = append(missing, rest...)
	}
	if len(missing) > 0 {
		o.add(a.Field, "gives more than %s: %s", o.of, list(describe(missing), "; "))
	}
}

// role is a pattern for roles of members.
type role struct {
	kind    v1alpha1.RoleKind
	spelled v1alpha1.Pattern
	name    guardrail.Pattern
}

const (
	clusterAdmin = "cluster-admin"
	systemPrefix = "system:"
)

func (r *role) matches(ref *guardrail.RoleRef) bool {
	switch {
	case ref == nil || string(r.kind) != ref.Kind:
		return false
	case ref.Name == clusterAdmin:
		return r.spelled == clusterAdmin
	case strings.HasPrefix(ref.Name, systemPrefix) && !strings.HasPrefix(string(r.spelled), systemPrefix):
		return false
	}
	return r.name.Matches(ref.Name)
}

func (c *check) checkRole(o *objections, a *guardrail.Access) {
	if slices.ContainsFunc(c.roles, func(r role) bool { return r.matches(a.Role) }) {
		return
	}
	if a.Role == nil {
		o.add(a.Field, "gives what is not known to be within %s", o.of)
		return
	}
	o.add(a.Field, "gives %s %q, whose rules only the member knows and whose name is not in %s", a.Role.Kind, a.Role.Name, o.of)
}

func (c *check) checkScope(o *objections, a *guardrail.Access) {
	switch {
	case c.anyNamespace:
		return
	case a.ClusterWide || len(a.Namespaces) == 0:
		o.add(a.Field, "gives access cluster-wide, and %s allows it in namespaces only", o.of)
		return
	}
	var outside []string
	for _, ns := range a.Namespaces {
		if !slices.ContainsFunc(c.namespaces, func(p guardrail.Pattern) bool { return p.Matches(ns) }) {
			outside = append(outside, fmt.Sprintf("%q", ns))
		}
	}
	if len(outside) > 0 {
		o.add(a.Field+".namespaces", "gives access in %s, where %s does not allow it", list(sorted(outside), ", "), o.of)
	}
}

func (c *check) checkClusters(o *objections, clusters []*guardrail.Cluster) {
	var outside []string
	for _, cl := range clusters {
		if !c.clusters.Matches(cl) {
			outside = append(outside, fmt.Sprintf("%q", cl.Name))
		}
	}
	if len(outside) > 0 {
		o.add("spec.clusters", "gives access on %s, where %s does not allow it", list(sorted(outside), ", "), o.of)
	}
}

func (c *check) checkSubjects(o *objections, subjects []v1alpha1.Subject) {
	if c.anySubject {
		return
	}
	var outside []string
	for _, s := range subjects {
		if !c.subjects.Match(s) {
			name := s.Name
			if s.Namespace != "" {
				name = s.Namespace + "/" + name
			}
			outside = append(outside, fmt.Sprintf("%s %q", s.Kind, name))
		}
	}
	if len(outside) > 0 {
		o.add("spec.subjects", "gives access to %s, to whom %s does not allow it", list(sorted(outside), ", "), o.of)
	}
}

// checkValidity says nothing that changes from one instant to the next while the
// answer does not.
func (c *check) checkValidity(o *objections, v *v1alpha1.Validity, now time.Time) {
	const end = "spec.validity.notAfter"
	switch {
	case !c.boundedInTime:
	case v == nil || v.NotAfter == nil:
		o.add(end, "has no end, and %s allows %s", o.of, c.longest)
	case v.NotBefore == nil && v.NotAfter.Sub(now) > c.longest:
		o.add(end, "ends more than %s from now, which is what %s allows without a notBefore", c.longest, o.of)
	case v.NotBefore != nil && v.NotAfter.Sub(v.NotBefore.Time) > c.longest:
		o.add(end, "ends %s after notBefore, and %s allows %s", v.NotAfter.Sub(v.NotBefore.Time), o.of, c.longest)
	}
}

// aggregates begins the labels by which Kubernetes adds a role to others.
const aggregates = rbacv1.GroupName + "/aggregate-to-"

func checkLabels(o *objections, labels map[string]string) {
	for _, key := range slices.Sorted(maps.Keys(labels)) {
		if strings.HasPrefix(key, aggregates) {
			o.add("metadata.labels", "has the label %s, by which no grant adds to another role", plain(key))
		}
	}
}
