package cel_test

import (
	"encoding/json"
	"math/rand/v2"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
	"github.com/sallyport-dev/sallyport/internal/policy/cel"
)

// paths of a type by its JSON tags, with the elements of lists and maps selected
// one by one.
func paths(path string, t reflect.Type) (out []string) {
	switch {
	case t == reflect.TypeFor[time.Time](), t == reflect.TypeFor[metav1.Time]():
		return []string{path}
	case t.Kind() == reflect.Pointer:
		return paths(path, t.Elem())
	case t.Kind() == reflect.Slice:
		return append([]string{path}, paths(path+"[0]", t.Elem())...)
	case t.Kind() == reflect.Map:
		return append([]string{path}, paths(path+"['k']", t.Elem())...)
	case t.Kind() != reflect.Struct:
		return []string{path}
	}
	out = []string{path}
	for i := range t.NumField() {
		tag, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		if tag != "" {
			out = append(out, paths(path+"."+tag, t.Field(i).Type)...)
		}
	}
	return out
}

// TestDocument: each field of the Go types can be selected, and none is listed that
// is not one: the types and the document do not drift apart.
func TestDocument(t *testing.T) {
	want := paths("input", reflect.TypeFor[guardrail.Input]())
	if len(want) < 80 {
		t.Fatalf("only %d paths", len(want))
	}
	selectable := map[string]bool{"input.parameters": true}
	for _, path := range want {
		if _, errs := cel.Compile(field.NewPath("cel"), policy("type("+path+") == string || true"), nil, cel.Options{}); len(errs) > 0 {
			t.Errorf("%s: %v", path, errs)
		}
		selectable[strings.NewReplacer("[0]", "[]", "['k']", "[KEY]").Replace(path)] = true
	}
	fields, err := cel.Fields()
	if err != nil {
		t.Fatal(err)
	}
	listed := map[string]bool{}
	for _, f := range fields {
		listed[f.Path] = true
		if !selectable[f.Path] {
			t.Errorf("%s is listed and cannot be selected", f.Path)
		}
		if f.Type == "" || strings.Contains(f.Type, "sallyport.") {
			t.Errorf("%s has the type %q", f.Path, f.Type)
		}
	}
	for path := range selectable {
		// The elements of a list have a line where they have fields.
		if path != "input" && !strings.HasSuffix(path, "]") && !listed[path] {
			t.Errorf("%s can be selected and is not listed", path)
		}
	}
}

// TestAbsence: S15. What is absent is what is absent in JSON, in which policies in
// Rego see the document. null is no value in either.
func TestAbsence(t *testing.T) {
	fields, err := cel.Fields()
	if err != nil {
		t.Fatal(err)
	}
	type test struct {
		path  string
		check guardrail.Check
	}
	var tests []test
	for _, f := range fields {
		if !strings.Contains(f.Path, "[") && f.Path != "input.parameters" {
			tests = append(tests, test{f.Path, compile(t, policy("has("+f.Path+")"))})
		}
	}
	random := rand.New(rand.NewPCG(1, 2))
	inputs := []*guardrail.Input{grantInput(), requestInput(), {}}
	for range 200 {
		inputs = append(inputs, anyInput(random))
	}
	for _, in := range inputs {
		raw, err := json.Marshal(in)
		if err != nil {
			t.Fatal(err)
		}
		var document any
		if err := json.Unmarshal(raw, &document); err != nil {
			t.Fatal(err)
		}
		for _, tc := range tests {
			got := "present"
			violations, err := tc.check.Check(in)
			switch {
			case err != nil:
				got = "error"
			case len(violations) > 0:
				got = "absent"
			}
			if want := present(document, strings.Split(tc.path, ".")[1:]); got != want {
				t.Errorf("has(%s) is %q, want %q in %s", tc.path, got, want, raw)
			}
		}
	}
}

// present says what has() of a path is to say of a document.
func present(document any, path []string) string {
	for i, name := range path {
		object, ok := document.(map[string]any)
		if !ok {
			return "error"
		}
		value, ok := object[name]
		switch {
		case !ok && i == len(path)-1, ok && value == nil && i == len(path)-1 && !collection[name]:
			return "absent"
		case !ok:
			return "error"
		}
		document = value
	}
	return "present"
}

// collection are the fields that are null in the JSON of a Go value that has none,
// and empty in the document.
var collection = map[string]bool{
	"subjects": true, "access": true, "verbs": true, "rules": true, "groups": true, "extra": true, "labels": true, "claims": true,
	"namespaces": true,
}

// anyInput is an input with any of its parts.
func anyInput(r *rand.Rand) *guardrail.Input {
	in := &guardrail.Input{Now: t0.Add(time.Duration(r.IntN(1000)) * time.Hour)}
	words := []string{"", "a", "b", "get", "*", "pods", "pods/exec", "prod", "ä\n"}
	word := func() string { return words[r.IntN(len(words))] }
	some := func() (out []string) {
		for range r.IntN(3) {
			out = append(out, word())
		}
		return out
	}
	labels := func() map[string]string {
		if r.IntN(2) == 0 {
			return nil
		}
		return map[string]string{word(): word(), word(): word()}
	}
	yes := func() bool { return r.IntN(2) == 0 }
	rules := func() (out []rbacv1.PolicyRule) {
		for range r.IntN(3) {
			out = append(out, rbacv1.PolicyRule{Verbs: some(), APIGroups: some(), Resources: some(), ResourceNames: some()})
		}
		return out
	}
	if yes() {
		in.Grant = &guardrail.Grant{Metadata: guardrail.Metadata{Namespace: word(), Name: word(), Labels: labels()}, Spec: &v1alpha1.AccessGrantSpec{Reason: word(), Suspend: yes()}}
		s := in.Grant.Spec
		if yes() {
			s.Validity = &v1alpha1.Validity{NotAfter: &metav1.Time{Time: in.Now.Add(time.Hour)}}
		}
		if yes() {
			s.Clusters.Selector = &metav1.LabelSelector{MatchLabels: labels()}
		}
		for range r.IntN(3) {
			s.Subjects = append(s.Subjects, v1alpha1.Subject{Kind: v1alpha1.UserSubject, Name: word()})
			s.Access = append(s.Access, v1alpha1.AccessEntry{Rules: []v1alpha1.PolicyRule{{Verbs: some(), Resources: some()}}})
		}
	}
	if yes() {
		in.Namespace = &guardrail.Namespace{Name: word(), Labels: labels()}
		in.Source = &guardrail.Source{Kind: word(), Author: word()}
	}
	for range r.IntN(3) {
		in.Access = append(in.Access, &guardrail.Access{Field: word(), ClusterWide: yes(), Namespaces: some(), Known: yes(), Rules: rules()})
		in.Clusters = append(in.Clusters, &guardrail.Cluster{Name: word(), Labels: labels(), Claims: labels()})
	}
	if yes() {
		in.Roles = map[string]*guardrail.Role{word(): {Rules: rules()}, word(): {Description: word()}}
	}
	if yes() {
		in.Request = &guardrail.RequestInfo{User: guardrail.User{Name: word(), Groups: some(), Extra: map[string][]string{word(): some()}}, Verb: word(), Resource: word()}
		if yes() {
			in.Request.Cluster = &guardrail.Cluster{Name: word(), Labels: labels()}
		}
		in.Grants = append(in.Grants, &guardrail.GrantInfo{Namespace: word(), Name: word(), Reason: word(), Labels: labels()})
	}
	return in
}

// fresh is the same input, judged by nobody yet, with the same clusters.
func fresh(in *guardrail.Input) *guardrail.Input {
	return &guardrail.Input{
		Version: in.Version, Now: in.Now, Grant: in.Grant, Namespace: in.Namespace, Roles: in.Roles, Access: in.Access,
		Clusters: in.Clusters, Source: in.Source, Request: in.Request, Grants: in.Grants,
	}
}

// TestDeterminism: S15. The same input has the same answer, again and in parallel,
// and is not changed.
func TestDeterminism(t *testing.T) {
	p := &v1alpha1.CELPolicy{
		Variables: []v1alpha1.CELVariable{
			{Name: "rules", Expression: "input.access.map(a, a.rules).flatten()"},
			{Name: "names", Expression: "input.roles.map(name, name)"},
		},
		Validations: []v1alpha1.CELValidation{
			{Expression: "variables.rules.all(r, !rbac.allows(r, 'get', '', 'pods/exec'))", MessageExpression: "'rules: %s'.format([variables.rules.map(r, r.verbs)])"},
			{Expression: "variables.names.size() < 1", MessageExpression: "variables.names.join(',')"},
			{Expression: "input.clusters.all(c, c.labels.all(k, v, k != 'prod'))", MessageExpression: "'%s'.format([input.clusters.map(c, c.labels)])"},
			{Expression: "input.clusters == input.clusters && input.clusters.all(c, c == c && c.labels == c.labels)"},
			{Expression: "input.request.user.extra.all(k, k == 'a')", MessageExpression: "{'z': 1, 'y': 2, 'x': input.request.verb.size()}.map(k, k).join()"},
			{Expression: "input.grant.spec.validity.notAfter > input.now"},
		},
	}
	check := compile(t, p)
	random := rand.New(rand.NewPCG(3, 4))
	type answer struct {
		Violations []guardrail.Violation
		Err        string
	}
	ask := func(in *guardrail.Input) answer {
		v, err := check.Check(in)
		if err != nil {
			return answer{v, err.Error()}
		}
		return answer{v, ""}
	}
	for range 1000 {
		in := anyInput(random)
		before, err := json.Marshal(in)
		if err != nil {
			t.Fatal(err)
		}
		want := ask(in)
		if diff := cmp.Diff(want, ask(in)); diff != "" {
			t.Fatalf("not the same twice: %s", diff)
		}
		got := make([]answer, 4)
		var wg sync.WaitGroup
		for i := range got {
			wg.Go(func() { got[i] = ask(fresh(in)) })
		}
		wg.Wait()
		for _, g := range got {
			if diff := cmp.Diff(want, g); diff != "" {
				t.Fatalf("not the same in parallel: %s", diff)
			}
		}
		after, err := json.Marshal(in)
		if err != nil {
			t.Fatal(err)
		}
		if string(before) != string(after) {
			t.Fatalf("the input was changed: %s, %s", before, after)
		}
	}
}

// TestSeconds: S15. The instants of a grant have no fractions, as in its JSON, in
// which policies in Rego see them.
func TestSeconds(t *testing.T) {
	in := grantInput()
	end := metav1.NewTime(time.Date(2026, 11, 23, 10, 0, 0, 999999999, time.UTC))
	in.Grant.Spec.Validity = &v1alpha1.Validity{NotBefore: &end, NotAfter: &end}
	check := compile(t, policy("input.grant.spec.validity.notBefore == timestamp('2026-11-23T10:00:00Z')",
		"input.grant.spec.validity.notAfter == timestamp('2026-11-23T10:00:00Z')"))
	if got, err := check.Check(in); err != nil || len(got) > 0 {
		t.Errorf("got %v, %v", got, err)
	}
}
