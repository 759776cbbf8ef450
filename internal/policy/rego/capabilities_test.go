package rego

import (
	"slices"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"
)

// TestCapabilities: S20. Somebody has decided about every function of this version
// of OPA.
func TestCapabilities(t *testing.T) {
	known := map[string]bool{}
	for _, b := range ast.Builtins {
		known[b.Name] = true
		switch {
		case allowed[b.Name] && refused[b.Name] != "":
			t.Errorf("%s is allowed and refused", b.Name)
		case !allowed[b.Name] && refused[b.Name] == "":
			t.Errorf("%s is new: look at what it does, and allow or refuse it", b.Name)
		case allowed[b.Name] && (b.Nondeterministic || b.IsDeprecated()):
			t.Errorf("%s is allowed, and deprecated or not a function of its arguments", b.Name)
		}
	}
	for _, list := range []map[string]bool{allowed, keysOf(refused), keysOf(bounds)} {
		for name := range list {
			if !known[name] {
				t.Errorf("%s is not a function of OPA", name)
			}
		}
	}
	for name := range bounds {
		if !allowed[name] {
			t.Errorf("%s has a bound, and is not allowed", name)
		}
	}
	c := Capabilities()
	if len(c.Builtins) != len(allowed) || c.AllowNet == nil || len(c.AllowNet) != 0 || len(c.FutureKeywords) != 0 ||
		!slices.Equal(c.Features, []string{ast.FeatureRegoV1}) {
		t.Errorf("capabilities %+v", c)
	}
}

// TestUnbounded names the functions that have no bound: each reads its
// operands once, or not all of them, and makes nothing that is longer.
func TestUnbounded(t *testing.T) {
	want := []string{
		"and", "array.reverse", "array.slice", "assign", "contains", "count", "crypto.md5", "crypto.sha1", "crypto.sha256",
		"endswith", "eq", "is_array", "is_boolean", "is_null",
		"is_number", "is_object", "is_set", "is_string", "net.cidr_contains", "net.cidr_intersects",
		"net.cidr_is_valid", "object.filter", "object.get", "object.keys", "object.remove", "or", "print", "semver.compare",
		"semver.is_valid", "startswith", "strings.count", "substring", "time.add_date", "time.clock", "time.date", "time.diff",
		"time.format", "time.parse_duration_ns", "time.parse_ns", "time.parse_rfc3339_ns", "time.weekday", "trim_prefix",
		"trim_space", "trim_suffix", "type_name", "uri.is_valid", "uri.parse", "uuid.parse",
	}
	var got []string
	for name := range allowed {
		if bounds[name] == nil {
			got = append(got, name)
		}
	}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("without a bound are %q", got)
	}
}

func keysOf[V any](m map[string]V) map[string]bool {
	out := map[string]bool{}
	for k := range m {
		out[k] = true
	}
	return out
}
