package cel_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
	"github.com/sallyport-dev/sallyport/internal/policy/cel"
)

// FuzzPasses: no policy answers otherwise for what it remembers, and none that is not
// timed answers otherwise at another instant. Policies are made of all that a request has,
// of what leads to it in roundabout ways, and of loops whose variables go by names that
// something else has.
func FuzzPasses(f *testing.F) {
	for seed := range uint64(2000) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, seed uint64) {
		r := rand.New(rand.NewPCG(seed, 1))
		p := (&writer{Rand: r}).policy()
		remembers, errs := cel.Compile(field.NewPath("cel"), p, parameters(), cel.Options{})
		if len(errs) > 0 {
			return // not all that is written has a type
		}
		forgets, _ := cel.Compile(field.NewPath("cel"), p, parameters(), cel.Options{Coverage: true})
		for range 60 {
			in := anyRequest(r)
			want, wantErr := forgets.Check(in)
			got, gotErr := remembers.Check(fresh(in))
			if fmt.Sprint(want, wantErr) != fmt.Sprint(got, gotErr) {
				t.Fatalf("%+v\n%+v\nevaluated: %v, %v\nremembered: %v, %v", p, in.Request, want, wantErr, got, gotErr)
			}
			if later := fresh(in); !remembers.Timed() {
				later.Now = t0.AddDate(0, 5, 7)
				if got, gotErr = forgets.Check(later); fmt.Sprint(want, wantErr) != fmt.Sprint(got, gotErr) {
					t.Fatalf("%+v\nat %s: %v, %v\nat %s: %v, %v", p, in.Now, want, wantErr, later.Now, got, gotErr)
				}
			}
		}
	})
}

// writer of policies.
type writer struct {
	*rand.Rand
	variables int
	loops     []string // the variables of the loops around
}

func (w *writer) of(forms ...string) string { return forms[w.IntN(len(forms))] }

func (w *writer) policy() *v1alpha1.CELPolicy {
	p := &v1alpha1.CELPolicy{}
	for range w.IntN(3) {
		p.Variables = append(p.Variables, v1alpha1.CELVariable{Name: fmt.Sprint("v", w.variables), Expression: w.write("BOOL", 3)})
		w.variables++
	}
	for range 1 + w.IntN(2) {
		v := v1alpha1.CELValidation{Expression: w.write("BOOL", 4)}
		if w.IntN(3) == 0 {
			v.MessageExpression = w.write("TEXT", 2)
		}
		p.Validations = append(p.Validations, v)
	}
	return p
}

// forms of what is written, in which the words in capitals are written in their turn: the
// first are those in which nothing is.
var forms = map[string][2][]string{
	"IN": {{"input", "input", "input", ".input"}, {"dyn(input)", "(BOOL ? input : .input)"}},
	"REQUEST": {{"input.request", "input.request", "input.request", ".input.request"},
		{"IN.request", "[input.request][0]", "{'a': input.request}.a", "dyn(input)['request']", "(BOOL ? input.request : input.request)"}},
	"USER":    {{"input.request.user", "input.request.user"}, {"REQUEST.user", "[REQUEST.user][0]", "dyn(REQUEST.user)"}},
	"CLUSTER": {{"input.request.cluster", "input.request.cluster"}, {"REQUEST.cluster", "[REQUEST.cluster][0]", "dyn(REQUEST.cluster)"}},
	"FIELD":   {{"verb", "apiGroup", "apiVersion", "resource", "subresource", "namespace", "name", "path"}},
	"LOOP":    {{"x", "y", "input", "variables", "request"}},
	"TEXT": {
		{"''", "'a'", "'b'", "'ab'", "REQUEST.FIELD", "REQUEST.FIELD", "REQUEST.FIELD", "USER.name", "USER.uid", "CLUSTER.name", "CLUSTER.labels.env", "OUTER"},
		{
			"(BOOL ? TEXT : TEXT)", "(TEXT + TEXT)", "LIST[0]", "LIST.join(',')", "IN.grants[0].name", "string(IN.now)", "IN.version", "'%s'.format([TEXT])",
			"CLUSTER.labels[?'env'].orValue(TEXT)", "REQUEST.?FIELD.orValue(TEXT)", "optional.of(TEXT).optMap(o, o + TEXT).orValue('')", "{'a': TEXT}[TEXT]",
		},
	},
	"LIST": {
		{"['a', 'b']", "USER.groups", "USER.groups", "USER.extra['scopes']"},
		{
			"[TEXT, TEXT]", "(LIST + LIST)", "LIST.filter(LOOP, BOOL)", "LIST.map(LOOP, TEXT)", "LIST.transformList(i, LOOP, TEXT)", "CLUSTER.labels.map(LOOP, TEXT)",
			"(BOOL ? LIST : LIST)", "IN.grants.map(LOOP, TEXT)", "LIST.sort()", "TEXT.split('a')",
		},
	},
	"BOOL": {
		{"REQUEST.resourceRequest", "TEXT == TEXT", "TEXT != 'a'", "TEXT in LIST", "!(TEXT in LIST)", "VARIABLE"},
		{
			"(BOOL || BOOL)", "(BOOL || BOOL)", "(BOOL && BOOL)", "(BOOL ? BOOL : BOOL)", "!(BOOL)", "TEXT.startsWith(TEXT)", "(LIST == LIST)", "sets.contains(LIST, LIST)",
			"(IN.now < timestamp('2026-06-01T00:00:00Z'))", "(IN.grants.size() == 1)", "IN.grants.exists(LOOP, BOOL)", "has(IN.grants)", "has(IN.now)", "has(IN.request)",
			"has(IN.grant)", "has(IN.access)", "has(REQUEST.user)", "has(REQUEST.cluster)", "has(REQUEST.FIELD)", "has(USER.uid)", "has(USER.groups)", "has(CLUSTER.labels.env)",
			"(CLUSTER == CLUSTER)", "(USER == USER)", "(type(REQUEST) == type(IN))", "(1 / 0 == 1)", "LIST.all(LOOP, BOOL)", "LIST.exists(LOOP, BOOL)", "LIST.exists_one(LOOP, BOOL)",
			"LIST.all(i, LOOP, BOOL)", "IN.?request.?cluster.hasValue()", "IN.?grants[?0].?name.optMap(o, o == TEXT).orValue(true)", "(size(lists.range(size(TEXT) * 9)) < 9)",
		},
	},
}

// write what a word stands for, so deep at most.
func (w *writer) write(word string, depth int) string {
	switch word {
	case "VARIABLE":
		if w.variables == 0 {
			return "true"
		}
		return w.of("variables.v", ".variables.v") + fmt.Sprint(w.IntN(w.variables))
	case "OUTER":
		if len(w.loops) == 0 {
			return "'x'"
		}
		return w.of(w.loops...)
	}
	form := w.of(forms[word][0]...)
	if deeper := forms[word][1]; depth > 0 && len(deeper) > 0 && w.IntN(3) > 0 {
		form = w.of(deeper...)
	}
	loops := len(w.loops)
	defer func() { w.loops = w.loops[:loops] }()
	var b strings.Builder
	for form != "" {
		end := strings.IndexFunc(form, func(r rune) bool { return r < 'A' || r > 'Z' })
		switch {
		case end < 0:
			end = len(form)
		case end == 0:
			b.WriteByte(form[0])
			form = form[1:]
			continue
		}
		next := form[:end]
		form = form[end:]
		if _, ok := forms[next]; !ok && next != "VARIABLE" && next != "OUTER" {
			b.WriteString(next) // such as the Z of a time
			continue
		}
		written := w.write(next, depth-1)
		if next == "LOOP" {
			w.loops = append(w.loops, written)
		}
		b.WriteString(written)
	}
	return b.String()
}

// clusters of which two have one name, and one is of no fleet.
var clusters = []*guardrail.Cluster{
	{Name: "a", Labels: map[string]string{"env": "a"}, Claims: map[string]string{}}, {Name: "a", Labels: map[string]string{"env": "b", "b": "x"}},
	{Name: "b", Labels: map[string]string{}}, {Name: "b", Claims: map[string]string{}}, nil,
}

// anyRequest of few that there are, so that much of two is often the same.
func anyRequest(r *rand.Rand) *guardrail.Input {
	text := func() string { return []string{"", "a", "b", "ab"}[r.IntN(4)] }
	list := func() []string { return slices.Clone([][]string{nil, {}, {"a", "b"}, {"ab"}, {"b"}}[r.IntN(5)]) }
	in := &guardrail.Input{
		Version: guardrail.InputVersion, Now: []time.Time{t0, t0.AddDate(1, 0, 0)}[r.IntN(2)],
		Request: &guardrail.RequestInfo{
			User: guardrail.User{Name: text(), UID: text(), Groups: list()}, Cluster: clusters[r.IntN(len(clusters))],
			Verb: text(), ResourceRequest: r.IntN(2) == 0, APIGroup: text(), APIVersion: text(), Resource: text(), Subresource: text(),
			Namespace: text(), Name: text(), Path: text(),
		},
	}
	if r.IntN(2) == 0 {
		in.Request.User.Extra = map[string][]string{"scopes": list()}
	}
	if r.IntN(2) == 0 {
		in.Grants = []*guardrail.GrantInfo{{Namespace: text(), Name: text()}}
	}
	switch r.IntN(30) {
	case 0:
		in.Request = nil
	case 1:
		in.Clusters = clusters[:1]
	case 2:
		in.Access = []*guardrail.Access{{}}
	}
	return in
}
