package rego

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/metrics"
	"github.com/open-policy-agent/opa/v1/topdown"

	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
)

const (
	// maxViolations of one policy on one input. A policy that has more to say is
	// cut: the answer is the same.
	maxViolations = 256
	// grace is how long after its deadline an evaluation may take to notice.
	grace = 100 * time.Millisecond
	// strikes is how many deadlines in a row rest a policy, and rest for how long.
	strikes = 3
	rest    = 10 * time.Second
)

// check is a Check.
type check struct {
	modules    *Modules
	query      ast.Body
	parameters *ast.Term
	timed      bool
	tracer     topdown.QueryTracer // nil in force
	now        func() time.Time

	mu       sync.Mutex
	askers   map[string]*asker // those that have missed a deadline of late
	runaways int               // evaluations that were left behind and have not ended
}

// asker is for whom a policy is asked: the grants of a namespace, or all requests.
// What one brings about is not held against another.
type asker struct {
	missed int       // deadlines in a row
	until  time.Time // when a policy that rests is asked again
}

// askerOf an input: the namespace of its grant, and "" for a request.
func askerOf(in *guardrail.Input) string {
	if in.Grant == nil {
		return ""
	}
	return in.Grant.Metadata.Namespace
}

// Timed reports whether the policy looks at the instant.
func (c *check) Timed() bool { return c.timed }

// Check evaluates the policy.
func (c *check) Check(in *guardrail.Input) ([]guardrail.Violation, error) {
	deadline, of := c.modules.options.deadline(in), askerOf(in)
	turns := grants
	if in.Request != nil {
		turns = requests
	}
	if !turns.take(deadline) {
		return nil, errBusy
	}
	defer turns.leave()
	if err := c.begin(of); err != nil {
		return nil, err
	}
	deny, err := c.evaluate(of, documentOf(in).with(c.parameters), deadline)
	if err != nil {
		return nil, fmt.Errorf("cannot evaluate the policy: %w", err)
	}
	return violations(deny)
}

// errBusy is the error of an evaluation that was not begun, which says nothing of the
// policy.
var errBusy = errors.New("the policy is not asked: as many evaluations as can be are under way")

// errDeadline is the error of an evaluation that took too long.
var errDeadline = errors.New("it took longer than its deadline")

// begin refuses to evaluate a policy that rests or runs away.
func (c *check) begin(of string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.runaways > 0 {
		return errors.New("the policy is not asked: an evaluation has not ended long after its deadline")
	}
	a, now := c.askers[of], c.now()
	switch {
	case a == nil || a.missed < strikes:
	case now.Before(a.until):
		return fmt.Errorf("the policy is not asked for a while: it missed its deadline %d times in a row", a.missed)
	default:
		a.until = now.Add(rest) // one asks; the others wait for what comes of it
	}
	return nil
}

// end notes whether a deadline was kept. One missed after a rest begins another.
func (c *check) end(of string, kept bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if kept {
		delete(c.askers, of)
		return
	}
	now := c.now()
	// Those that have not asked since their rest are forgotten, so that there are few.
	maps.DeleteFunc(c.askers, func(_ string, a *asker) bool { return now.Sub(a.until) > rest })
	a := c.askers[of]
	if a == nil {
		a = &asker{}
		if c.askers == nil {
			c.askers = map[string]*asker{}
		}
		c.askers[of] = a
	}
	a.missed++
	a.until = now.Add(rest)
}

// runaway counts evaluations that were left behind.
func (c *check) runaway(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.runaways += n
}

// evaluation is one, by a worker.
type evaluation struct {
	over   atomic.Bool // what topdown asks before each expression
	result *ast.Term
	err    error
}

// Cancel and Cancelled are topdown.Cancel.
func (e *evaluation) Cancel()         { e.over.Store(true) }
func (e *evaluation) Cancelled() bool { return e.over.Load() }

// evaluate the query; nil for an undefined one.
func (c *check) evaluate(of string, input *ast.Term, deadline time.Duration) (*ast.Term, error) {
	e := &evaluation{}
	work := func() {
		defer func() {
			if p := recover(); p != nil {
				e.err = fmt.Errorf("panic: %v", p)
			}
		}()
		e.result, e.err = c.run(input, e)
	}
	if ended := do(work, deadline, e.Cancel); ended != nil {
		c.end(of, false)
		c.runaway(1)
		go func() {
			<-ended
			c.runaway(-1)
		}()
		return nil, errDeadline
	}
	late := topdown.IsCancel(e.err)
	c.end(of, !late)
	if late {
		return nil, errDeadline
	}
	return e.result, e.err
}

// epoch is the time that OPA is told. No function that is allowed asks for it.
var epoch = time.Unix(1, 0)

func (c *check) run(input *ast.Term, cancel topdown.Cancel) (result *ast.Term, err error) {
	ctx := context.Background()
	m := c.modules
	txn, err := m.store.NewTransaction(ctx)
	if err != nil {
		return nil, err
	}
	defer m.store.Abort(ctx, txn)
	q := topdown.NewQuery(c.query).
		WithCompiler(m.compiler).
		WithStore(m.store).
		WithTransaction(txn).
		WithInput(input).
		WithBuiltins(bounded).
		WithStrictBuiltinErrors(true).
		WithCancel(cancel).
		WithMetrics(metrics.NoOp()).
		WithTime(epoch).
		WithSeed(noSeed{})
	if m.options.Print != nil {
		q = q.WithPrintHook(topdown.NewPrintHook(m.options.Print))
	}
	if c.tracer != nil {
		// A line that is left out because the outcome is known already is no line that
		// the examples have missed.
		q = q.WithQueryTracer(c.tracer).WithEarlyExit(false).WithIndexing(false)
	}
	err = q.Iter(ctx, func(r topdown.QueryResult) error {
		result = r[answer]
		return nil
	})
	return result, err
}

// noSeed is the source of no randomness.
type noSeed struct{}

func (noSeed) Read([]byte) (int, error) { return 0, io.EOF }

// violations that a deny holds, sorted.
func violations(deny *ast.Term) ([]guardrail.Violation, error) {
	if deny == nil {
		return nil, nil
	}
	set, ok := deny.Value.(ast.Set)
	if !ok {
		return nil, fmt.Errorf("deny is %s and not a set", ast.ValueName(deny.Value))
	}
	if set.Len() == 0 {
		return nil, nil
	}
	out := make([]guardrail.Violation, 0, min(set.Len(), maxViolations))
	for _, t := range set.Slice() {
		v, err := violation(t.Value)
		if err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	slices.SortFunc(out, func(a, b guardrail.Violation) int {
		return cmp.Or(strings.Compare(a.Message, b.Message), strings.Compare(a.Field, b.Field))
	})
	out = slices.Compact(out)
	return out[:min(len(out), maxViolations)], nil
}

func violation(v ast.Value) (guardrail.Violation, error) {
	if s, ok := v.(ast.String); ok {
		return said(s, "")
	}
	o, ok := v.(ast.Object)
	if !ok {
		return guardrail.Violation{}, fmt.Errorf("deny contains %s, and not a string or an object with message", ast.ValueName(v))
	}
	message := o.Get(messageKey)
	if message == nil {
		message = o.Get(msgKey)
	}
	if message == nil {
		return guardrail.Violation{}, errors.New("deny contains an object without message")
	}
	s, ok := message.Value.(ast.String)
	if !ok {
		return guardrail.Violation{}, fmt.Errorf("deny contains an object whose message is %s and not a string", ast.ValueName(message.Value))
	}
	at := o.Get(fieldKey)
	if at == nil {
		return said(s, "")
	}
	f, ok := at.Value.(ast.String)
	if !ok {
		return guardrail.Violation{}, fmt.Errorf("deny contains an object whose field is %s and not a string", ast.ValueName(at.Value))
	}
	return said(s, f)
}

var messageKey, msgKey, fieldKey = ast.StringTerm("message"), ast.StringTerm("msg"), ast.StringTerm("field")

func said(message, at ast.String) (guardrail.Violation, error) {
	v := guardrail.Violation{Message: guardrail.Tidy(string(message)), Field: guardrail.Tidy(string(at))}
	if v.Message == "" {
		return v, errors.New("deny contains an empty message")
	}
	return v, nil
}
