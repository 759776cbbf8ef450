package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/go-git/go-git/v5/plumbing"

	"github.com/sallyport-dev/sallyport/test/install"
)

// patience is how long anything in the story may take, on a machine that has other
// things to do.
const patience = time.Minute

// story is what happens. Its steps follow from one another, so that it ends where
// one was not as expected.
type story struct {
	*world
	*screen
	watched *watch // bob, all the time
	over    func() bool

	commit plumbing.Hash // that gave alice her access
	took   time.Duration // from there until she had it

	astray []string // what was not as expected in this step
}

// step of the story. It returns what is to be said of it in the summary; how it
// went is said by expectations on the way.
type step struct {
	name, title, expected string
	play                  func(*story, context.Context) (got string, took time.Duration, err error)
}

// result of a step.
type result struct {
	step, expected, got string
	took                time.Duration
	ok                  bool
}

const notPlayed = "not played"

var steps = []step{
	{"before", "Before the commit alice is refused", "alice refused by the hub", (*story).before},
	{"commit", "A commit lets her in, on prod and to pods only", "pods on prod, no more", (*story).commits},
	{"request", "Plain kubectl; a guardrail judges each request", "refused, and told why", (*story).requested},
	{"drift", "Somebody adds bob to a binding on a member, by hand", "put right", (*story).drift},
	{"policy", "A guardrail refuses a grant, before the commit and after it", "refused, with one message", (*story).guarded},
	{"excuse", "An exception lets it through until it ends", "refused from notAfter on", (*story).excused},
	{"bundle", "A signed bundle, a tampered one and an older one", "tampered and older refused", (*story).bundled},
	{"expiry", "A grant with an end ends by itself", "refused from notAfter on", (*story).expiry},
	{"revert", "A revert takes the access away", "refused on hub and members", (*story).reverts},
	{"bob", "And bob?", "dev-1 only, all the time", (*story).bob},
}

// play tells the story and tells whether all of it was as expected.
func play(ctx context.Context, out *screen, w *world) bool {
	out.heading("The people")
	out.say("alice is in group payments-oncall, bob in none. Who they are is known to the hub alone. " +
		"They go in by Sallyport's gateway, which the hub serves as an API of its own: " +
		"with plain kubectl, whose server is the hub's URL and a path. alice lists pods on prod-eu-1 with")
	out.quote("GET " + install.Way("prod-eu-1") + "\n      /api/v1/namespaces/payments/pods")
	s := &story{world: w, screen: out, watched: watchBob(ctx, w), over: func() bool { return ctx.Err() != nil }}
	defer s.watched.stop()

	var results []result
	all := true
	for i, step := range steps {
		r := result{step: step.name, expected: step.expected, got: notPlayed}
		if all && ctx.Err() == nil {
			out.heading(fmt.Sprintf("%d  %s", i+1, step.title))
			r = s.run(ctx, step)
		}
		all = all && r.ok
		results = append(results, r)
	}
	if ctx.Err() == nil {
		out.summary(results)
	}
	return all
}

func (s *story) run(ctx context.Context, step step) result {
	s.astray = nil
	got, took, err := step.play(s, ctx)
	if err != nil {
		s.astray = append(s.astray, err.Error())
	}
	if len(s.astray) > 0 {
		got = "not as expected"
	}
	if ctx.Err() == nil {
		for _, what := range s.astray {
			s.say(s.paint(red, "Not as expected: "+what))
		}
	}
	return result{step: step.name, expected: step.expected, got: got, took: took, ok: len(s.astray) == 0}
}

// expect asks once. What comes out is a fact now, not in the end.
func (s *story) expect(ctx context.Context, p person, resource, member string, want verdict) answer {
	a := s.ask(ctx, p, resource, member)
	s.judge(question(p, resource, member), a, a.took, want)
	return a
}

// await asks until the answer is as wanted, and tells how long that took.
func (s *story) await(ctx context.Context, p person, resource, member string, want verdict, since time.Time) {
	var a answer
	_ = install.Until(ctx, patience, func(ctx context.Context) string {
		if a = s.ask(ctx, p, resource, member); a.verdict != want {
			return a.String()
		}
		return ""
	})
	s.judge(question(p, resource, member), a, time.Since(since), want)
}

func (s *story) judge(asked string, a answer, took time.Duration, want verdict) {
	ok := a.verdict == want
	s.fact(asked, a.String(), took, ok)
	if !ok {
		s.astray = append(s.astray, fmt.Sprintf("expected was %q; the API server said: %v", want, a.err))
	}
}

// fact shows something that was looked at, unless ^C came first.
func (s *story) fact(what, got string, took time.Duration, ok bool) {
	if s.over() {
		return
	}
	s.row(what, got, took, ok)
	if !ok {
		s.astray = append(s.astray, what+": "+got)
	}
}

func question(p person, resource, member string) string {
	return fmt.Sprintf("%s lists %s on %s", p.name, resource, member)
}

// bobIsWhereHeWas is looked at in each step: what is done for others never widens
// what he has.
func (s *story) bobIsWhereHeWas(ctx context.Context) {
	began := time.Now()
	where, err := s.reach(ctx, bob)
	if err != nil {
		where = err.Error()
	}
	ok := where == "dev-1"
	for _, m := range prods {
		if may, err := s.mayOnMember(ctx, bob, m); may || err != nil {
			where, ok = fmt.Sprintf("by RBAC of %s: %t %v", m, may, err), false
		}
	}
	s.fact("bob, asked on all, lists pods on", where, time.Since(began), ok)
}

// said quotes the API server, in lines that fit.
func (s *story) said(a answer) {
	if a.err != nil {
		s.quote(strings.Join(wrap(a.err.Error(), width-4), "\n"))
	}
}
