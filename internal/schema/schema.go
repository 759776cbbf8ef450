// Package schema validates objects of this API as the hub's API server does, with
// the code of the API server, where there is none: against the schema, the list
// types and the CEL rules of the CustomResourceDefinitions.
package schema

import (
	"context"
	"fmt"
	"io/fs"
	"strings"
	"sync"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/listtype"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	"sigs.k8s.io/yaml"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/config/crd"
)

// Schemas of the kinds of this API. It is safe for use by any number of goroutines.
type Schemas struct {
	kinds map[string]func() (*kind, error)
}

// kind in the version that is served.
type kind struct {
	structural *schema.Structural
	schema     validation.SchemaValidator
	rules      *cel.Validator
}

// New reads the definitions. What takes long, which is to compile the rules of a
// kind, is left to the first object of the kind.
func New() (*Schemas, error) {
	names, err := fs.Glob(crd.Bases, "bases/*.yaml")
	if err != nil {
		return nil, err
	}
	s := &Schemas{kinds: map[string]func() (*kind, error){}}
	for _, name := range names {
		data, err := fs.ReadFile(crd.Bases, name)
		if err != nil {
			return nil, err
		}
		var definition apiextensionsv1.CustomResourceDefinition
		if err := yaml.UnmarshalStrict(data, &definition); err != nil {
			return nil, fmt.Errorf("cannot read %s: %w", name, err)
		}
		for _, v := range definition.Spec.Versions {
			if v.Name == v1alpha1.GroupVersion.Version {
				s.kinds[definition.Spec.Names.Kind] = sync.OnceValues(func() (*kind, error) { return compile(v.Schema.OpenAPIV3Schema) })
			}
		}
	}
	return s, nil
}

func compile(in *apiextensionsv1.JSONSchemaProps) (*kind, error) {
	var props apiextensions.JSONSchemaProps
	if err := apiextensionsv1.Convert_v1_JSONSchemaProps_To_apiextensions_JSONSchemaProps(in, &props, nil); err != nil {
		return nil, err
	}
	structural, err := schema.NewStructural(&props)
	if err != nil {
		return nil, err
	}
	v, _, err := validation.NewSchemaValidator(&props)
	if err != nil {
		return nil, err
	}
	return &kind{structural: structural, schema: v, rules: cel.NewValidator(structural, true, celconfig.PerCallLimit)}, nil
}

// Validate an object of the kind as it is when it is created. The object is not
// changed; that it has unknown fields is for others to find.
func (s *Schemas) Validate(ctx context.Context, kindName string, object map[string]any) (field.ErrorList, error) {
	of, known := s.kinds[kindName]
	if !known {
		return nil, fmt.Errorf("cannot validate kind %q: there is no such kind", kindName)
	}
	k, err := of()
	if err != nil {
		return nil, fmt.Errorf("cannot validate kind %q: %w", kindName, err)
	}
	object = runtime.DeepCopyJSON(object)
	defaulting.Default(object, k.structural)
	errs := validation.ValidateCustomResource(nil, object, k.schema)
	errs = append(errs, listtype.ValidateListSetsAndMaps(nil, k.structural, object)...)
	if len(errs) == 0 { // rules may rely on the schema
		errs, _ = k.rules.Validate(ctx, nil, k.structural, object, nil, celconfig.RuntimeCELCostBudget)
	}
	for _, e := range errs {
		if e.Field == root {
			e.Field = ""
		}
	}
	return errs, nil
}

// root is what the API server calls the field that an error about the whole object
// is at.
var root = (*field.Path)(nil).String()

// Refusal is what a field is refused for, without its value.
func Refusal(e *field.Error) string {
	switch e.Type {
	case field.ErrorTypeInvalid, field.ErrorTypeForbidden, field.ErrorTypeTypeInvalid:
		return strings.TrimPrefix(e.Detail, e.Field+" in body ")
	}
	return e.ErrorBody()
}
