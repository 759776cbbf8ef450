package cel

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
)

// parameters is the one field of input that is not in guardrail.Input: it is of
// the policy and not of what is judged.
const parameters = "parameters"

// structType is a Go struct as CEL sees it.
type structType struct {
	name   string
	cel    *cel.Type
	fields []*fieldType
	byName map[string]*fieldType
}

// fieldType is a field with a JSON tag.
type fieldType struct {
	name  string
	index int // in the CEL type
	goes  int // in the Go type
	cel   *cel.Type
	// optional: absent where it is empty, and, if it is a pointer that the document
	// has in any case, where it is nil.
	optional, always bool
	// to is how a value is made of the Go one.
	to conversion
	// field and present, for cel-go.
	access *types.FieldType
}

// conversion of a Go value to a CEL value. The value is addressable.
type conversion func(reflect.Value) ref.Val

// schema is all types of the input document.
type schema struct {
	input  *structType
	byName map[string]*structType
	byType map[reflect.Type]*structType
}

var (
	timeType       = reflect.TypeFor[time.Time]()
	metaTimeType   = reflect.TypeFor[metav1.Time]()
	ruleType       = reflect.TypeFor[rbacv1.PolicyRule]()
	grantRuleType  = reflect.TypeFor[v1alpha1.PolicyRule]()
	clusterType    = reflect.TypeFor[guardrail.Cluster]()
	inputType      = reflect.TypeFor[guardrail.Input]()
	parametersType = cel.DynType
)

// newSchema reads the types that guardrail.Input is made of.
func newSchema() (*schema, error) {
	s := &schema{byName: map[string]*structType{}, byType: map[reflect.Type]*structType{}}
	var err error
	if s.input, err = s.structOf(inputType); err != nil {
		return nil, err
	}
	p := &fieldType{name: parameters, index: len(s.input.fields), cel: parametersType}
	p.access = s.accessTo(s.input, p)
	s.input.fields = append(s.input.fields, p)
	s.input.byName[parameters] = p
	return s, nil
}

func (s *schema) structOf(t reflect.Type) (*structType, error) {
	if st, ok := s.byType[t]; ok {
		return st, nil
	}
	name := "sallyport." + t.Name()
	if t == metaTimeType || s.byName[name] != nil {
		return nil, fmt.Errorf("two types have the name %q", name)
	}
	st := &structType{name: name, cel: cel.ObjectType(name), byName: map[string]*fieldType{}}
	s.byName[name], s.byType[t] = st, st
	for i := range t.NumField() {
		sf := t.Field(i)
		tag, options, _ := strings.Cut(sf.Tag.Get("json"), ",")
		if !sf.IsExported() || tag == "" || tag == "-" {
			if sf.IsExported() {
				return nil, fmt.Errorf("field %s.%s has no name in JSON", name, sf.Name)
			}
			continue
		}
		f := &fieldType{
			name: tag, index: len(st.fields), goes: i,
			optional: slices.Contains(strings.Split(options, ","), "omitempty"),
		}
		var err error
		if f.cel, f.to, err = s.typeOf(sf.Type); err != nil {
			return nil, fmt.Errorf("field %s.%s: %w", name, tag, err)
		}
		// A pointer that is required is null in JSON where it is nil, which nothing can
		// be selected from either.
		f.always = !f.optional
		f.optional = f.optional || sf.Type.Kind() == reflect.Pointer
		f.access = s.accessTo(st, f)
		st.fields = append(st.fields, f)
		st.byName[tag] = f
	}
	return st, nil
}

func (s *schema) typeOf(t reflect.Type) (*cel.Type, conversion, error) {
	switch t {
	case timeType:
		return cel.TimestampType, func(v reflect.Value) ref.Val { return timestamp(*v.Addr().Interface().(*time.Time)) }, nil
	case metaTimeType:
		return cel.TimestampType, func(v reflect.Value) ref.Val {
			// JSON has no fractions of it, so that only a file that nobody has applied does.
			return timestamp(v.Addr().Interface().(*metav1.Time).Truncate(time.Second))
		}, nil
	case grantRuleType:
		_, err := s.structOf(ruleType)
		return s.byType[ruleType].cel, func(v reflect.Value) ref.Val {
			return s.view(reflect.ValueOf((*rbacv1.PolicyRule)(v.Addr().Interface().(*v1alpha1.PolicyRule))).Elem())
		}, err
	}
	switch t.Kind() {
	case reflect.Bool:
		return cel.BoolType, func(v reflect.Value) ref.Val { return types.Bool(v.Bool()) }, nil
	case reflect.String:
		return cel.StringType, func(v reflect.Value) ref.Val { return text(v.String()) }, nil
	case reflect.Int, reflect.Int32, reflect.Int64:
		return cel.IntType, func(v reflect.Value) ref.Val { return types.Int(v.Int()) }, nil
	case reflect.Pointer:
		c, to, err := s.typeOf(t.Elem())
		if t.Elem() == clusterType {
			to = s.cluster
		}
		return c, func(v reflect.Value) ref.Val { return to(v.Elem()) }, err
	case reflect.Struct:
		st, err := s.structOf(t)
		if err != nil {
			return nil, nil, err
		}
		return st.cel, s.view, nil
	case reflect.Slice:
		c, to, err := s.typeOf(t.Elem())
		return cel.ListType(c), func(v reflect.Value) ref.Val { return listOf(v, to) }, err
	case reflect.Map:
		if t.Key().Kind() != reflect.String {
			break
		}
		c, to, err := s.typeOf(t.Elem())
		return cel.MapType(cel.StringType, c), func(v reflect.Value) ref.Val { return mapOf(v, to) }, err
	}
	return nil, nil, fmt.Errorf("no type for %s", t)
}

// accessTo a field by what an attribute of it meets at run time: the evaluation,
// for input itself; a view; or a pointer to the Go struct, where no view has been
// made.
func (s *schema) accessTo(st *structType, f *fieldType) *types.FieldType {
	absent := types.NewErr("%s is absent", f.name)
	get := func(obj any) ref.Val {
		switch o := obj.(type) {
		case *evaluation:
			return o.field(f)
		case *object:
			if o.of == st {
				return o.field(f)
			}
		case *guardrail.RequestInfo:
			return f.of(reflect.ValueOf(o).Elem())
		case *guardrail.User:
			return f.of(reflect.ValueOf(o).Elem())
		}
		return types.NewErr("%T has no field %s", obj, f.name)
	}
	return &types.FieldType{
		Type: f.cel,
		IsSet: func(obj any) bool {
			v := get(obj)
			return v != nil && !types.IsError(v)
		},
		GetFrom: func(obj any) (any, error) {
			// Requests are judged by the thousand, and a view of one that is looked at once
			// costs more than what is looked at.
			switch o := obj.(type) {
			case *evaluation:
				if f.goes == requestField && f.name != parameters && o.in.Request != nil {
					return o.in.Request, nil
				}
			case *guardrail.RequestInfo:
				if f.goes == userField {
					return &o.User, nil
				}
			}
			switch v := get(obj).(type) {
			case nil:
				return nil, absent.(*types.Err)
			case *types.Err:
				return nil, v
			default:
				return v, nil
			}
		},
	}
}

// Where fields are in Input and RequestInfo.
var (
	requestField = fieldIndex(inputType, "Request")
	nowField     = fieldIndex(inputType, "Now")
	grantsField  = fieldIndex(inputType, "Grants")
	userField    = fieldIndex(reflect.TypeFor[guardrail.RequestInfo](), "User")
)

func fieldIndex(t reflect.Type, name string) int {
	f, _ := t.FieldByName(name)
	return f.Index[0]
}

// of is the value of the field in a Go struct; nil where it is absent.
func (f *fieldType) of(v reflect.Value) ref.Val {
	fv := v.Field(f.goes)
	if f.optional && empty(fv) {
		return nil
	}
	return f.to(fv)
}

// empty is what encoding/json means by it.
func empty(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Slice, reflect.Map, reflect.String:
		return v.Len() == 0
	case reflect.Struct:
		return false
	}
	return v.IsZero()
}

// provider of the types, in front of Kubernetes'.
type provider struct {
	types.Provider
	types.Adapter
	schema *schema
}

// FindStructType by name.
func (p *provider) FindStructType(name string) (*types.Type, bool) {
	if st, ok := p.schema.byName[name]; ok {
		return types.NewTypeTypeWithParam(st.cel), true
	}
	return p.Provider.FindStructType(name)
}

// FindStructFieldNames of a type.
func (p *provider) FindStructFieldNames(name string) ([]string, bool) {
	st, ok := p.schema.byName[name]
	if !ok {
		return p.Provider.FindStructFieldNames(name)
	}
	var names []string
	for _, f := range st.fields {
		names = append(names, f.name)
	}
	return names, true
}

// FindStructFieldType of a field.
func (p *provider) FindStructFieldType(name, field string) (*types.FieldType, bool) {
	st, ok := p.schema.byName[name]
	if !ok {
		return p.Provider.FindStructFieldType(name, field)
	}
	if f, ok := st.byName[field]; ok {
		return f.access, true
	}
	return nil, false
}

// NewValue makes none of the types of the input: a policy that could write its own
// would be judging that.
func (p *provider) NewValue(name string, fields map[string]ref.Val) ref.Val {
	if _, ok := p.schema.byName[name]; ok {
		return types.NewErr("%s cannot be made in a policy", name)
	}
	return p.Provider.NewValue(name, fields)
}

// NativeToValue adapts what attributes of the input end in.
func (p *provider) NativeToValue(value any) ref.Val {
	switch v := value.(type) {
	case ref.Val:
		return v
	case *evaluation:
		return &object{of: p.schema.input, evaluation: v}
	case *guardrail.RequestInfo:
		return p.schema.view(reflect.ValueOf(v).Elem())
	case *guardrail.User:
		return p.schema.view(reflect.ValueOf(v).Elem())
	}
	return p.Adapter.NativeToValue(value)
}

// Field of the input document.
type Field struct {
	// Path as a policy writes it, such as input.grant.spec.reason. The element of a
	// list is [], the value of a map is [KEY].
	Path string
	// Type in CEL, such as string or list(string). What has fields of its own is an
	// object.
	Type string
	// Optional fields may be absent.
	Optional bool
	// Go is the struct that has the field, and the name there; empty for
	// input.parameters, which is in none.
	Go      reflect.Type
	GoField string
}

// Fields lists the input document as policies see it, a field before those in it,
// and otherwise in the order of the Go types.
func Fields() ([]Field, error) {
	env, err := shared()
	if err != nil {
		return nil, err
	}
	byCEL := map[string]reflect.Type{}
	for t, st := range env.schema.byType {
		byCEL[st.name] = t
	}
	var out []Field
	var walk func(path string, st *structType)
	walk = func(path string, st *structType) {
		goes := byCEL[st.name]
		for _, f := range st.fields {
			entry := Field{Path: path + "." + f.name, Type: describe(f.cel), Optional: f.optional && !f.always}
			if f.to != nil {
				entry.Go, entry.GoField = goes, goes.Field(f.goes).Name
			}
			out = append(out, entry)
			inner, suffix := f.cel, ""
			for {
				switch inner.Kind() {
				case types.ListKind:
					inner, suffix = inner.Parameters()[0], suffix+"[]"
					continue
				case types.MapKind:
					inner, suffix = inner.Parameters()[1], suffix+"[KEY]"
					continue
				}
				break
			}
			if next, ok := env.schema.byName[inner.TypeName()]; ok {
				walk(entry.Path+suffix, next)
			}
		}
	}
	walk("input", env.schema.input)
	return out, nil
}

func describe(t *cel.Type) string {
	switch t.Kind() {
	case types.ListKind:
		return "list(" + describe(t.Parameters()[0]) + ")"
	case types.MapKind:
		return "map(string, " + describe(t.Parameters()[1]) + ")"
	case types.StructKind:
		return "object"
	case types.TimestampKind:
		return "timestamp"
	}
	return t.String()
}
