package schema

import (
	"context"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"
)

func TestValidate(t *testing.T) {
	const fine = `
apiVersion: access.sallyport.dev/v1alpha1
kind: AccessGrant
metadata: {name: g, namespace: a}
spec:
  reason: x
  subjects: [{kind: User, name: ann}]
  clusters: {names: [a]}
  access: [{rules: [{apiGroups: [""], resources: [pods], verbs: [get]}]}]
`
	s, err := New()
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		kind, object string
		want         []string
	}{
		"Fine":     {kind: "AccessGrant", object: fine},
		"Required": {kind: "AccessGrant", object: "spec: {subjects: [{kind: User, name: ann}], clusters: {names: [a]}, access: []}", want: []string{"spec.access", "spec.reason"}},
		"Rule": {kind: "AccessGrant", object: `spec: {reason: x, subjects: [{kind: Group, name: "system:masters"}], clusters: {names: [a]}, access: [{}]}`,
			want: []string{"spec.access[0]", "spec.subjects[0].name"}},
		"ListSet":   {kind: "AccessGrant", object: `spec: {reason: x, subjects: [{kind: User, name: a}], clusters: {names: [a, a]}, access: [{roleRef: {kind: AccessRole, name: x}}]}`, want: []string{"spec.clusters.names[1]"}},
		"Enum":      {kind: "Guardrail", object: `spec: {enforcement: Hope, cel: {validations: [{expression: "true"}]}}`, want: []string{"spec.enforcement"}},
		"Ceiling":   {kind: "Guardrail", object: `spec: {points: [Request], ceiling: {}}`, want: []string{"spec.points"}},
		"Role":      {kind: "AccessRole", object: `spec: {rules: []}`, want: []string{"spec.rules"}},
		"Exception": {kind: "GuardrailException", object: `spec: {guardrail: g, grant: a, reason: x, ticket: z, notBefore: "2026-01-02T00:00:00Z", notAfter: "2026-01-01T00:00:00Z"}`, want: []string{"spec.notAfter"}},
		"Bundle":    {kind: "GuardrailBundle", object: `{metadata: {name: x}, spec: {source: {directory: {path: x}}}}`, want: []string{"spec"}},
	} {
		t.Run(name, func(t *testing.T) {
			var object map[string]any
			if err := yaml.Unmarshal([]byte(tc.object), &object); err != nil {
				t.Fatal(err)
			}
			errs, err := s.Validate(context.Background(), tc.kind, object)
			if err != nil {
				t.Fatal(err)
			}
			fields := map[string]bool{}
			for _, e := range errs {
				t.Log(e)
				fields[e.Field] = true
			}
			want := map[string]bool{}
			for _, f := range tc.want {
				want[f] = true
			}
			if diff := cmp.Diff(want, fields); diff != "" {
				t.Errorf("fields (-want +got):\n%s", diff)
			}
		})
	}
	if _, err := s.Validate(context.Background(), "Pod", nil); err == nil {
		t.Error("a Pod is a kind of this API")
	}
}
