package distribute

import (
	"encoding/json"
	"reflect"

	"github.com/sallyport-dev/sallyport/internal/core/compile"
)

// sameManifests reports whether the stored manifests mean what the objects mean.
// An API server sorts the keys of what it stores, so bytes cannot be compared.
func sameManifests(stored [][]byte, objects []*compile.Object) bool {
	if len(stored) != len(objects) {
		return false
	}
	for i, raw := range stored {
		if !sameJSON(raw, objects[i].JSON) {
			return false
		}
	}
	return true
}

func sameJSON(a, b []byte) bool {
	var x, y any
	return json.Unmarshal(a, &x) == nil && json.Unmarshal(b, &y) == nil && reflect.DeepEqual(x, y)
}

// manifestMeta is what a failure needs to know of a manifest.
type manifestMeta struct {
	Kind     string `json:"kind"`
	Metadata struct {
		Namespace string            `json:"namespace"`
		Name      string            `json:"name"`
		Labels    map[string]string `json:"labels"`
	} `json:"metadata"`
}

func readMeta(raw []byte) manifestMeta {
	var m manifestMeta
	if json.Unmarshal(raw, &m) != nil {
		return manifestMeta{}
	}
	return m
}

func (m manifestMeta) String() string {
	return objectString(m.Kind, m.Metadata.Namespace, m.Metadata.Name)
}

func objectString(kind, namespace, name string) string {
	if namespace == "" {
		return kind + " " + name
	}
	return kind + " " + namespace + "/" + name
}
