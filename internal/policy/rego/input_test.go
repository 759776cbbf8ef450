package rego

import (
	"encoding/json"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
)

// random fills a value of any type of the document with what comes.
func random(r *rand.Rand, v reflect.Value) {
	words := []string{"", "a", "prod", "é\n", "<&>\u2028", "\xff\xfe", "x\x00", strings.Repeat("long", 9)}
	switch at := v.Addr().Interface().(type) {
	case *time.Time:
		*at = time.Unix(r.Int64N(1<<33), r.Int64N(3)*123456000).UTC()
		return
	case *metav1.Time:
		if r.IntN(4) > 0 {
			*at = metav1.NewTime(time.Unix(r.Int64N(1<<33), r.Int64N(1e9)).In(time.FixedZone("x", 3600*r.IntN(5))))
		}
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(words[r.IntN(len(words))])
	case reflect.Bool:
		v.SetBool(r.IntN(2) == 0)
	case reflect.Pointer:
		if r.IntN(3) > 0 {
			v.Set(reflect.New(v.Type().Elem()))
			random(r, v.Elem())
		}
	case reflect.Slice:
		if n := r.IntN(4); n > 0 {
			v.Set(reflect.MakeSlice(v.Type(), n-1, n-1))
			for i := range n - 1 {
				random(r, v.Index(i))
			}
		}
	case reflect.Map:
		if n := r.IntN(4); n > 0 {
			v.Set(reflect.MakeMap(v.Type()))
			for range n - 1 {
				key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
				for random(r, key); strings.Contains(key.String(), "\xff"); random(r, key) {
					continue // two such keys are one in JSON
				}
				random(r, value)
				v.SetMapIndex(key, value)
			}
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				random(r, v.Field(i))
			}
		}
	default:
		panic(v.Type())
	}
}

// TestInput compares what policies see with the JSON of the input: the same names,
// and the same present and absent.
func TestInput(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		in := &guardrail.Input{}
		random(r, reflect.ValueOf(in).Elem())
		parameters := ast.MustInterfaceToValue(map[string]any{"most": r.IntN(3)})
		raw, err := json.Marshal(in)
		if err != nil {
			t.Fatal(err)
		}
		want := ast.MustParseTerm(string(raw)).Value.(ast.Object)
		want.Insert(ast.StringTerm("parameters"), ast.NewTerm(parameters))
		got := documentOf(in).with(ast.NewTerm(parameters)).Value
		if want.Compare(got) != 0 || want.Hash() != got.Hash() {
			t.Fatalf("got  %v\nwant %v", got, want)
		}
		if again := documentOf(in); documentOf(in) != again || again.with(noParameters) != again.plain {
			t.Fatal("an input is converted twice")
		}
	}
}

// TestClusters: a cluster is converted once for all inputs.
func TestClusters(t *testing.T) {
	cluster := &guardrail.Cluster{Name: "c"}
	term := func() *ast.Term {
		in := &guardrail.Input{Clusters: []*guardrail.Cluster{cluster}, Request: &guardrail.RequestInfo{Cluster: cluster}}
		o := documentOf(in).plain.Value.(ast.Object)
		a := o.Get(ast.StringTerm("clusters")).Value.(*ast.Array).Elem(0)
		if b := o.Get(ast.StringTerm("request")).Value.(ast.Object).Get(ast.StringTerm("cluster")); a != b {
			t.Error("a cluster is converted twice in one input")
		}
		return a
	}
	if once := term(); once != term() {
		t.Error("a cluster is converted once for each input")
	}
}
