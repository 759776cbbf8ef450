package guardrail

import (
	"fmt"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
)

// Match says of which inputs a guardrail is asked. The zero Match is all of them.
// Where it cannot be told whether a part matches, it does.
type Match struct {
	namespaces, clusters *named
	subjects             Subjects
	verbs                []string
	and                  []Match
}

// Both matches what both match.
func Both(a, b Match) Match {
	a.and = append(slices.Clip(a.and), b)
	return a
}

// named matches what has one of the names or the labels.
type named struct {
	names  []Pattern
	labels labels.Selector // nil matches nothing
}

func newNamed(names []v1alpha1.Pattern, selector *metav1.LabelSelector) (*named, error) {
	n := &named{names: Patterns(names)}
	if selector != nil {
		var err error
		if n.labels, err = metav1.LabelSelectorAsSelector(selector); err != nil {
			return nil, fmt.Errorf("selector: %w", err)
		}
	}
	return n, nil
}

func (n *named) matches(name string, of map[string]string) bool {
	return slices.ContainsFunc(n.names, func(p Pattern) bool { return p.Matches(name) }) ||
		n.labels != nil && n.labels.Matches(labels.Set(of))
}

// NewMatch reads a match of the API; nil matches everything.
func NewMatch(m *v1alpha1.GuardrailMatch) (Match, error) {
	var out Match
	if m == nil {
		return out, nil
	}
	var err error
	if n := m.Namespaces; n != nil {
		if out.namespaces, err = newNamed(n.Names, n.Selector); err != nil {
			return Match{}, fmt.Errorf("match.namespaces.%w", err)
		}
	}
	if out.clusters, err = newClusters(m.Clusters); err != nil {
		return Match{}, fmt.Errorf("match.clusters.%w", err)
	}
	out.subjects = NewSubjects(m.Subjects)
	out.verbs = slices.Clone(m.Verbs)
	return out, nil
}

func newClusters(m *v1alpha1.ClusterMatch) (*named, error) {
	if m == nil {
		return nil, nil
	}
	return newNamed(m.Names, m.Selector)
}

// Clusters matches clusters by name and labels. Nil matches all.
type Clusters struct{ named *named }

// NewClusters reads a match of clusters of the API; nil matches all.
func NewClusters(m *v1alpha1.ClusterMatch) (Clusters, error) {
	n, err := newClusters(m)
	return Clusters{n}, err
}

// Matches reports whether a cluster is matched.
func (c Clusters) Matches(cluster *Cluster) bool {
	return c.named == nil || c.named.matches(cluster.Name, cluster.Labels)
}

// Matches reports whether each part matches the input.
func (m *Match) Matches(in *Input) bool {
	return m.matchesNamespace(in) && m.matchesClusters(in) && m.matchesSubjects(in) && m.matchesVerbs(in) &&
		!slices.ContainsFunc(m.and, func(o Match) bool { return !o.Matches(in) })
}

func (m *Match) matchesNamespace(in *Input) bool {
	switch {
	case m.namespaces == nil:
		return true
	case in.Namespace != nil:
		// A namespace that exists has labels; where there are none, nobody knows them.
		return m.namespaces.matches(in.Namespace.Name, in.Namespace.Labels) || in.Namespace.Labels == nil && m.namespaces.labels != nil
	case in.Request == nil || len(in.Grants) == 0:
		return true // it cannot be told
	}
	return slices.ContainsFunc(in.Grants, func(g *GrantInfo) bool { return m.namespaces.matches(g.Namespace, g.NamespaceLabels) })
}

func (m *Match) matchesClusters(in *Input) bool {
	switch {
	case m.clusters == nil:
		return true
	case in.Request != nil:
		// One that is not in the fleet has labels that nobody knows.
		c := in.Request.Cluster
		return c == nil || m.clusters.matches(c.Name, c.Labels) || c.Labels == nil && m.clusters.labels != nil
	}
	return slices.ContainsFunc(in.Clusters, func(c *Cluster) bool { return m.clusters.matches(c.Name, c.Labels) })
}

func (m *Match) matchesSubjects(in *Input) bool {
	switch {
	case m.subjects == nil:
		return true
	case in.Request != nil:
		return m.subjects.MatchUser(&in.Request.User)
	case in.Grant == nil:
		return true
	}
	return slices.ContainsFunc(in.Grant.Spec.Subjects, m.subjects.Match)
}

func (m *Match) matchesVerbs(in *Input) bool {
	switch {
	case m.verbs == nil:
		return true
	case in.Request != nil:
		return m.gives(in.Request.Verb)
	}
	return slices.ContainsFunc(in.Access, func(a *Access) bool {
		if !a.Known {
			return true
		}
		for i := range a.Rules {
			if slices.ContainsFunc(a.Rules[i].Verbs, m.gives) {
				return true
			}
		}
		return false
	})
}

// gives reports whether a verb, or every verb, is one of those that are matched.
func (m *Match) gives(verb string) bool {
	return verb == "*" || slices.Contains(m.verbs, verb) || slices.Contains(m.verbs, "*")
}

// Subjects matches subjects. A nil Subjects matches none.
type Subjects []subjectPattern

type subjectPattern struct {
	kind            v1alpha1.SubjectKind
	name, namespace Pattern
}

// NewSubjects reads subject patterns of the API.
func NewSubjects(in []v1alpha1.SubjectPattern) Subjects {
	if in == nil {
		return nil
	}
	out := make(Subjects, 0, len(in))
	for _, s := range in {
		p := subjectPattern{kind: s.Kind, name: anything, namespace: anything}
		if s.Name != "" {
			p.name = NewPattern(s.Name)
		}
		if s.Namespace != "" {
			p.namespace = NewPattern(s.Namespace)
		}
		out = append(out, p)
	}
	return out
}

// Match reports whether a subject of a grant is matched.
func (s Subjects) Match(sub v1alpha1.Subject) bool {
	return slices.ContainsFunc(s, func(p subjectPattern) bool {
		return p.kind == sub.Kind && p.name.Matches(sub.Name) && p.namespace.Matches(sub.Namespace)
	})
}

// MatchUser reports whether a user, one of the user's groups, or the service
// account that the user is, is matched.
func (s Subjects) MatchUser(u *User) bool {
	return slices.ContainsFunc(s, func(p subjectPattern) bool {
		switch p.kind {
		case v1alpha1.GroupSubject:
			return slices.ContainsFunc(u.Groups, p.name.Matches)
		case v1alpha1.ServiceAccountSubject:
			rest, ok := strings.CutPrefix(u.Name, "system:serviceaccount:")
			namespace, name, _ := strings.Cut(rest, ":")
			return ok && p.namespace.Matches(namespace) && p.name.Matches(name)
		case v1alpha1.UserSubject:
			return p.name.Matches(u.Name)
		}
		return true // it cannot be told
	})
}
