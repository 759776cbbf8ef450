package api_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/yaml"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/test/controlplane"
)

var (
	grants = v1alpha1.GroupVersion.WithResource("accessgrants")
	roles  = v1alpha1.GroupVersion.WithResource("accessroles")
)

// grantExample is the example of the design, without what nothing serves yet.
const grantExample = `
apiVersion: access.sallyport.dev/v1alpha1
kind: AccessGrant
metadata: {name: oncall, namespace: default}
spec:
  reason: "Payments on-call, PAY-1234"
  subjects:
  - {kind: Group, name: payments-oncall}
  clusters:
    names: [prod-eu-1]
    selector: {matchLabels: {env: prod}}
    placementRef: {name: payments}
  access:
  - roleRef: {kind: AccessRole, name: pod-operator}
    namespaces: [payments]
  - rules:
    - {apiGroups: [""], resources: [pods/log], verbs: [get]}
    namespaces: [payments]
  validity: {notBefore: "2026-01-01T00:00:00Z", notAfter: "2026-02-01T00:00:00Z"}
  suspend: false
`

const roleExample = `
apiVersion: access.sallyport.dev/v1alpha1
kind: AccessRole
metadata: {name: pod-operator}
spec:
  description: Look after pods.
  rules:
  - {apiGroups: [""], resources: [pods], verbs: [get, list, watch, delete]}
  - {nonResourceURLs: ["/healthz", "/metrics/*"], verbs: [get]}
`

func TestCRDs(t *testing.T) {
	// The API server warns of what it takes but cannot serve well, such as list
	// types that server-side apply cannot merge.
	rest.SetDefaultWarningHandler(refuseWarnings{t})
	hub := controlplane.ForTest(t, controlplane.Options{}).Hub
	if err := hub.InstallCRDs(t.Context(), "../../config/crd/bases"); err != nil {
		t.Fatal(err)
	}
	client, err := dynamic.NewForConfig(hub.AdminConfig())
	if err != nil {
		t.Fatal(err)
	}
	t.Run("Grant", func(t *testing.T) { testGrant(t, client) })
	t.Run("Role", func(t *testing.T) { testRole(t, client) })
	t.Run("LargestGrant", func(t *testing.T) { testLargestGrant(t, client) })
	t.Run("ServerSideApply", func(t *testing.T) { testServerSideApply(t, client) })
	t.Run("Status", func(t *testing.T) { testStatus(t, client) })
	t.Run("PrinterColumns", func(t *testing.T) { testPrinterColumns(t, client, kubernetes.NewForConfigOrDie(hub.AdminConfig())) })
	t.Run("Guardrails", func(t *testing.T) { testGuardrails(t, client, kubernetes.NewForConfigOrDie(hub.AdminConfig())) })
	t.Run("Names", func(t *testing.T) { testNames(t, discovery.NewDiscoveryClientForConfigOrDie(hub.AdminConfig())) })
}

type refuseWarnings struct{ t *testing.T }

func (r refuseWarnings) HandleWarningHeader(_ int, _, text string) {
	r.t.Errorf("the API server warns: %s", text)
}

// refusal is one field that the API server names, and a part of what it says.
type refusal struct{ field, message string }

type validation struct {
	reason string
	change string // a merge patch, in YAML, of the example
	want   *refusal
}

func testGrant(t *testing.T, client dynamic.Interface) {
	const subjects, clusters, access = "spec.subjects", "spec.clusters", "spec.access"
	for name, tc := range map[string]validation{
		"Example":      {reason: "The example of the design is a good grant."},
		"NoValidity":   {reason: "A grant may be open-ended.", change: `{spec: {validity: null}}`},
		"OnlyNotAfter": {reason: "Either bound may be absent.", change: `{spec: {validity: {notBefore: null}}}`},
		"ClusterWide":  {reason: "Without namespaces an entry is cluster-wide.", change: `{spec: {access: [{roleRef: {kind: ClusterRole, name: view}}]}}`},
		"MemberRole":   {reason: "A Role of the member can be bound where it exists.", change: `{spec: {access: [{roleRef: {kind: Role, name: deployer}, namespaces: [payments]}]}}`},
		"ClusterWideNonResourceURLs": {
			reason: "nonResourceURLs are cluster-wide.",
			change: `{spec: {access: [{rules: [{nonResourceURLs: [/healthz], verbs: [get]}]}]}}`,
		},
		"EverySubjectKind": {
			reason: "Users, groups and service accounts are subjects; names are whatever the hub's authenticators say.",
			change: `{spec: {subjects: [{kind: User, name: "oidc:alice@example.com"}, {kind: Group, name: "Platform Team"}, {kind: ServiceAccount, namespace: ci, name: deployer}]}}`,
		},
		"SameNameOtherKind": {
			reason: "A user and a group of one name are two subjects.",
			change: `{spec: {subjects: [{kind: User, name: payments}, {kind: Group, name: payments}]}}`,
		},

		"NoReason":    {reason: "Access without a reason cannot be reviewed.", change: `{spec: {reason: null}}`, want: &refusal{"spec.reason", "Required"}},
		"EmptyReason": {reason: "An empty reason is none.", change: `{spec: {reason: ""}}`, want: &refusal{"spec.reason", "at least 1 chars"}},
		"BlankReason": {reason: "Nor is a blank one a reason.", change: `{spec: {reason: "  "}}`, want: &refusal{"spec.reason", "must say why"}},
		"LongReason": {
			reason: "Free text is bounded.",
			change: fmt.Sprintf(`{spec: {reason: %q}}`, strings.Repeat("a", 1025)), want: &refusal{"spec.reason", "1024"},
		},

		"NoSubjects":    {reason: "A grant to nobody is a mistake.", change: `{spec: {subjects: null}}`, want: &refusal{subjects, "Required"}},
		"EmptySubjects": {reason: "So is an empty list.", change: `{spec: {subjects: []}}`, want: &refusal{subjects, "at least 1"}},
		"DuplicateSubject": {
			reason: "The same subject twice is a mistake.",
			change: `{spec: {subjects: [{kind: User, name: bob}, {kind: User, name: bob}]}}`, want: &refusal{subjects, "must not repeat"},
		},
		"UnknownSubjectKind": {reason: "Kinds are those of RBAC.", change: `{spec: {subjects: [{kind: Robot, name: r2}]}}`, want: &refusal{subjects + "[0].kind", "supported values"}},
		"SubjectWithoutName": {reason: "A subject has a name.", change: `{spec: {subjects: [{kind: User}]}}`, want: &refusal{subjects + "[0].name", "Required"}},
		"StarSubject":        {reason: "S7: there is no subject that is everybody.", change: `{spec: {subjects: [{kind: User, name: "*"}]}}`, want: &refusal{subjects + "[0].name", "no pattern"}},
		"PaddedSubject":      {reason: "A space is a typing error that matches nobody.", change: `{spec: {subjects: [{kind: User, name: "bob "}]}}`, want: &refusal{subjects + "[0].name", "space"}},
		"ServiceAccountWithoutNamespace": {
			reason: "A service account is known by namespace and name.",
			change: `{spec: {subjects: [{kind: ServiceAccount, name: deployer}]}}`, want: &refusal{subjects + "[0].namespace", "needs its namespace"},
		},
		"ServiceAccountWithEmptyNamespace": {
			reason: "An empty namespace is none.",
			change: `{spec: {subjects: [{kind: ServiceAccount, name: deployer, namespace: ""}]}}`, want: &refusal{subjects + "[0].namespace", ""},
		},
		"UserWithNamespace": {
			reason: "Users have no namespace: whoever writes one means a service account.",
			change: `{spec: {subjects: [{kind: User, name: bob, namespace: payments}]}}`, want: &refusal{subjects + "[0].namespace", "only a ServiceAccount"},
		},
		"ServiceAccountWithBadName": {
			reason: "A colon in the name would make system:serviceaccount:ns:name ambiguous.",
			change: `{spec: {subjects: [{kind: ServiceAccount, namespace: ci, name: "a:b"}]}}`, want: &refusal{subjects + "[0].name", "must be the name of a ServiceAccount"},
		},
		"ServiceAccountAsUser": {
			reason: "A service account has one spelling, so that grants of it are found.",
			change: `{spec: {subjects: [{kind: User, name: "system:serviceaccount:ci:deployer"}]}}`, want: &refusal{subjects + "[0].name", "kind ServiceAccount"},
		},
		"KubernetesUser": {
			reason: "A member would take the hub's controller manager for its own.",
			change: `{spec: {subjects: [{kind: User, name: "system:kube-controller-manager"}]}}`, want: &refusal{subjects + "[0].name", "parts of Kubernetes"},
		},
		"KubernetesServiceAccount": {
			reason: "A member would take a controller of the hub for its own.",
			change: `{spec: {subjects: [{kind: ServiceAccount, namespace: kube-system, name: generic-garbage-collector}]}}`, want: &refusal{subjects + "[0].namespace", "parts of Kubernetes"},
		},
		"SallyportsRole": {
			reason: "The impersonator's role would let people be others.",
			change: `{spec: {access: [{roleRef: {kind: ClusterRole, name: "sallyport:impersonator:sallyport-access"}}]}}`, want: &refusal{access + "[0].roleRef.name", "sallyport:"},
		},
		"HubPrefix": {
			reason: "cluster:hub: is made by the member side of OCM and is no name that the hub knows.",
			change: `{spec: {subjects: [{kind: User, name: "cluster:hub:alice"}]}}`, want: &refusal{subjects + "[0].name", "cluster:hub:"},
		},
		"Masters": {reason: "S7: the group that RBAC cannot limit is never granted.", change: `{spec: {subjects: [{kind: Group, name: "system:masters"}]}}`, want: &refusal{subjects + "[0].name", "never granted"}},
		"Nodes":   {reason: "S7: nor are the nodes.", change: `{spec: {subjects: [{kind: Group, name: "system:nodes"}]}}`, want: &refusal{subjects + "[0].name", "never granted"}},

		"NoClusters":    {reason: "A grant says where.", change: `{spec: {clusters: null}}`, want: &refusal{clusters, "Required"}},
		"EmptyClusters": {reason: "Nothing selected is a mistake, not everything.", change: `{spec: {clusters: {names: null, selector: null, placementRef: null}}}`, want: &refusal{clusters, "names, selector or placementRef"}},
		"EmptyNames":    {reason: "An empty list of names selects nothing.", change: `{spec: {clusters: {names: []}}}`, want: &refusal{clusters + ".names", "at least 1"}},
		"StarCluster":   {reason: "Clusters are named one by one or selected by labels.", change: `{spec: {clusters: {names: ["*"]}}}`, want: &refusal{clusters + ".names[0]", "patterns such as *"}},
		"PatternCluster": {
			reason: "A pattern is not a name.", change: `{spec: {clusters: {names: ["prod-*"]}}}`, want: &refusal{clusters + ".names[0]", "patterns such as *"},
		},
		"EmptyClusterName": {reason: "An empty resourceName would be every cluster.", change: `{spec: {clusters: {names: [""]}}}`, want: &refusal{clusters + ".names[0]", "at least 1 chars"}},
		"DuplicateCluster": {
			reason: "The same cluster twice is a mistake.",
			change: `{spec: {clusters: {names: [prod-eu-1, prod-eu-1]}}}`, want: &refusal{clusters + ".names[1]", "Duplicate"},
		},
		"EmptySelector": {
			reason: "For Kubernetes an empty selector matches everything; here nobody means that.",
			change: `{spec: {clusters: {selector: {matchLabels: null}}}}`, want: &refusal{clusters + ".selector", "at least one label"},
		},
		"EmptyMatchExpressions": {reason: "So does an empty list of expressions.", change: `{spec: {clusters: {selector: {matchLabels: null, matchExpressions: []}}}}`, want: &refusal{clusters + ".selector", "at least one label"}},
		"PlacementWithoutName": {
			reason: "A reference has a name.", change: `{spec: {clusters: {placementRef: {name: ""}}}}`, want: &refusal{clusters + ".placementRef.name", "at least 1 chars"},
		},

		"NoAccess":    {reason: "A grant of nothing is a mistake.", change: `{spec: {access: null}}`, want: &refusal{access, "Required"}},
		"EmptyAccess": {reason: "So is an empty list.", change: `{spec: {access: []}}`, want: &refusal{access, "at least 1"}},
		"DuplicateAccess": {
			reason: "The same entry twice is a mistake.",
			change: `{spec: {access: [{roleRef: {kind: AccessRole, name: a}}, {roleRef: {kind: AccessRole, name: a}}]}}`, want: &refusal{access, "must not repeat"},
		},
		"RoleRefAndRules": {
			reason: "An entry is one or the other, so that it can be read aloud.",
			change: `{spec: {access: [{roleRef: {kind: AccessRole, name: a}, rules: [{apiGroups: [""], resources: [pods], verbs: [get]}]}]}}`,
			want:   &refusal{access + "[0]", "either roleRef or rules"},
		},
		"NeitherRoleRefNorRules": {reason: "An entry gives something.", change: `{spec: {access: [{namespaces: [payments]}]}}`, want: &refusal{access + "[0]", "either roleRef or rules"}},
		"UnknownRoleKind":        {reason: "Roles are of three kinds.", change: `{spec: {access: [{roleRef: {kind: Wizard, name: a}}]}}`, want: &refusal{access + "[0].roleRef.kind", "supported values"}},
		"RoleNameWithSlash": {
			reason: "A role's name is a step of a path.",
			change: `{spec: {access: [{roleRef: {kind: ClusterRole, name: "a/b"}}]}}`, want: &refusal{access + "[0].roleRef.name", "one role"},
		},
		"RoleWithoutNamespaces": {
			reason: "A Role exists in a namespace.",
			change: `{spec: {access: [{roleRef: {kind: Role, name: deployer}}]}}`, want: &refusal{access + "[0].namespaces", "name them"},
		},
		"NamespacedNonResourceURLs": {
			reason: "RBAC ignores nonResourceURLs in a Role: a grant that promises them would not be true.",
			change: `{spec: {access: [{namespaces: [payments], rules: [{nonResourceURLs: [/healthz], verbs: [get]}]}]}}`,
			want:   &refusal{access + "[0].rules", "cluster-wide"},
		},
		"EmptyNamespaces": {
			reason: "An empty list could be read as every namespace.",
			change: `{spec: {access: [{namespaces: [], roleRef: {kind: AccessRole, name: a}}]}}`, want: &refusal{access + "[0].namespaces", "at least 1"},
		},
		"StarNamespace": {
			reason: "Namespaces are named one by one; cluster-wide is said by leaving them out.",
			change: `{spec: {access: [{namespaces: ["*"], roleRef: {kind: AccessRole, name: a}}]}}`, want: &refusal{access + "[0].namespaces[0]", "should match"},
		},
		"DuplicateNamespace": {
			reason: "The same namespace twice is a mistake.",
			change: `{spec: {access: [{namespaces: [a, a], roleRef: {kind: AccessRole, name: a}}]}}`, want: &refusal{access + "[0].namespaces[1]", "Duplicate"},
		},
		"RuleWithoutVerbs": {
			reason: "A rule without verbs allows nothing.",
			change: `{spec: {access: [{rules: [{apiGroups: [""], resources: [pods]}]}]}}`, want: &refusal{access + "[0].rules[0].verbs", "Required"},
		},
		"RuleWithoutAPIGroups": {
			reason: "RBAC matches no resource of a rule without groups.",
			change: `{spec: {access: [{rules: [{resources: [pods], verbs: [get]}]}]}}`, want: &refusal{access + "[0].rules[0].apiGroups", `core group is ""`},
		},
		"RuleWithResourcesAndURLs": {
			reason: "RBAC refuses a rule that is both.",
			change: `{spec: {access: [{rules: [{apiGroups: [""], resources: [pods], nonResourceURLs: [/healthz], verbs: [get]}]}]}}`,
			want:   &refusal{access + "[0].rules[0]", "either resources or nonResourceURLs"},
		},
		"RuleWithNothing": {
			reason: "A rule is about something.",
			change: `{spec: {access: [{rules: [{verbs: [get]}]}]}}`, want: &refusal{access + "[0].rules[0]", "either resources or nonResourceURLs"},
		},
		"ResourceNamesWithURLs": {
			reason: "resourceNames narrow resources only.",
			change: `{spec: {access: [{rules: [{nonResourceURLs: [/healthz], resourceNames: [a], verbs: [get]}]}]}}`,
			want:   &refusal{access + "[0].rules[0].resourceNames", "go with resources"},
		},

		"NotAfterBeforeNotBefore": {
			reason: "An interval that ends before it begins is a mistake.",
			change: `{spec: {validity: {notAfter: "2025-12-31T23:59:59Z"}}}`, want: &refusal{"spec.validity.notAfter", "later than notBefore"},
		},
		"EmptyInterval": {
			reason: "notAfter is exclusive: an interval of no length gives nothing.",
			change: `{spec: {validity: {notAfter: "2026-01-01T00:00:00Z"}}}`, want: &refusal{"spec.validity.notAfter", "later than notBefore"},
		},
		"EmptyValidity": {reason: "Bounds that bound nothing are a mistake.", change: `{spec: {validity: {notAfter: null, notBefore: null}}}`, want: &refusal{"spec.validity", "notBefore or notAfter"}},
		"BadInstant":    {reason: "An instant is RFC 3339.", change: `{spec: {validity: {notAfter: tomorrow}}}`, want: &refusal{"spec.validity.notAfter", "date-time"}},
	} {
		t.Run(name, func(t *testing.T) { testValidation(t, client.Resource(grants).Namespace("default"), grantExample, tc) })
	}
}

func testRole(t *testing.T, client dynamic.Interface) {
	for name, tc := range map[string]validation{
		"Example":         {reason: "A role is rules with a name; it can hold nonResourceURLs, for cluster-wide grants."},
		"NoDescription":   {reason: "The description is optional.", change: `{spec: {description: null}}`},
		"NoRules":         {reason: "A role gives something.", change: `{spec: {rules: null}}`, want: &refusal{"spec.rules", "Required"}},
		"EmptyRules":      {reason: "An empty list gives nothing.", change: `{spec: {rules: []}}`, want: &refusal{"spec.rules", "at least 1"}},
		"RuleWithNothing": {reason: "A rule is about something.", change: `{spec: {rules: [{verbs: [get]}]}}`, want: &refusal{"spec.rules[0]", "either resources or nonResourceURLs"}},
		"EmptyVerb":       {reason: "An empty verb is no verb.", change: `{spec: {rules: [{apiGroups: [""], resources: [pods], verbs: [""]}]}}`, want: &refusal{"spec.rules[0].verbs[0]", "at least 1 chars"}},
	} {
		t.Run(name, func(t *testing.T) { testValidation(t, client.Resource(roles), roleExample, tc) })
	}
}

func testValidation(t *testing.T, api dynamic.ResourceInterface, example string, tc validation) {
	t.Parallel()
	_, err := api.Create(t.Context(), merged(t, example, tc.change), metav1.CreateOptions{
		DryRun: []string{metav1.DryRunAll}, FieldValidation: metav1.FieldValidationStrict,
	})
	if tc.want == nil {
		if err != nil {
			t.Errorf("%s\nrefused: %v", tc.reason, err)
		}
		return
	}
	var refused *apierrors.StatusError
	if !errors.As(err, &refused) || !apierrors.IsInvalid(err) {
		t.Fatalf("%s\ngot error %v, want Invalid on %s", tc.reason, err, tc.want.field)
	}
	causes := refused.Status().Details.Causes
	if !slices.ContainsFunc(causes, func(c metav1.StatusCause) bool {
		return c.Field == tc.want.field && strings.Contains(c.Message, tc.want.message)
	}) {
		t.Errorf("%s\nno cause names %s and says %q:", tc.reason, tc.want.field, tc.want.message)
		for _, c := range causes {
			t.Errorf("  %s: %s", c.Field, c.Message)
		}
	}
}

// testLargestGrant: the limits on lengths are such that the CEL rules stay within
// the API server's budget, for whatever still fits into etcd.
func testLargestGrant(t *testing.T, client dynamic.Interface) {
	var subjects, names, access []any
	for i := range 256 {
		subjects = append(subjects, map[string]any{"kind": "User", "name": fmt.Sprintf("user-%03d@payments.example.com", i)})
	}
	for i := range 1000 {
		names = append(names, fmt.Sprintf("cluster-%04d.eu.example.com", i))
	}
	for i := range 64 {
		var rules, namespaces []any
		for j := range 64 {
			rules = append(rules, map[string]any{
				"apiGroups": []any{""}, "resources": []any{"pods", "pods/log", fmt.Sprintf("resource-%d-%d", i, j)}, "verbs": []any{"get", "list", "watch"},
			})
		}
		for j := range 256 {
			namespaces = append(namespaces, fmt.Sprintf("namespace-%d", j))
		}
		access = append(access, map[string]any{"rules": rules, "namespaces": namespaces})
	}
	grant := merged(t, grantExample, "")
	for path, value := range map[string][]any{"subjects": subjects, "clusters.names": names, "access": access} {
		if err := unstructured.SetNestedSlice(grant.Object, value, append([]string{"spec"}, strings.Split(path, ".")...)...); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := client.Resource(grants).Namespace("default").Create(t.Context(), grant, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}}); err != nil {
		t.Error(err)
	}
}

// testServerSideApply: Flux, Argo CD and the built-in sync apply. A list type that
// apply cannot merge would break each of them.
func testServerSideApply(t *testing.T, client dynamic.Interface) {
	api := client.Resource(grants).Namespace("default")
	for _, change := range []string{"", `{spec: {subjects: [{kind: User, name: alice}, {kind: User, name: bob}], access: [{roleRef: {kind: ClusterRole, name: view}}]}}`} {
		grant := merged(t, grantExample, change)
		grant.SetName("applied")
		applied, err := api.Apply(t.Context(), "applied", grant, metav1.ApplyOptions{FieldManager: "test"})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(grant.Object["spec"], applied.Object["spec"]); diff != "" {
			t.Errorf("applied and kept differ (-applied +kept):\n%s", diff)
		}
	}
}

// testStatus: the status is written through its own subresource only, and spec
// not through it.
func testStatus(t *testing.T, client dynamic.Interface) {
	api := client.Resource(grants).Namespace("default")
	grant := merged(t, grantExample, `{metadata: {name: status}, status: {observedGeneration: 7}}`)
	created, err := api.Create(t.Context(), grant, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	// What nobody has looked at is not ready: kstatus compares the generations.
	if status := fmt.Sprint(created.Object["status"]); status != "map[observedGeneration:-1]" {
		t.Errorf("status was taken from a create, or has no default: %s", status)
	}
	patch := []byte(`{"status":{"observedGeneration":1},"spec":{"reason":"smuggled"}}`)
	patched, err := api.Patch(t.Context(), "status", "application/merge-patch+json", patch, metav1.PatchOptions{}, "status")
	if err != nil {
		t.Fatal(err)
	}
	if reason, _, _ := unstructured.NestedString(patched.Object, "spec", "reason"); reason != "Payments on-call, PAY-1234" {
		t.Errorf("reason %q was changed through the status", reason)
	}
	if observed, _, _ := unstructured.NestedInt64(patched.Object, "status", "observedGeneration"); observed != 1 {
		t.Errorf("observedGeneration is %d, want 1", observed)
	}
}

func testPrinterColumns(t *testing.T, client dynamic.Interface, kube *kubernetes.Clientset) {
	api := client.Resource(grants).Namespace("default")
	if _, err := api.Create(t.Context(), merged(t, grantExample, `{metadata: {name: columns}}`), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	now := metav1.Now().UTC().Format(time.RFC3339)
	status := fmt.Sprintf(`{"status":{
		"conditions":[
			{"type":"Ready","status":"True","reason":"Applied","message":"2 of 2 clusters","lastTransitionTime":%[1]q},
			{"type":"Compliant","status":"True","reason":"Compliant","message":"no guardrail objects","lastTransitionTime":%[1]q},
			{"type":"Active","status":"True","reason":"Active","message":"until 2026-02-01","lastTransitionTime":%[1]q}],
		"clusters":{"matched":2,"applied":2,"failed":0,"revoking":0},
		"source":{"kind":"GitSync","name":"access","revision":"main@sha1:4f2c"}}}`, now)
	if _, err := api.Patch(t.Context(), "columns", "application/merge-patch+json", []byte(status), metav1.PatchOptions{}, "status"); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Resource(roles).Create(t.Context(), merged(t, roleExample, ""), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}

	for path, want := range map[string]map[string]any{
		"namespaces/default/accessgrants/columns": {
			"Name": "columns", "Ready": "True", "Compliant": "Compliant", "Active": "Active", "Clusters": int64(2), "Applied": int64(2), "Until": "2026-02-01T00:00:00Z",
			"Status": "2 of 2 clusters", "Revision": "main@sha1:4f2c", "Reason": "Payments on-call, PAY-1234",
		},
		"accessroles/pod-operator": {"Name": "pod-operator", "Description": "Look after pods."},
	} {
		got := columns(t, kube, "/apis/access.sallyport.dev/v1alpha1/"+path)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", path, diff)
		}
	}
}

// columns are what kubectl get -o wide shows of an object, but for its age.
func columns(t *testing.T, kube *kubernetes.Clientset, path string) map[string]any {
	t.Helper()
	var table metav1.Table
	err := kube.RESTClient().Get().AbsPath(path).
		SetHeader("Accept", "application/json;as=Table;v=v1;g=meta.k8s.io").Do(t.Context()).Into(&table)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]any{}
	for i, column := range table.ColumnDefinitions {
		if column.Name != "Age" {
			got[column.Name] = table.Rows[0].Cells[i]
		}
	}
	return got
}

// testNames: kubectl get ag, ar, gr, gre, grb and sallyport.
func testNames(t *testing.T, client *discovery.DiscoveryClient) {
	served, err := client.ServerResourcesForGroupVersion(v1alpha1.GroupVersion.String())
	if err != nil {
		t.Fatal(err)
	}
	got := map[string][]string{}
	for _, r := range served.APIResources {
		got[r.Name] = append(slices.Clone(r.ShortNames), r.Categories...)
	}
	want := map[string][]string{
		"accessgrants": {"ag", "grant", "sallyport"}, "accessgrants/status": nil,
		"accessroles": {"ar", "sallyport"},
		"guardrails":  {"gr", "sallyport"}, "guardrails/status": nil,
		"guardrailbundles": {"grb", "sallyport"}, "guardrailbundles/status": nil,
		"guardrailexceptions": {"gre", "sallyport"}, "guardrailexceptions/status": nil,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("served resources with short names and categories (-want +got):\n%s", diff)
	}
}

func merged(t *testing.T, example, change string) *unstructured.Unstructured {
	t.Helper()
	var object, patch map[string]any
	if err := yaml.Unmarshal([]byte(example), &object); err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal([]byte(change), &patch); err != nil {
		t.Fatal(err)
	}
	merge(object, patch)
	return &unstructured.Unstructured{Object: object}
}

// merge is a JSON merge patch: null removes.
func merge(into, patch map[string]any) {
	for key, value := range patch {
		below, isMap := value.(map[string]any)
		above, wasMap := into[key].(map[string]any)
		switch {
		case value == nil:
			delete(into, key)
		case isMap && wasMap:
			merge(above, below)
		default:
			into[key] = value
		}
	}
}
