package rego

import (
	"cmp"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/open-policy-agent/opa/v1/ast"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
)

// memo is the key of what is made of an input or a cluster.
type memo struct{}

// document is an input as policies see it, without parameters.
type document struct {
	fields [][2]*ast.Term
	// plain is the input of a policy that has no parameters.
	plain *ast.Term
}

var noParameters = ast.NewTerm(ast.NewObject())

// documentOf an input, made once however many policies ask.
func documentOf(in *guardrail.Input) *document {
	return in.Memo(memo{}, func() any {
		d := &document{fields: inputFields(reflect.ValueOf(in).Elem())}
		d.plain = d.with(noParameters)
		return d
	}).(*document)
}

// with parameters the document is what a policy sees.
func (d *document) with(parameters *ast.Term) *ast.Term {
	if parameters == noParameters && d.plain != nil {
		return d.plain
	}
	fields := make([][2]*ast.Term, 0, len(d.fields)+1)
	fields = append(fields, d.fields...)
	return ast.NewTerm(ast.NewObject(append(fields, [2]*ast.Term{parametersKey, parameters})...))
}

var parametersKey = ast.StringTerm("parameters")

// An encoder makes of a Go value what Rego would make of its JSON.
type encoder func(reflect.Value) *ast.Term

// inputFields are the members of the document. The way from a type to its encoder
// is gone once, here.
var inputFields = structFields(reflect.TypeFor[guardrail.Input]())

var null = ast.NullTerm()

func encoderOf(t reflect.Type) encoder {
	switch t {
	case reflect.TypeFor[time.Time]():
		return func(v reflect.Value) *ast.Term { return instant(v.Interface().(time.Time)) }
	case reflect.TypeFor[metav1.Time]():
		return func(v reflect.Value) *ast.Term {
			at := v.Interface().(metav1.Time)
			if at.IsZero() {
				return null
			}
			return ast.StringTerm(at.UTC().Format(time.RFC3339))
		}
	case reflect.TypeFor[*guardrail.Cluster]():
		return clusterEncoder()
	}
	switch t.Kind() {
	case reflect.String:
		return func(v reflect.Value) *ast.Term { return str(v.String()) }
	case reflect.Bool:
		return func(v reflect.Value) *ast.Term { return ast.InternedTerm(v.Bool()) }
	case reflect.Int, reflect.Int32, reflect.Int64:
		return func(v reflect.Value) *ast.Term { return ast.InternedTerm(v.Int()) }
	case reflect.Pointer:
		return orNull(pointerEncoder(t))
	case reflect.Slice:
		return orNull(sliceEncoder(t))
	case reflect.Map:
		return orNull(mapEncoder(t))
	case reflect.Struct:
		fields := structFields(t)
		return func(v reflect.Value) *ast.Term { return ast.NewTerm(ast.NewObject(fields(v)...)) }
	}
	panic(fmt.Sprintf("the input document has a %v", t))
}

func orNull(e encoder) encoder {
	return func(v reflect.Value) *ast.Term {
		if v.IsNil() {
			return null
		}
		return e(v)
	}
}

func pointerEncoder(t reflect.Type) encoder {
	elem := encoderOf(t.Elem())
	return func(v reflect.Value) *ast.Term { return elem(v.Elem()) }
}

func sliceEncoder(t reflect.Type) encoder {
	elem := encoderOf(t.Elem())
	return func(v reflect.Value) *ast.Term {
		terms := make([]*ast.Term, v.Len())
		for i := range terms {
			terms[i] = elem(v.Index(i))
		}
		return ast.ArrayTerm(terms...)
	}
}

func mapEncoder(t reflect.Type) encoder {
	if t.Key().Kind() != reflect.String {
		panic(fmt.Sprintf("the input document has a %v", t))
	}
	elem := encoderOf(t.Elem())
	return func(v reflect.Value) *ast.Term {
		members := make([][2]*ast.Term, 0, v.Len())
		for it := v.MapRange(); it.Next(); {
			members = append(members, [2]*ast.Term{str(it.Key().String()), elem(it.Value())})
		}
		// Objects sort their keys when they are first read in order; in order already,
		// that is cheap.
		slices.SortFunc(members, func(a, b [2]*ast.Term) int {
			return cmp.Compare(a[0].Value.(ast.String), b[0].Value.(ast.String))
		})
		return ast.NewTerm(ast.NewObject(members...))
	}
}

// clusterEncoder converts a cluster once, for all inputs that it is in.
func clusterEncoder() encoder {
	convert := pointerEncoder(reflect.TypeFor[*guardrail.Cluster]())
	return orNull(func(v reflect.Value) *ast.Term {
		return v.Interface().(*guardrail.Cluster).Memo(memo{}, func() any { return convert(v) }).(*ast.Term)
	})
}

// structFields encodes the members of a struct that its JSON has.
func structFields(t reflect.Type) func(reflect.Value) [][2]*ast.Term {
	type member struct {
		index     int
		key       *ast.Term
		encode    encoder
		omitEmpty bool
	}
	var members []member
	for i := range t.NumField() {
		f := t.Field(i)
		tag, ok := f.Tag.Lookup("json")
		if !f.IsExported() || tag == "-" {
			continue
		}
		name, options, _ := strings.Cut(tag, ",")
		if !ok || name == "" || options != "" && options != "omitempty" {
			panic(fmt.Sprintf("the input document has %v.%s with the tag %q", t, f.Name, tag))
		}
		members = append(members, member{i, ast.StringTerm(name), encoderOf(f.Type), options == "omitempty"})
	}
	slices.SortFunc(members, func(a, b member) int { return ast.Compare(a.key, b.key) })
	return func(v reflect.Value) [][2]*ast.Term {
		out := make([][2]*ast.Term, 0, len(members))
		for i := range members {
			m := &members[i]
			if field := v.Field(m.index); !m.omitEmpty || !empty(field) {
				out = append(out, [2]*ast.Term{m.key, m.encode(field)})
			}
		}
		return out
	}
}

// empty is what omitempty means.
func empty(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Map, reflect.Slice, reflect.String:
		return v.Len() == 0
	case reflect.Struct:
		return false
	}
	return v.IsZero()
}

func instant(t time.Time) *ast.Term { return ast.StringTerm(t.Format(time.RFC3339Nano)) }

// str is a string as JSON has it: each byte that is not UTF-8 is replaced.
func str(s string) *ast.Term {
	if !utf8.ValidString(s) {
		s = string([]rune(s))
	}
	return ast.InternedTerm(s)
}
