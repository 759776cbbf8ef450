package cel

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"time"

	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/common/types/traits"
	rbacv1 "k8s.io/api/rbac/v1"

	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
)

// words are strings that most requests and rules are made of, as values: a value of
// any other string is an allocation.
var words = func() map[string]ref.Val {
	out := map[string]ref.Val{}
	for _, w := range []string{
		"", "*", "get", "list", "watch", "create", "update", "patch", "delete", "deletecollection", "bind", "escalate",
		"impersonate", "use", "proxy", "approve", "sign", "post", "put", "head",
		"apps", "batch", "autoscaling", "policy", "v1", "rbac.authorization.k8s.io", "networking.k8s.io", "discovery.k8s.io",
		"certificates.k8s.io", "coordination.k8s.io", "apiextensions.k8s.io", "admissionregistration.k8s.io", "storage.k8s.io",
		"pods", "secrets", "configmaps", "services", "endpoints", "endpointslices", "events", "namespaces", "nodes",
		"serviceaccounts", "persistentvolumes", "persistentvolumeclaims", "deployments", "replicasets", "statefulsets",
		"daemonsets", "jobs", "cronjobs", "ingresses", "networkpolicies", "leases", "roles", "rolebindings", "clusterroles",
		"clusterrolebindings", "customresourcedefinitions", "certificatesigningrequests", "horizontalpodautoscalers",
		"exec", "attach", "portforward", "log", "scale", "status", "token", "eviction", "ephemeralcontainers", "approval",
		"pods/exec", "pods/log", "pods/attach", "pods/portforward", "pods/ephemeralcontainers", "default", "kube-system",
		guardrail.InputVersion,
	} {
		out[w] = types.String(w)
	}
	return out
}()

func text(s string) ref.Val {
	if v, ok := words[s]; ok {
		return v
	}
	return types.String(s)
}

func timestamp(t time.Time) ref.Val { return types.Timestamp{Time: t.UTC()} }

// object is a view of a Go struct. It converts each field once. It is for one
// goroutine, but for that of a cluster, which is whole when it is made.
type object struct {
	of         *structType
	at         reflect.Value
	rule       *rbacv1.PolicyRule // of the view of one
	evaluation *evaluation        // of the view of input itself
	fields     []ref.Val
	known      uint64 // fields that have been looked at
	weight     uint64 // 0 if it is not known yet
}

func (s *schema) view(v reflect.Value) ref.Val {
	o := &object{of: s.byType[v.Type()], at: v}
	if v.Type() == ruleType {
		o.rule = v.Addr().Interface().(*rbacv1.PolicyRule)
	}
	return o
}

type clusterKey struct{}

func (s *schema) cluster(v reflect.Value) ref.Val {
	c := v.Addr().Interface().(*guardrail.Cluster)
	return c.Memo(clusterKey{}, func() any {
		o := &object{of: s.byType[clusterType], at: v}
		for _, f := range o.of.fields {
			o.field(f)
		}
		weigh(o, budget)
		return o
	}).(ref.Val)
}

// field is nil where it is absent.
func (o *object) field(f *fieldType) ref.Val {
	if o.evaluation != nil {
		return o.evaluation.field(f)
	}
	if o.known&(1<<f.index) != 0 {
		return o.fields[f.index]
	}
	if o.fields == nil {
		o.fields = make([]ref.Val, len(o.of.fields))
	}
	v := f.of(o.at)
	o.fields[f.index] = v
	o.known |= 1 << f.index
	return v
}

func (o *object) ConvertToNative(t reflect.Type) (any, error) {
	return nil, fmt.Errorf("%s is no %s", o.of.name, t)
}

func (o *object) ConvertToType(t ref.Type) ref.Val {
	if t == types.TypeType {
		return o.of.cel
	}
	return types.NewErr("cannot convert %s to %s", o.of.name, t.TypeName())
}

func (o *object) Equal(other ref.Val) ref.Val {
	x, ok := other.(*object)
	if !ok || x.of != o.of {
		return types.False
	}
	if x == o {
		return types.True
	}
	for _, f := range o.of.fields {
		a, b := o.field(f), x.field(f)
		if (a == nil) != (b == nil) || a != nil && types.Equal(a, b) != types.True {
			return types.False
		}
	}
	return types.True
}

func (o *object) Type() ref.Type { return o.of.cel }
func (o *object) Value() any     { return o }

// IsSet and Get are for a view whose type was not known to the compiler.
func (o *object) IsSet(name ref.Val) ref.Val {
	f, err := o.named(name)
	if err != nil {
		return err
	}
	return types.Bool(o.field(f) != nil)
}

func (o *object) Get(name ref.Val) ref.Val {
	f, err := o.named(name)
	if err != nil {
		return err
	}
	if v := o.field(f); v != nil {
		return v
	}
	return types.NewErr("%s is absent", f.name)
}

func (o *object) named(name ref.Val) (*fieldType, ref.Val) {
	s, ok := name.(types.String)
	if !ok {
		return nil, types.MaybeNoSuchOverloadErr(name)
	}
	f, ok := o.of.byName[string(s)]
	if !ok {
		return nil, types.NewErr("%s has no field %s", o.of.name, string(s))
	}
	return f, nil
}

// list is an immutable list.
type list struct {
	traits.Lister
	values []ref.Val
	weight uint64
}

func listOf(v reflect.Value, to conversion) ref.Val {
	if v.Type().Elem().Kind() == reflect.String {
		return newList(v.Len(), func(i int) ref.Val { return text(v.Index(i).String()) })
	}
	return newList(v.Len(), func(i int) ref.Val { return to(v.Index(i)) })
}

func newList(n int, at func(int) ref.Val) ref.Val {
	l := &list{values: make([]ref.Val, n)}
	for i := range l.values {
		l.values[i] = at(i)
	}
	l.Lister = types.NewRefValList(types.DefaultTypeAdapter, l.values)
	return l
}

func (l *list) Iterator() traits.Iterator { return &iterator{values: l.values} }

func (l *list) Contains(v ref.Val) ref.Val {
	for _, e := range l.values {
		if types.Equal(v, e) == types.True {
			return types.True
		}
	}
	return types.False
}

// iterator of a list or of the keys of a map.
type iterator struct {
	traits.Iterator // nil: only HasNext and Next are asked of an iterator
	values          []ref.Val
}

func (it *iterator) HasNext() ref.Val { return types.Bool(len(it.values) > 0) }

func (it *iterator) Next() ref.Val {
	v := it.values[0]
	it.values = it.values[1:]
	return v
}

// dict is an immutable map that is gone through in the order of its keys, so that
// the same input always gives the same answer.
type dict struct {
	traits.Mapper
	keys   []ref.Val
	weight uint64
}

func newDict(m map[ref.Val]ref.Val) ref.Val {
	d := &dict{Mapper: types.NewRefValMap(types.DefaultTypeAdapter, m), keys: make([]ref.Val, 0, len(m))}
	for k := range m {
		d.keys = append(d.keys, k)
	}
	slices.SortFunc(d.keys, compareKeys)
	return d
}

// compareKeys sorts by type, then by value.
func compareKeys(a, b ref.Val) int {
	if c, ok := a.(traits.Comparer); ok && a.Type() == b.Type() {
		if n, ok := c.Compare(b).(types.Int); ok {
			return int(n)
		}
	}
	switch x, y := a.Type().TypeName(), b.Type().TypeName(); {
	case x < y:
		return -1
	case x > y:
		return 1
	}
	return 0
}

func mapOf(v reflect.Value, to conversion) ref.Val {
	out := make(map[ref.Val]ref.Val, v.Len())
	it := v.MapRange()
	for it.Next() {
		e := reflect.New(v.Type().Elem()).Elem() // what is in a map has no address
		e.Set(it.Value())
		out[text(it.Key().String())] = to(e)
	}
	return newDict(out)
}

func (d *dict) Iterator() traits.Iterator { return &iterator{values: d.keys} }

// Fold is the iteration with two variables.
func (d *dict) Fold(f traits.Folder) {
	for _, k := range d.keys {
		v, _ := d.Find(k)
		if !f.FoldEntry(k, v) {
			return
		}
	}
}

// sorted is a value as it is iterated over.
func sorted(v ref.Val) ref.Val {
	m, ok := v.(traits.Mapper)
	if _, mine := v.(*dict); !ok || mine {
		return v
	}
	out := map[ref.Val]ref.Val{}
	for it := m.Iterator(); it.HasNext() == types.True; {
		k := it.Next()
		out[k], _ = m.Find(k)
	}
	return newDict(out)
}

// valueOf JSON, with numbers as json.Number. A number is an int where it is one.
func valueOf(v any) (ref.Val, error) {
	switch v := v.(type) {
	case nil:
		return types.NullValue, nil
	case bool:
		return types.Bool(v), nil
	case string:
		return text(v), nil
	case json.Number:
		if n, err := v.Int64(); err == nil {
			return types.Int(n), nil
		}
		f, err := v.Float64()
		if err != nil {
			return nil, fmt.Errorf("number %s is out of range", v)
		}
		return types.Double(f), nil
	case float64:
		if n := int64(v); float64(n) == v {
			return types.Int(n), nil
		}
		return types.Double(v), nil
	case int64:
		return types.Int(v), nil
	case []any:
		values := make([]ref.Val, len(v))
		for i, e := range v {
			var err error
			if values[i], err = valueOf(e); err != nil {
				return nil, fmt.Errorf("[%d]: %w", i, err)
			}
		}
		return newList(len(values), func(i int) ref.Val { return values[i] }), nil
	case map[string]any:
		out := make(map[ref.Val]ref.Val, len(v))
		for k, e := range v {
			value, err := valueOf(e)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", k, err)
			}
			out[text(k)] = value
		}
		return newDict(out), nil
	}
	return nil, fmt.Errorf("%T is not of JSON", v)
}
