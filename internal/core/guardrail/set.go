package guardrail

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
)

// Check is a policy that an engine compiled. It is safe for use by any number of
// goroutines, bounded in time and memory by itself, and the same for the same
// input.
type Check interface {
	// Check returns what the policy objects to; nothing if the input passes. An
	// error says that the policy cannot be evaluated on this input. It may quote the
	// policy, and is for operators. Unless there is an error, nothing of the input is
	// looked at after that: requests are judged by the thousand in the same memory.
	Check(in *Input) ([]Violation, error)
	// Timed reports whether the policy looks at the instant.
	Timed() bool
}

// Guardrail is a policy with where and how it is asked. It is immutable.
type Guardrail struct {
	Name string
	// Digest tells two versions of a guardrail apart.
	Digest      string
	Enforcement v1alpha1.Enforcement
	Points      Points
	Match       Match
	Exceptions  Terms
	// Ceiling: the guardrail is a namespace's ceiling.
	Ceiling bool
	// Check is nil where the policy does not compile; Err then says why. Such a
	// guardrail is never passed by what it matches.
	Check Check
	Err   error
}

// Options of a Set.
type Options struct {
	// RequireCeiling refuses grants in namespaces that have no ceiling.
	RequireCeiling bool
}

// RequireCeiling is the name by which the refusal of a grant without ceiling goes.
const RequireCeiling = "require-ceiling"

// Set is the guardrails in force with the exceptions from them. It is immutable
// and safe for use by any number of goroutines. A nil Set denies.
type Set struct {
	all     []*Guardrail // sorted by name
	at      [Request + 1][]*Guardrail
	excused exceptions
	options Options
	digest  string
}

// NewSet makes a Set. Of guardrails of one name, all are asked.
func NewSet(guardrails []*Guardrail, excused []Exception, o Options) *Set {
	s := &Set{all: slices.Clone(guardrails), excused: exceptions{}, options: o}
	slices.SortFunc(s.all, func(a, b *Guardrail) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.Digest, b.Digest))
	})
	sum := sha256.New()
	write := func(format string, args ...any) { fmt.Fprintf(sum, format+"\n", args...) }
	write("requireCeiling %t", o.RequireCeiling)
	for _, g := range s.all {
		write("guardrail %q %q", g.Name, g.Digest)
		for p := Plan; p <= Request; p++ {
			if g.Points.Has(p) {
				s.at[p] = append(s.at[p], g)
			}
		}
	}
	sorted := slices.Clone(excused)
	slices.SortFunc(sorted, func(a, b Exception) int {
		return cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name))
	})
	for _, e := range sorted {
		write("exception %q %q %q %q %d %d", e.Namespace, e.Name, e.Guardrail, e.Grant, e.NotBefore.UnixNano(), e.NotAfter.UnixNano())
		key := exceptionKey{e.Guardrail, e.Namespace, e.Grant}
		s.excused[key] = append(s.excused[key], e)
	}
	s.digest = hex.EncodeToString(sum.Sum(nil))
	return s
}

// Digest of the policy in force: of the guardrails, the exceptions and the options.
func (s *Set) Digest() string { return s.digest }

// Guardrails of the set, sorted by name. The slice is not to be changed.
func (s *Set) Guardrails() []*Guardrail { return s.all }

// Judge asks every guardrail of a point that matches the input.
func (s *Set) Judge(p Point, in *Input) Judgement {
	return s.judge(p, in, nil, nil)
}

// Idle reports whether the set allows whatever it is asked at a point, so that
// there is no need of an input.
func (s *Set) Idle(p Point) bool {
	return s != nil && len(s.at[p]) == 0 && (p == Request || !s.options.RequireCeiling)
}

// JudgeAgain is Judge for an input that has been judged before, but for its
// instant, by this or another Set. The answers are those to give the next time.
func (s *Set) JudgeAgain(p Point, in *Input, before Answers) (Judgement, Answers) {
	if s == nil {
		return s.judge(p, in, nil, nil), nil
	}
	answers := make(Answers, len(s.at[p]))
	return s.judge(p, in, before, answers), answers
}

// judge an input. Answers that are not nil are filled. Requests are judged by the
// thousand a second: without a reason there is no allocation.
func (s *Set) judge(p Point, in *Input, before, answers Answers) Judgement {
	if s == nil {
		return Judgement{Verdict: Undecided, Reasons: []Reason{{
			Guardrail: "guardrails", Enforcement: v1alpha1.EnforcementDeny, Failed: true,
			Message: "the guardrails are not known yet",
		}}}
	}
	j := Judgement{Verdict: Allowed}
	var of []*Guardrail // of each reason, where exceptions may excuse it
	ceiling := in.Grant == nil || !s.options.RequireCeiling
	for _, g := range s.at[p] {
		if !g.Match.Matches(in) {
			continue
		}
		ceiling = ceiling || g.Ceiling && (&Reason{Enforcement: g.Enforcement}).Counts()
		j.Timed = j.Timed || g.Check != nil && g.Check.Timed()
		asked := len(j.Reasons)
		if known, ok := before.reuse(g); ok {
			j.Reasons = append(j.Reasons, known...)
		} else {
			j.Reasons = ask(j.Reasons, g, in)
		}
		if answers != nil {
			answers[g] = slices.Clone(j.Reasons[asked:])
		}
		for len(s.excused) > 0 && len(of) < len(j.Reasons) {
			of = append(of, g)
		}
	}
	s.excuse(in, &j, of)
	if !ceiling {
		j.Reasons = append(j.Reasons, Reason{
			Guardrail: RequireCeiling, Enforcement: v1alpha1.EnforcementDeny, Field: "metadata.namespace",
			Message: fmt.Sprintf("namespace %q has no ceiling, and without one nothing may be granted", in.Grant.Metadata.Namespace),
		})
	}
	for i := range j.Reasons {
		switch r := &j.Reasons[i]; {
		case !r.Counts():
		case !r.Failed:
			j.Verdict = Denied
		case j.Verdict == Allowed:
			j.Verdict = Undecided
		}
	}
	slices.SortFunc(j.Reasons, compareReasons)
	j.Reasons = slices.Compact(j.Reasons)
	return j
}

// excuse marks the reasons that exceptions excuse, and notes when that may change.
// A request has to be excused as a whole by what is excused of one of the grants
// that would allow it: exceptions for two grants do not add up.
func (s *Set) excuse(in *Input, j *Judgement, of []*Guardrail) {
	if len(j.Reasons) == 0 || len(s.excused) == 0 {
		return
	}
	names := make([]string, len(j.Reasons))
	excused := func(namespace, grant string) (all bool) {
		all = true
		for i, g := range of {
			var next time.Time
			names[i], next = s.excused.excuse(g, namespace, grant, in.Now)
			j.Next = earlier(j.Next, next)
			all = all && (names[i] != "" || !j.Reasons[i].Counts())
		}
		return all
	}
	switch {
	case in.Grant != nil:
		excused(in.Grant.Metadata.Namespace, in.Grant.Metadata.Name)
	default:
		found := slices.ContainsFunc(in.Grants, func(g *GrantInfo) bool { return excused(g.Namespace, g.Name) })
		if !found {
			return
		}
	}
	for i, name := range names {
		j.Reasons[i].Exception = name
	}
}

// ask one guardrail. Whatever happens in it, the answer is reasons, which follow those
// that are there.
func ask(to []Reason, g *Guardrail, in *Input) (reasons []Reason) {
	failed := func(detail string) []Reason {
		return append(to, Reason{
			Guardrail: g.Name, Enforcement: g.Enforcement, Failed: true,
			Message: "the guardrail cannot be evaluated", Detail: detail,
		})
	}
	defer func() {
		if p := recover(); p != nil {
			reasons = failed(fmt.Sprintf("panic: %v", p))
		}
	}()
	if g.Check == nil {
		if g.Err == nil {
			return failed("there is no policy")
		}
		return failed(g.Err.Error())
	}
	violations, err := g.Check.Check(in)
	if err != nil {
		return failed(err.Error())
	}
	reasons = to
	for _, v := range violations {
		reasons = append(reasons, Reason{Guardrail: g.Name, Enforcement: g.Enforcement, Message: v.Message, Field: v.Field})
	}
	return reasons
}
