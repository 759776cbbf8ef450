package inventory

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	clusterv1 "open-cluster-management.io/api/cluster/v1"
	"sigs.k8s.io/yaml"

	"github.com/sallyport-dev/sallyport/internal/core/fleet"
	"github.com/sallyport-dev/sallyport/internal/core/subject"
)

// parse is a typed object from YAML.
func parse[T any](t testing.TB, text string) *T {
	t.Helper()
	o := new(T)
	if err := yaml.UnmarshalStrict([]byte(text), o); err != nil {
		t.Fatal(err)
	}
	return o
}

// untyped is an object without a Go type from YAML.
func untyped(t testing.TB, text string) *unstructured.Unstructured {
	t.Helper()
	u := &unstructured.Unstructured{}
	if err := yaml.Unmarshal([]byte(text), &u.Object); err != nil {
		t.Fatal(err)
	}
	return u
}

func TestFromManagedCluster(t *testing.T) {
	cases := map[string]struct {
		reason  string
		cluster string
		proxied bool
		want    fleet.Member
		out     bool
	}{
		"Full": {
			reason: "Everything that can select a cluster, or be shown of it, is taken.",
			cluster: `
metadata: {name: prod-eu-1, labels: {env: prod}}
spec:
  hubAcceptsClient: true
  taints: [{key: maintenance, value: "yes", effect: NoSelectIfNew}]
status:
  clusterClaims: [{name: region.open-cluster-management.io, value: eu}]
  conditions: [{type: ManagedClusterConditionAvailable, status: "True", reason: r, message: m}]
`,
			proxied: true,
			want: fleet.Member{
				Name: "prod-eu-1", Labels: map[string]string{"env": "prod"}, Claims: map[string]string{"region.open-cluster-management.io": "eu"},
				Taints:   []fleet.Taint{{Key: "maintenance", Value: "yes", Effect: "NoSelectIfNew"}},
				Accepted: true, Availability: fleet.Available, Delivery: fleet.ManifestWork, Paths: subject.Gateway | subject.ClusterProxy,
			},
		},
		"NotAccepted": {
			reason:  "A cluster that asked to join is not let in by asking.",
			cluster: `{metadata: {name: c}, spec: {hubAcceptsClient: false}}`,
			want:    fleet.Member{Name: "c", Delivery: fleet.ManifestWork, Paths: subject.Gateway},
		},
		"Unreachable": {
			reason: "Unknown is what OCM says when the agent's lease ran out.",
			cluster: `{metadata: {name: c}, spec: {hubAcceptsClient: true}, status: {conditions: [
				{type: ManagedClusterConditionAvailable, status: Unknown}]}}`,
			want: fleet.Member{Name: "c", Accepted: true, Availability: fleet.Unavailable, Delivery: fleet.ManifestWork, Paths: subject.Gateway},
		},
		"Deleting": {
			reason:  "S27: a cluster that is being deleted is no member.",
			cluster: `{metadata: {name: c, deletionTimestamp: "2026-01-01T00:00:00Z"}, spec: {hubAcceptsClient: true}}`,
			out:     true,
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			got, in := fromManagedCluster(parse[clusterv1.ManagedCluster](t, tc.cluster), tc.proxied)
			if diff := cmp.Diff(tc.want, got); diff != "" || in == tc.out {
				t.Errorf("%s\nin the fleet: %v; (-want +got):\n%s", tc.reason, in, diff)
			}
		})
	}
}

func TestFromKarmadaCluster(t *testing.T) {
	impersonator := types.NamespacedName{Namespace: "karmada-cluster", Name: "karmada-impersonator"}
	cases := map[string]struct {
		reason, cluster string
		want            fleet.Member
	}{
		"Full": {
			reason: "Everything that can select a cluster, or be shown of it, is taken.",
			cluster: `
metadata: {name: m1, labels: {env: prod}}
spec:
  provider: acme
  region: eu
  zones: [a, b]
  taints: [{key: k, value: v, effect: NoSchedule}]
  impersonatorSecretRef: {namespace: karmada-cluster, name: m1-impersonator}
status:
  conditions: [{type: Ready, status: "True", lastTransitionTime: "2026-01-01T00:00:00Z", reason: r, message: m}]
`,
			want: fleet.Member{
				Name: "m1", Labels: map[string]string{"env": "prod"}, Claims: map[string]string{"provider": "acme", "region": "eu", "zone": "a,b"},
				Taints: []fleet.Taint{{Key: "k", Value: "v", Effect: "NoSchedule"}}, Accepted: true, Availability: fleet.Available,
				Delivery: fleet.KarmadaWork, Paths: subject.Gateway | subject.Karmada, Impersonator: impersonator,
			},
		},
		"OtherNamespace": {
			reason:  "Karmada can be installed with another namespace for clusters.",
			cluster: `{metadata: {name: m1}, spec: {impersonatorSecretRef: {namespace: elsewhere, name: s}}}`,
			want: fleet.Member{Name: "m1", Accepted: true, Delivery: fleet.KarmadaWork, Paths: subject.Gateway | subject.Karmada,
				Impersonator: types.NamespacedName{Namespace: "elsewhere", Name: "karmada-impersonator"}},
		},
		"DefaultNamespace": {
			reason:  "A reference without a namespace has the usual one.",
			cluster: `{metadata: {name: m1}, spec: {impersonatorSecretRef: {name: s}}}`,
			want:    fleet.Member{Name: "m1", Accepted: true, Delivery: fleet.KarmadaWork, Paths: subject.Gateway | subject.Karmada, Impersonator: impersonator},
		},
		"NoImpersonator": {
			reason:  "Without the Secret nobody gets through Karmada's proxy, so nothing is opened for it.",
			cluster: `{metadata: {name: m1}, spec: {zone: a}, status: {conditions: [{type: Ready, status: "False"}]}}`,
			want:    fleet.Member{Name: "m1", Claims: map[string]string{"zone": "a"}, Accepted: true, Availability: fleet.Unavailable, Delivery: fleet.KarmadaWork, Paths: subject.Gateway},
		},
		"Deleting": {
			reason:  "S27: a cluster that is being deleted gets nothing, and stays known until its Works are gone.",
			cluster: `{metadata: {name: m1, deletionTimestamp: "2026-01-01T00:00:00Z"}}`,
			want:    fleet.Member{Name: "m1", Delivery: fleet.KarmadaWork, Paths: subject.Gateway},
		},
		"Malformed": {
			reason:  "What has the wrong type is not there; there is no Go type to refuse it.",
			cluster: `{metadata: {name: m1}, spec: {provider: 1, zones: x, taints: [x], impersonatorSecretRef: x}, status: {conditions: [x, {type: 1}]}}`,
			want:    fleet.Member{Name: "m1", Accepted: true, Delivery: fleet.KarmadaWork, Paths: subject.Gateway},
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, fromKarmadaCluster(untyped(t, tc.cluster))); diff != "" {
				t.Errorf("%s\n(-want +got):\n%s", tc.reason, diff)
			}
		})
	}
}

func TestFromClusterProfile(t *testing.T) {
	cases := map[string]struct {
		reason, profile string
		want            fleet.Member
		out             bool
	}{
		"Full": {
			reason: "It describes, and says nothing of delivery or paths.",
			profile: `
metadata: {name: c, namespace: n, labels: {env: prod}}
spec: {clusterManager: {name: m}, displayName: other}
status:
  properties: [{name: region, value: eu}, {name: "", value: x}, {name: empty, value: ""}]
  conditions: [{type: ControlPlaneHealthy, status: "True"}]
`,
			want: fleet.Member{Name: "c", Labels: map[string]string{"env": "prod"}, Claims: map[string]string{"region": "eu"}, Accepted: true, Availability: fleet.Available},
		},
		"Bare":     {reason: "Nothing but a name is required.", profile: `{metadata: {name: c}}`, want: fleet.Member{Name: "c", Accepted: true}},
		"Deleting": {reason: "S27: one that is being deleted is no member.", profile: `{metadata: {name: c, deletionTimestamp: "2026-01-01T00:00:00Z"}}`, out: true},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			got, in := fromClusterProfile(untyped(t, tc.profile))
			if diff := cmp.Diff(tc.want, got); diff != "" || in == tc.out {
				t.Errorf("%s\nin the fleet: %v; (-want +got):\n%s", tc.reason, in, diff)
			}
		})
	}
}

func TestFromSecret(t *testing.T) {
	cases := map[string]struct {
		reason, secret string
		refusal        error
		want           fleet.Member
		out            bool
		problems       []string
	}{
		"Full": {
			reason: "Labels of the member come by prefix, or by annotation for keys with a prefix of their own. Others are the Secret's own.",
			secret: `
metadata:
  name: s
  labels: {access.sallyport.dev/cluster: eu-1, fleet.access.sallyport.dev/env: prod, app: x}
  annotations: {fleet.access.sallyport.dev/labels: "topology.kubernetes.io/region=eu, env=dev"}
`,
			want: fleet.Member{Name: "eu-1", Labels: map[string]string{"env": "prod", "topology.kubernetes.io/region": "eu"},
				Accepted: true, Delivery: fleet.Direct, Paths: subject.Gateway, Secret: "s"},
		},
		"Refused": {
			reason:  "A Secret that cannot be used keeps its member, or a slip in it would revoke.",
			secret:  `{metadata: {name: s, labels: {access.sallyport.dev/cluster: eu-1}}}`,
			refusal: errors.New("users[].user.exec is not allowed"),
			want: fleet.Member{Name: "eu-1", Accepted: true, Availability: fleet.Unavailable, Delivery: fleet.Direct,
				Paths: subject.Gateway, Secret: "s"},
			problems: []string{"not used: users[].user.exec is not allowed"},
		},
		"NoName": {
			reason:   "A name that is none could not stand in a path.",
			secret:   `{metadata: {name: s, labels: {access.sallyport.dev/cluster: Prod_EU}}}`,
			out:      true,
			problems: []string{`label access.sallyport.dev/cluster: "Prod_EU" is no name of a cluster`},
		},
		"Empty":    {reason: "Nor could an empty one.", secret: `{metadata: {name: s}}`, out: true, problems: []string{`label access.sallyport.dev/cluster: "" is no name of a cluster`}},
		"Deleting": {reason: "S27: a Secret that is being deleted is the member's removal.", secret: `{metadata: {name: s, deletionTimestamp: "2026-01-01T00:00:00Z", labels: {access.sallyport.dev/cluster: eu-1}}}`, out: true},
		"BadLabels": {
			reason: "A label that no selector could name is told, and the rest holds.",
			secret: `
metadata:
  name: s
  labels: {access.sallyport.dev/cluster: eu-1}
  annotations: {fleet.access.sallyport.dev/labels: "a=b,=c,d e=f,,g=h i"}
`,
			want: fleet.Member{Name: "eu-1", Labels: map[string]string{"a": "b"}, Accepted: true, Delivery: fleet.Direct, Paths: subject.Gateway, Secret: "s"},
			problems: []string{
				`annotation fleet.access.sallyport.dev/labels: "=c" is no label`,
				`annotation fleet.access.sallyport.dev/labels: "d e=f" is no label`,
				`annotation fleet.access.sallyport.dev/labels: "g=h i" is no label`,
			},
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			got, in, problems := fromSecret(parse[corev1.Secret](t, tc.secret), tc.refusal)
			if diff := cmp.Diff(tc.want, got); diff != "" || in == tc.out {
				t.Errorf("%s\nin the fleet: %v; (-want +got):\n%s", tc.reason, in, diff)
			}
			if diff := cmp.Diff(tc.problems, problems); diff != "" {
				t.Errorf("%s\nproblems (-want +got):\n%s", tc.reason, diff)
			}
		})
	}
}

func TestChecksRememberByVersion(t *testing.T) {
	s := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "n", Name: "s", UID: "1", ResourceVersion: "1"}}
	c := &checks{}
	if err := c.kubeconfig(s); err == nil || err.Error() != "data.kubeconfig is required" {
		t.Errorf("got %v", err)
	}
	s.Data = map[string][]byte{"kubeconfig": []byte("x")}
	if err := c.kubeconfig(s); err.Error() != "data.kubeconfig is required" {
		t.Errorf("the same version: got %v, want what was found before", err)
	}
	s.ResourceVersion = "2"
	if err := c.kubeconfig(s); err.Error() != "data.kubeconfig is not a kubeconfig" {
		t.Errorf("another version: got %v, want a new check", err)
	}
	c.forgetOthers(nil)
	if len(c.done) != 0 {
		t.Error("a Secret that is gone is remembered")
	}
}
