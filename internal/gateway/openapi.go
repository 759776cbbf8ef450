package gateway

import (
	"reflect"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	generated "k8s.io/kube-aggregator/pkg/generated/openapi"
	"k8s.io/kube-openapi/pkg/common"
	"k8s.io/kube-openapi/pkg/validation/spec"

	"github.com/sallyport-dev/sallyport/api/proxy/v1alpha1"
)

// definitions of the types that are served: those of metav1 as Kubernetes has them, and
// ours.
func definitions(ref common.ReferenceCallback) map[string]common.OpenAPIDefinition {
	all := generated.GetOpenAPIDefinitions(ref)
	d := definer{ref: ref, all: all}
	d.define(reflect.TypeFor[v1alpha1.Cluster](), "A member of the fleet on which the person who asks has an active grant.")
	d.define(reflect.TypeFor[v1alpha1.ClusterList](), "A list of clusters.")
	return all
}

// fieldTexts are the fields of ours, as the comments on the types have them.
var fieldTexts = map[string]string{
	"Cluster.status": "Status of the member, as the person who asks may know it.",

	"ClusterStatus.availability": "Availability of the member, as the inventory has it: Available, Unavailable or Unknown.",
	"ClusterStatus.route":        "Route is whether requests can be sent to the member: Ready or NotReady.",
	"ClusterStatus.routeMessage": "RouteMessage says why the route is not ready.",
	"ClusterStatus.delivery":     "Delivery is how the member gets its RBAC: ManifestWork, Work, Direct or None.",
	"ClusterStatus.grants":       "Grants that open the cluster to the person who asks, sorted by namespace and name.",

	"ClusterGrant.namespace": "Namespace of the grant on the hub.",
	"ClusterGrant.name":      "Name of the grant.",
	"ClusterGrant.notAfter":  "NotAfter is when the grant ends; absent if it does not.",
	"ClusterGrant.revision":  "Revision is the commit that the grant came from, where it is known.",
}

// definer of types by their fields. It knows what our few types are made of: texts, lists,
// times, and metadata.
type definer struct {
	ref common.ReferenceCallback
	all map[string]common.OpenAPIDefinition
}

// modelOf is the name that the schema of a type has: all that are written here say it.
func modelOf(t reflect.Type) string {
	return reflect.Zero(t).Interface().(interface{ OpenAPIModelName() string }).OpenAPIModelName()
}

func (d definer) define(t reflect.Type, description string) {
	s := spec.Schema{SchemaProps: spec.SchemaProps{Description: description, Type: []string{"object"}, Properties: map[string]spec.Schema{}}}
	var needs []string
	for f := range fields(t) {
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		property, model := d.property(f.Type)
		property.Description = fieldTexts[t.Name()+"."+name]
		s.Properties[name] = property
		if model != "" {
			needs = append(needs, model)
		}
		if !strings.Contains(options, "omitempty") {
			s.Required = append(s.Required, name)
		}
	}
	d.all[modelOf(t)] = common.OpenAPIDefinition{Schema: s, Dependencies: needs}
}

// fields that are written, those of TypeMeta as if they were the type's own.
func fields(t reflect.Type) func(func(reflect.StructField) bool) {
	return func(yield func(reflect.StructField) bool) {
		for _, f := range reflect.VisibleFields(t) {
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			ofTypeMeta := len(f.Index) == 2 && t.Field(f.Index[0]).Type == reflect.TypeFor[metav1.TypeMeta]()
			if name != "" && (len(f.Index) == 1 || ofTypeMeta) && !yield(f) {
				return
			}
		}
	}
}

// property of a type, and the model that it refers to, if it does.
func (d definer) property(t reflect.Type) (spec.Schema, string) {
	switch {
	case t.Kind() == reflect.Pointer:
		return d.property(t.Elem())
	case t == reflect.TypeFor[time.Time]():
		return *spec.DateTimeProperty(), ""
	case t.Kind() == reflect.String:
		return *spec.StringProperty(), ""
	case t.Kind() == reflect.Slice:
		items, model := d.property(t.Elem())
		return *spec.ArrayProperty(&items), model
	}
	model := modelOf(t)
	if _, known := d.all[model]; !known {
		d.define(t, "")
	}
	return spec.Schema{SchemaProps: spec.SchemaProps{Ref: d.ref(model)}}, model
}
