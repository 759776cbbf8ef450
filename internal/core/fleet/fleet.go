// Package fleet describes the member clusters that grants can select: an
// immutable list, merged from whatever inventories the hub has.
package fleet

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"github.com/sallyport-dev/sallyport/internal/core/subject"
)

// Delivery is how objects get to a member. A lower value is preferred where two
// inventories know the same cluster.
type Delivery uint8

// The ways of delivery. The zero value delivers nothing.
const (
	None Delivery = iota
	// ManifestWork is carried by Open Cluster Management's work agent.
	ManifestWork
	// KarmadaWork is carried by Karmada's execution controller.
	KarmadaWork
	// Direct is a server-side apply with a kubeconfig.
	Direct
)

// String names the delivery as users know it.
func (d Delivery) String() string {
	switch d {
	case ManifestWork:
		return "ManifestWork"
	case KarmadaWork:
		return "Work"
	case Direct:
		return "Direct"
	}
	return "None"
}

// Availability is what the inventory says of a member's health.
type Availability uint8

// The zero value is Unknown.
const (
	Unknown Availability = iota
	Available
	Unavailable
)

// Taint is a taint that the inventory puts on a member. Taints steer placement;
// they take no access away, since a member that is merely unreachable would
// otherwise be revoked.
type Taint struct{ Key, Value, Effect string }

// Issuer of an impersonator's tokens.
type Issuer uint8

// The issuers. The zero value issues nothing.
const (
	NoIssuer Issuer = iota
	// KarmadaSecret: Karmada has the token in a Secret on the hub.
	KarmadaSecret
	// ManagedServiceAccount: Open Cluster Management's add-on of that name makes the
	// account, and brings its token.
	ManagedServiceAccount
	// TokenRequest: the member is asked, with the kubeconfig in Secret.
	TokenRequest
)

// String names the issuer as it is told.
func (i Issuer) String() string {
	switch i {
	case KarmadaSecret:
		return "KarmadaSecret"
	case ManagedServiceAccount:
		return "ManagedServiceAccount"
	case TokenRequest:
		return "TokenRequest"
	}
	return "None"
}

// Member is one cluster of the fleet. It is not changed once it is in a Fleet.
type Member struct {
	Name   string
	Labels map[string]string
	// Claims are facts that the cluster states about itself.
	Claims map[string]string
	Taints []Taint
	// Accepted is false for a cluster that asked to join and has not been let in.
	// It is given nothing.
	Accepted     bool
	Availability Availability
	Delivery     Delivery
	// Paths by which people's requests reach the member.
	Paths subject.Path
	// Impersonator is the one service account on the member by which proxies
	// impersonate people, Karmada's and Sallyport's gateway alike. It is empty where
	// there is none, and then nobody is impersonated.
	Impersonator types.NamespacedName
	// Issuer is where the gateway has the Impersonator's tokens from.
	Issuer Issuer
	// ExtraKeys are the keys by which the gateway tells the member of a person's extra,
	// beside Kubernetes' own.
	ExtraKeys []string
	// Secret holds a kubeconfig of the member, in Sallyport's namespace, if there is
	// one; a Direct member is delivered to with it.
	Secret string
}

// Fleet is an immutable set of members, sorted by name. A nil Fleet is empty.
type Fleet struct {
	members []Member
	byName  map[string]int
}

// New merges what the inventories report. A cluster that several of them know by
// one name is one member: it is delivered to in the preferred way, described by
// the inventory that delivers, and reached by every path that any of them knows.
// It is accepted only if every inventory that knows it says so.
func New(reported []Member) *Fleet {
	sorted := slices.Clone(reported)
	slices.SortStableFunc(sorted, precedence)
	f := &Fleet{byName: make(map[string]int, len(sorted))}
	for _, m := range sorted {
		if m.Name == "" || m.Name == "*" {
			continue
		}
		i, known := f.byName[m.Name]
		if !known {
			f.byName[m.Name] = len(f.members)
			f.members = append(f.members, m)
			continue
		}
		first := &f.members[i]
		// Karmada's proxy comes as its own whatever else there is, and there is one.
		if first.Impersonator.Name == "" || m.Paths.Has(subject.Karmada) && !first.Paths.Has(subject.Karmada) && m.Impersonator.Name != "" {
			first.Impersonator, first.Issuer = m.Impersonator, m.Issuer
		}
		if len(first.ExtraKeys) == 0 { // all inventories have the same
			first.ExtraKeys = m.ExtraKeys
		}
		first.Paths |= m.Paths
		first.Accepted = first.Accepted && m.Accepted
		if first.Secret == "" {
			// What was delivered with it before has to be taken away with it.
			first.Secret = m.Secret
		}
	}
	return f
}

// precedence orders members by name, and those of one name by which of them
// describes the cluster. It leaves nothing that is compiled to the order in which
// they are reported: two kubeconfigs for one cluster must not take turns.
func precedence(a, b Member) int {
	return cmp.Or(
		strings.Compare(a.Name, b.Name),
		cmp.Compare(rank(a.Delivery), rank(b.Delivery)),
		strings.Compare(a.Secret, b.Secret),
		strings.Compare(a.Impersonator.String(), b.Impersonator.String()),
		strings.Compare(labels.Set(a.Labels).String(), labels.Set(b.Labels).String()),
	)
}

// rank puts None last: an inventory that only describes gives way to one that
// delivers.
func rank(d Delivery) Delivery { return d - 1 }

// Members in order of name. The slice is not to be changed.
func (f *Fleet) Members() []Member {
	if f == nil {
		return nil
	}
	return f.members
}

// Len is the number of members.
func (f *Fleet) Len() int { return len(f.Members()) }

// Index of the member with that name, and whether there is one.
func (f *Fleet) Index(name string) (int, bool) {
	if f == nil {
		return 0, false
	}
	i, ok := f.byName[name]
	return i, ok
}

// Get the member with that name.
func (f *Fleet) Get(name string) (Member, bool) {
	i, ok := f.Index(name)
	if !ok {
		return Member{}, false
	}
	return f.members[i], true
}

// Matching appends the indexes of the accepted members whose labels match.
func (f *Fleet) Matching(to []int, s labels.Selector) []int {
	for i := range f.Members() {
		if m := &f.members[i]; m.Accepted && s.Matches(labels.Set(m.Labels)) {
			to = append(to, i)
		}
	}
	return to
}

// Equal reports whether two fleets compile alike but for what guardrails make of
// claims: health, claims and taints are left out.
func (f *Fleet) Equal(g *Fleet) bool {
	return slices.EqualFunc(f.Members(), g.Members(), func(a, b Member) bool {
		return a.Name == b.Name && a.Accepted == b.Accepted && a.Delivery == b.Delivery &&
			a.Paths == b.Paths && a.Impersonator == b.Impersonator && slices.Equal(a.ExtraKeys, b.ExtraKeys) &&
			maps.Equal(a.Labels, b.Labels)
	})
}

// SameClaims reports whether two equal fleets make the same claims.
func (f *Fleet) SameClaims(g *Fleet) bool {
	return slices.EqualFunc(f.Members(), g.Members(), func(a, b Member) bool { return maps.Equal(a.Claims, b.Claims) })
}
