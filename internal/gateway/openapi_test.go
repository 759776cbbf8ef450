package gateway

import (
	"reflect"
	"strings"
	"testing"

	"k8s.io/kube-openapi/pkg/validation/spec"

	"github.com/sallyport-dev/sallyport/api/proxy/v1alpha1"
)

// TestDefinitions: every field of ours is told of, and everything that is told of is there.
func TestDefinitions(t *testing.T) {
	all := definitions(func(name string) spec.Ref { return spec.MustCreateRef("#/" + name) })
	described := map[string]string{}
	for _, of := range []reflect.Type{
		reflect.TypeFor[v1alpha1.Cluster](), reflect.TypeFor[v1alpha1.ClusterList](), reflect.TypeFor[v1alpha1.ClusterStatus](), reflect.TypeFor[v1alpha1.ClusterGrant](),
	} {
		d, ok := all[modelOf(of)]
		if !ok {
			t.Fatalf("%s has no definition", of.Name())
		}
		for _, need := range d.Dependencies {
			if _, ok := all[need]; !ok {
				t.Errorf("%s needs %s, which is not there", of.Name(), need)
			}
		}
		for name, p := range d.Schema.Properties {
			described[of.Name()+"."+name] = p.Description
			if p.Ref.String() == "" && len(p.Type) == 0 {
				t.Errorf("%s.%s has no type", of.Name(), name)
			}
		}
	}
	for field, text := range described {
		own := !strings.HasPrefix(field, "ClusterList.") && !strings.HasSuffix(field, ".apiVersion") && !strings.HasSuffix(field, ".kind") && !strings.HasSuffix(field, ".metadata")
		if own && text == "" {
			t.Errorf("%s is not described", field)
		}
	}
	for field := range fieldTexts {
		if _, ok := described[field]; !ok {
			t.Errorf("%s is described and not there", field)
		}
	}
}
