package compile

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/internal/core/fleet"
	"github.com/sallyport-dev/sallyport/internal/core/subject"
)

// everyPath is how a member is reached for which the most has to be delivered.
const everyPath = subject.Gateway | subject.Karmada | subject.ClusterProxy | subject.Impersonated

func oneMember(by subject.Path) *fleet.Fleet {
	return fleet.New([]fleet.Member{{Name: "m", Accepted: true, Delivery: fleet.ManifestWork, Paths: by, Impersonator: karmadaImpersonator}})
}

func grantOn(i int, subjects []v1alpha1.Subject, access ...v1alpha1.AccessEntry) Grant {
	return Grant{
		Namespace: fmt.Sprintf("team-%d-%s", i%7, strings.Repeat("n", 40)), Name: fmt.Sprintf("grant-%d", i), Source: fmt.Sprintf("GitSync s/s <%d>@sha1:%040d", i, i),
		Spec: &v1alpha1.AccessGrantSpec{
			Reason: "size", Subjects: subjects, Access: access,
			Clusters: v1alpha1.ClusterSelection{Names: []v1alpha1.ClusterName{"m"}},
		},
	}
}

func namesOf(n int, format string) []v1alpha1.NamespaceName {
	var out []v1alpha1.NamespaceName
	for i := range n {
		out = append(out, v1alpha1.NamespaceName(fmt.Sprintf(format, i)))
	}
	return out
}

// rulesOfSize are rules of about that many bytes, each with every verb.
func rulesOfSize(bytes, number int) []v1alpha1.PolicyRule {
	var out []v1alpha1.PolicyRule
	for size, i := 0, 0; size < bytes; i++ {
		r := v1alpha1.PolicyRule{Verbs: []string{"*"}, APIGroups: []string{""}, Resources: []string{fmt.Sprintf("r%d-%d-%s", number, i, strings.Repeat("r", 200))}}
		out, size = append(out, r), size+280
	}
	return out
}

func serviceAccounts(n, each int) []v1alpha1.Subject {
	var out []v1alpha1.Subject
	for i := range n {
		out = append(out, v1alpha1.Subject{Kind: "ServiceAccount", Namespace: fmt.Sprintf("ns-%d-%s", i/each, strings.Repeat("n", 50)), Name: fmt.Sprintf("sa-%d-%s", i, strings.Repeat("s", 240))})
	}
	return out
}

func people(kind v1alpha1.SubjectKind, n int, tail string) []v1alpha1.Subject {
	var out []v1alpha1.Subject
	for i := range n {
		out = append(out, v1alpha1.Subject{Kind: kind, Name: fmt.Sprintf("p%d%s", i, tail)})
	}
	return out
}

// TestWorksStayBelowTheLimit: design rule 7. The scenarios are what the API server
// lets through at most, and beyond.
func TestWorksStayBelowTheLimit(t *testing.T) {
	read := []v1alpha1.PolicyRule{{Verbs: []string{"get"}, APIGroups: []string{""}, Resources: []string{"pods"}}}
	team := v1alpha1.Subject{Kind: "Group", Name: "team"}
	cases := map[string]struct {
		reason string
		grants func() []Grant
		roles  map[string]*v1alpha1.AccessRoleSpec
		// wide is how many works there have to be at least, for the case to show
		// anything.
		wide int
	}{
		"ManyNamespaces": {
			reason: "256 namespaces for each of 15 entries, with long names, in each of four grants.",
			grants: func() []Grant {
				var out []Grant
				for n := range 4 {
					var entries []v1alpha1.AccessEntry
					for i := range 15 {
						entries = append(entries, v1alpha1.AccessEntry{Rules: rulesOfSize(100, 15*n+i), Namespaces: namesOf(256, "ns-%d-"+strings.Repeat("x", 56))})
					}
					out = append(out, grantOn(n, []v1alpha1.Subject{team, {Kind: "User", Name: "alice"}}, entries...))
				}
				return out
			},
			wide: 100,
		},
		"HugeRoles": {
			reason: "Ten roles as large as a role may be, each for a group.",
			grants: func() []Grant {
				var out []Grant
				for i := range 10 {
					out = append(out, grantOn(i, []v1alpha1.Subject{team}, v1alpha1.AccessEntry{Rules: rulesOfSize(90<<10, i), Namespaces: namesOf(3, "ns-%d")}))
				}
				return out
			},
			wide: 20,
		},
		"HugeRoleForVeryMany": {
			reason: "A large role for thousands of groups by hundreds of grants.",
			roles:  map[string]*v1alpha1.AccessRoleSpec{"huge": {Rules: rulesOfSize(90<<10, 0)}},
			grants: func() []Grant {
				var out []Grant
				for i := range 600 {
					out = append(out, grantOn(i, people("Group", 3, fmt.Sprintf("-%d-%s", i, strings.Repeat("g", 240))),
						v1alpha1.AccessEntry{RoleRef: &v1alpha1.RoleReference{Kind: "AccessRole", Name: "huge"}, Namespaces: namesOf(1, "ns-%d")}))
				}
				return out
			},
			wide: 4,
		},
		"ThousandsOfServiceAccounts": {
			reason: "Each service account in a namespace of its own, in which the impersonator needs a role.",
			grants: func() []Grant {
				var out []Grant
				all := serviceAccounts(2048, 1)
				for i := range 8 {
					out = append(out, grantOn(i, all[256*i:256*(i+1)], v1alpha1.AccessEntry{Rules: read, Namespaces: namesOf(1, "ns-%d")}))
				}
				return out
			},
			wide: 30,
		},
		"ServiceAccountsOfManyGrants": {
			reason: "Hundreds of grants name the same service accounts: each object carries hundreds of labels.",
			grants: func() []Grant {
				var out []Grant
				for i := range 300 {
					out = append(out, grantOn(i, serviceAccounts(24, 1), v1alpha1.AccessEntry{Rules: read, Namespaces: namesOf(1, "ns-%d")}))
				}
				return out
			},
			wide: 8,
		},
		"ServiceAccountsOfOneGrantEach": {
			reason: "Hundreds of grants, each with a service account of its own, one binding.",
			grants: func() []Grant {
				var out []Grant
				for i, sa := range serviceAccounts(600, 1) {
					out = append(out, grantOn(i, []v1alpha1.Subject{sa}, v1alpha1.AccessEntry{Rules: read}))
				}
				return out
			},
			wide: 8,
		},
		"NamesThatGrowInJSON": {
			reason: "253 characters that JSON spells with six bytes each.",
			grants: func() []Grant {
				var out []Grant
				for i := range 4 {
					out = append(out, grantOn(i, people("Group", 256, fmt.Sprintf("%d%s", i, strings.Repeat("<", 248))), v1alpha1.AccessEntry{Rules: read}))
				}
				return out
			},
			wide: 8,
		},
		"NamesOfManyBytes": {
			reason: "253 characters of four bytes each.",
			grants: func() []Grant {
				return []Grant{grantOn(0, people("User", 512, strings.Repeat("𝓐", 248)), v1alpha1.AccessEntry{Rules: read})}
			},
			wide: 4,
		},
		"ManyGrantsOneBinding": {
			reason: "2,000 grants ask for one binding: more than an object has labels for.",
			grants: func() []Grant {
				var out []Grant
				for i := range 2000 {
					out = append(out, grantOn(i, people("User", 1, fmt.Sprintf("-%d", i)), v1alpha1.AccessEntry{Rules: read}))
				}
				return out
			},
			wide: 2,
		},
		"ManyGrantsManyNamespaces": {
			reason: "The labels of 200 grants on the bindings of 100 namespaces.",
			grants: func() []Grant {
				var out []Grant
				for i := range 200 {
					out = append(out, grantOn(i, []v1alpha1.Subject{team}, v1alpha1.AccessEntry{Rules: read, Namespaces: namesOf(100, "ns-%d")}))
				}
				return out
			},
			wide: 100,
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, by := range []subject.Path{subject.Gateway, everyPath} {
				s := Snapshot{Guardrails: unguarded, Grants: tc.grants(), Roles: tc.roles, Fleet: oneMember(by), Now: noon}
				o := Grants(s)
				for _, r := range o.Results {
					if len(r.Rejections) > 0 {
						t.Fatalf("the case shows nothing: %v", r)
					}
				}
				if n := len(o.Members[0].Works); by == everyPath && n < tc.wide {
					t.Errorf("%d works, where at least %d show something", n, tc.wide)
				}
				checkShape(t, s, o)
				checkSubjects(t, s, o)
				if t.Failed() {
					t.Log(tc.reason)
				}
			}
		})
	}
}

// checkSubjects: every subject of every grant is bound, however bindings are cut.
func checkSubjects(t *testing.T, s Snapshot, o Output) {
	t.Helper()
	want, got := map[string]bool{}, map[string]bool{}
	m := s.Fleet.Members()[0]
	for _, g := range s.Grants {
		for _, sub := range g.Spec.Subjects {
			for _, on := range subject.Of(sub).OnMember(nil, m.Paths) {
				want[on.String()] = true
			}
		}
	}
	for _, w := range o.Members[0].Works {
		for _, x := range w.Objects {
			if _, subjects, ok := bindingOf(x); ok && !ofImpersonator(x.Name) {
				for _, sub := range subjects {
					got[sub.String()] = true
				}
			}
		}
	}
	if len(want) != len(got) {
		t.Errorf("%d subjects are bound, not %d", len(got), len(want))
	}
}

// TestRoleThatIsTooLargeIsRejected: it could not be delivered with its bindings.
func TestRoleThatIsTooLargeIsRejected(t *testing.T) {
	for _, n := range []int{192 << 10, 400 << 10} {
		s := Snapshot{Guardrails: unguarded, Fleet: oneMember(everyPath), Now: noon, Grants: []Grant{grantOn(0, people("User", 1, ""), v1alpha1.AccessEntry{Rules: rulesOfSize(n, 0)})}}
		o := Grants(s)
		if r := o.Results[0].Rejections; len(o.Members) != 0 || len(r) != 1 || r[0].Reason != v1alpha1.FailureInvalidRole {
			t.Errorf("%d bytes: %d members, %v", n, len(o.Members), r)
		}
	}
}

// TestWeightsAreBounds: a work is not heavier than the weights of its units say,
// on which everything above rests.
func TestWeightsAreBounds(t *testing.T) {
	check := func(name string, s Snapshot) {
		var c Compiler
		c.Grants(s)
		for i := range c.members {
			for _, w := range c.members[i].works {
				weight, base := 0, 0
				for _, u := range w.units {
					weight, base = weight+u.weight, max(base, u.base)
				}
				if size := sizeOf(w.work) - framing*len(w.work.Objects); size > weight+base {
					t.Errorf("%s, %s, %s: %d bytes, more than the %d of its units", name, s.Fleet.Members()[i].Name, w.work.Name, size, weight+base)
				}
			}
		}
	}
	for n := range uint64(100) {
		check(fmt.Sprint("world ", n), newWorld(&choices{worldBytes(n)}).snapshot())
	}
	for name, who := range map[string]v1alpha1.Subject{"user": user("alice"), "group": group("devs"), "service account": sa("ci", "bot")} {
		s := Snapshot{Guardrails: unguarded, Fleet: oneMember(everyPath), Now: noon}
		for i := range maxImpersonatorLabels {
			s.Grants = append(s.Grants, grantOn(i, to(who), v1alpha1.AccessEntry{Rules: rulesOfSize(300, 1), Namespaces: namesOf(1, "ns-%d")}))
		}
		check("one "+name+" of many grants", s)
	}
}

// TestShardsWithEqualHashes: 32 bits of a hash can be chosen with some patience,
// so units that nothing tells apart must still be divided.
func TestShardsWithEqualHashes(t *testing.T) {
	var units []*unit
	for i := range 10 {
		units = append(units, &unit{unitKey: unitKey{role: &role{id: fmt.Sprint(i)}}, hash: 7, weight: 40 << 10})
	}
	parts := shards(units)
	names, n := map[string]bool{}, 0
	for _, p := range parts {
		weight := 0
		for _, u := range p.units {
			weight += u.weight
		}
		if weight > targetWork {
			t.Errorf("%s weighs %d", p.name, weight)
		}
		names[p.name], n = true, n+len(p.units)
	}
	if len(names) != len(parts) || n != len(units) {
		t.Errorf("%d works by %d names hold %d units, not %d", len(parts), len(names), n, len(units))
	}
}

// crowd is a member with many works, from grants of one entry each.
func crowd(n int) Snapshot {
	s := Snapshot{Guardrails: unguarded, Fleet: oneMember(everyPath), Now: noon, Roles: map[string]*v1alpha1.AccessRoleSpec{}}
	for i := range 20 {
		s.Roles[fmt.Sprintf("role-%d", i)] = &v1alpha1.AccessRoleSpec{Rules: rulesOfSize(500, i)}
	}
	for i := range n {
		entry := v1alpha1.AccessEntry{Namespaces: []v1alpha1.NamespaceName{v1alpha1.NamespaceName(fmt.Sprintf("ns-%d", i%97))}}
		if i%2 == 0 {
			entry.RoleRef = &v1alpha1.RoleReference{Kind: "AccessRole", Name: fmt.Sprintf("role-%d", i%20)}
		} else {
			entry.Rules = rulesOfSize(300, i%50)
		}
		s.Grants = append(s.Grants, grantOn(i, people("Group", 2, fmt.Sprintf("-%d", i)), entry))
	}
	return s
}

func worksByName(o Output) map[string]string {
	out := map[string]string{}
	for _, m := range o.Members {
		for _, w := range m.Works {
			var b strings.Builder
			for _, x := range w.Objects {
				b.Write(x.JSON)
			}
			out[m.Name+"/"+w.Name] = b.String()
		}
	}
	return out
}

func changedWorks(a map[string]string, after Output) []string {
	b := worksByName(after)
	names := map[string]bool{}
	for name := range a {
		names[name] = a[name] != b[name]
	}
	for name := range b {
		names[name] = a[name] != b[name]
	}
	var out []string
	for name, changed := range names {
		if changed {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

// TestOneChangeRewritesOneWork: design rule 7. The subjects of a grant with one
// entry change, and one work does.
func TestOneChangeRewritesOneWork(t *testing.T) {
	s := crowd(300)
	var c Compiler
	before := worksByName(c.Grants(s))
	if n := len(before); n < 20 {
		t.Fatalf("%d works show nothing", n)
	}
	rnd := rand.New(rand.NewPCG(1, 1))
	for range 60 {
		i := rnd.IntN(len(s.Grants))
		now := s
		now.Grants = slices.Clone(s.Grants)
		spec := s.Grants[i].Spec.DeepCopy()
		spec.Subjects[0].Name += "-too"
		now.Grants[i].Spec = spec
		if got := changedWorks(before, c.Grants(now)); len(got) != 1 {
			t.Errorf("other subjects for %s change the works %q", s.Grants[i].Key(), got)
		}
	}
}

// TestOneGrantMoreOrLessRewritesFewWorks: the work with the binding and, where the
// role has too many bindings for one work, the one with the role, whose labels
// name the grant. Where two works become light enough for one they are joined,
// which rewrites that one and removes the two.
func TestOneGrantMoreOrLessRewritesFewWorks(t *testing.T) {
	s := crowd(300)
	var c Compiler
	before := worksByName(c.Grants(s))
	all, times := 0, 60
	rnd := rand.New(rand.NewPCG(1, 2))
	for range times {
		i := rnd.IntN(len(s.Grants))
		now := s
		now.Grants = slices.Delete(slices.Clone(s.Grants), i, i+1)
		got := changedWorks(before, c.Grants(now))
		if len(got) == 0 || len(got) > 6 {
			t.Errorf("without %s the works %q change", s.Grants[i].Key(), got)
		}
		all += len(got)
	}
	if all > 3*times {
		t.Errorf("%d works changed with %d grants", all, times)
	}
}

// TestIncrementalOnACrowd: what FuzzIncremental says of small worlds holds where
// works are many and bindings are cut.
func TestIncrementalOnACrowd(t *testing.T) {
	s := crowd(120)
	for i := range 3 {
		s.Grants = append(s.Grants, grantOn(1000+i, serviceAccounts(200*(i+1), 3), v1alpha1.AccessEntry{Rules: rulesOfSize(300, 1)}))
	}
	var c Compiler
	c.Grants(s)
	rnd := rand.New(rand.NewPCG(1, 3))
	for step := range 24 {
		i := rnd.IntN(len(s.Grants))
		s.Grants = slices.Clone(s.Grants)
		switch step % 4 {
		case 0:
			s.Grants = slices.Delete(s.Grants, i, i+1)
		case 1:
			spec := s.Grants[i].Spec.DeepCopy()
			spec.Subjects[0].Name += "-too"
			s.Grants[i].Spec = spec
		case 2:
			s.Grants = slices.Insert(s.Grants, i, grantOn(2000+step, serviceAccounts(40*step, 2), s.Grants[i].Spec.Access...))
		case 3:
			last := &s.Grants[len(s.Grants)-1]
			spec := last.Spec.DeepCopy()
			spec.Subjects = serviceAccounts(30*step, 1+step%3)
			last.Spec = spec
		}
		got := c.Grants(s)
		if diff := differences(bytesOf(Grants(s)), bytesOf(got)); diff != "" {
			t.Fatalf("after step %d the Compiler differs from Grants (-Grants +Compiler):\n%.2000s", step, diff)
		}
	}
}
