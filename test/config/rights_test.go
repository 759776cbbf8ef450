package config_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	authorizationv1 "k8s.io/api/authorization/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
)

// question to the hub's authorizer. An empty namespace asks for all of them, an empty
// name for objects of any name.
type question struct{ verb, group, resource, namespace, name string }

func (q question) ask(ctx context.Context, t *testing.T, who *kubernetes.Clientset) bool {
	t.Helper()
	resource, subresource, _ := strings.Cut(q.resource, "/")
	review, err := who.AuthorizationV1().SelfSubjectAccessReviews().Create(ctx, &authorizationv1.SelfSubjectAccessReview{
		Spec: authorizationv1.SelfSubjectAccessReviewSpec{ResourceAttributes: &authorizationv1.ResourceAttributes{
			Verb: q.verb, Group: q.group, Resource: resource, Subresource: subresource, Namespace: q.namespace, Name: q.name,
		}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return review.Status.Allowed
}

// right is what the account may (or may not) do with a resource: every one of the
// verbs, in the namespace or everywhere.
type right struct {
	reason    string
	group     string
	resources string // divided by spaces
	verbs     string
	namespace string
	// name of the only object that it is about; empty for all.
	name    string
	refused bool
}

const (
	read  = "get list watch"
	write = "create update patch delete"
)

var rights = map[string]right{
	"Grants":          {reason: "They are read, and carry its finalizer.", group: "access.sallyport.dev", resources: "accessgrants", verbs: read + " update patch"},
	"GrantStatus":     {reason: "Its own view of a grant.", group: "access.sallyport.dev", resources: "accessgrants/status", verbs: "update patch"},
	"Roles":           {reason: "They are read.", group: "access.sallyport.dev", resources: "accessroles", verbs: read},
	"HubRBAC":         {reason: "The hub side of grants.", group: "rbac.authorization.k8s.io", resources: "clusterroles clusterrolebindings", verbs: read + " " + write},
	"KarmadaProxy":    {reason: "Held to be given.", group: "cluster.karmada.io", resources: "clusters/proxy", verbs: "get " + write},
	"SallyportProxy":  {reason: "Held to be given.", group: "proxy.sallyport.dev", resources: "clusters/proxy", verbs: "get " + write},
	"OCMFleet":        {reason: "Inventory.", group: "cluster.open-cluster-management.io", resources: "managedclusters managedclustersets managedclustersetbindings placements placementdecisions", verbs: read},
	"OCMAddOns":       {reason: "Inventory.", group: "addon.open-cluster-management.io", resources: "managedclusteraddons", verbs: read},
	"KarmadaFleet":    {reason: "Inventory.", group: "cluster.karmada.io", resources: "clusters", verbs: read},
	"ClusterProfiles": {reason: "Inventory.", group: "multicluster.x-k8s.io", resources: "clusterprofiles", verbs: read},
	"ManifestWorks":   {reason: "The member side of grants.", group: "work.open-cluster-management.io", resources: "manifestworks", verbs: read + " " + write + " execute-as"},
	"KarmadaWorks":    {reason: "The member side of grants.", group: "work.karmada.io", resources: "works", verbs: read + " " + write},
	"KarmadaStatus":   {reason: "It is withdrawn before a Work changes.", group: "work.karmada.io", resources: "works/status", verbs: "patch"},
	"FluxSources":     {reason: "Provenance.", group: "kustomize.toolkit.fluxcd.io", resources: "kustomizations", verbs: read},
	"HelmSources":     {reason: "Provenance.", group: "helm.toolkit.fluxcd.io", resources: "helmreleases", verbs: read},
	"ArgoSources":     {reason: "Provenance.", group: "argoproj.io", resources: "applications", verbs: read},
	"CRDs":            {reason: "Kinds that appear later.", group: "apiextensions.k8s.io", resources: "customresourcedefinitions", verbs: read},
	"APIServices":     {reason: "Aggregated APIs that appear later.", group: "apiregistration.k8s.io", resources: "apiservices", verbs: read},
	"Events":          {reason: "In the namespaces of grants.", resources: "events", verbs: "create patch"},
	"OwnSecrets":      {reason: "Kubeconfigs of members.", resources: "secrets", verbs: read, namespace: namespace},
	"Guardrails":      {reason: "They judge grants.", group: "access.sallyport.dev", resources: "guardrails guardrailbundles guardrailexceptions", verbs: read},
	"GuardrailStatus": {reason: "Its own view of them.", group: "access.sallyport.dev", resources: "guardrails/status guardrailbundles/status guardrailexceptions/status", verbs: "update patch"},
	"NamespaceLabels": {reason: "Guardrails match by them.", resources: "namespaces", verbs: read},
	"BundleSources":   {reason: "The artifact of a bundle.", group: "source.toolkit.fluxcd.io", resources: "ocirepositories gitrepositories buckets", verbs: "get"},
	"Reports":         {reason: "What was judged, for people.", group: "openreports.io", resources: "reports clusterreports", verbs: read + " create update delete"},
	"PolicyReports":   {reason: "The same, for older tools.", group: "wgpolicyk8s.io", resources: "policyreports clusterpolicyreports", verbs: read + " create update delete"},
	"WebhookTrust":    {reason: "Which authority its webhook has.", group: "admissionregistration.k8s.io", resources: "validatingwebhookconfigurations", verbs: read + " update", name: "sallyport-guardrails"},
	"WebhookSecret":   {reason: "The certificate of its webhook.", resources: "secrets", verbs: read + " update", namespace: namespace, name: "sallyport-webhook-certs"},
	"OwnConfigMaps":   {reason: "Inventories.", resources: "configmaps", verbs: read + " " + write, namespace: namespace},
	"OwnLeases":       {reason: "Leader election.", group: "coordination.k8s.io", resources: "leases", verbs: "get create update", namespace: namespace},

	"RouteAccounts":   {reason: "OCM's add-on makes the gateway's impersonator.", group: "authentication.open-cluster-management.io", resources: "managedserviceaccounts", verbs: read + " update delete", name: "sallyport-impersonator"},
	"RouteAccountNew": {reason: "What is created has no name yet that could be asked about.", group: "authentication.open-cluster-management.io", resources: "managedserviceaccounts", verbs: "create"},
	"RouteTokens":     {reason: "The impersonator's token, which that add-on brings to the namespace of the cluster.", resources: "secrets", verbs: "get", name: "sallyport-impersonator"},

	"Escalate":        {reason: "S19: it would make the escalation check idle.", group: "rbac.authorization.k8s.io", resources: "clusterroles roles", verbs: "escalate bind", refused: true},
	"Impersonate":     {reason: "The controller is nobody else.", resources: "users groups serviceaccounts", verbs: "impersonate", refused: true},
	"NamespacedRBAC":  {reason: "Grants need no Roles on the hub.", group: "rbac.authorization.k8s.io", resources: "roles rolebindings", verbs: read + " " + write, refused: true},
	"Star":            {reason: "No star anywhere.", group: "*", resources: "*", verbs: "* get create", refused: true},
	"StarProxy":       {reason: "Only the verbs that requests have.", group: "cluster.karmada.io", resources: "clusters/proxy", verbs: "* list watch deletecollection", refused: true},
	"Tokens":          {reason: "The controller mints no credentials.", resources: "serviceaccounts/token", verbs: "create", refused: true},
	"SecretsAnywhere": {reason: "S24: secrets of others are not its business.", resources: "secrets", verbs: read + " " + write, refused: true},
	"SecretsNextDoor": {reason: "S24: nor those of any one namespace.", resources: "secrets configmaps", verbs: read, namespace: "kube-system", refused: true},
	"Webhooks":        {reason: "S19: whoever answers admission is asked about everything.", group: "admissionregistration.k8s.io", resources: "validatingwebhookconfigurations mutatingwebhookconfigurations", verbs: read + " " + write, refused: true},
	"OtherAccounts":   {reason: "S24: accounts that others asked for on members are theirs.", group: "authentication.open-cluster-management.io", resources: "managedserviceaccounts", verbs: read + " update patch delete", refused: true},
	"RouteTokenLists": {reason: "S24: one Secret by its name, not all to look for it.", resources: "secrets", verbs: "list watch update patch delete", name: "sallyport-impersonator", refused: true},
	"OwnWebhookGone":  {reason: "It cannot have itself not asked.", group: "admissionregistration.k8s.io", resources: "validatingwebhookconfigurations", verbs: "create patch delete", name: "sallyport-guardrails", refused: true},
	"GuardrailWrites": {reason: "Who is judged by guardrails does not make them.", group: "access.sallyport.dev", resources: "guardrails guardrailbundles guardrailexceptions", verbs: write, refused: true},
	"OwnSecretWrites": {reason: "Kubeconfigs are read, never written.", resources: "secrets", verbs: write, namespace: namespace, refused: true},
	"Pods":            {reason: "It runs nothing.", resources: "pods pods/exec pods/log", verbs: "get list create", refused: true},
	"Nodes":           {reason: "It is no node's business.", resources: "nodes nodes/proxy", verbs: read, refused: true},
	"GrantWrites":     {reason: "Who compiles grants does not make them.", group: "access.sallyport.dev", resources: "accessgrants accessroles", verbs: "create delete", refused: true},
	"Namespaces":      {reason: "Only the Git sync makes namespaces.", resources: "namespaces", verbs: "create", refused: true},
	"FleetWrites":     {reason: "The fleet is others' to change.", group: "cluster.open-cluster-management.io", resources: "managedclusters placements", verbs: write, refused: true},
	"AcceptClusters":  {reason: "Nor is joining it Sallyport's.", group: "register.open-cluster-management.io", resources: "managedclusters/accept", verbs: "update", refused: true},
	"CRDWrites":       {reason: "Kinds are installed by people.", group: "apiextensions.k8s.io", resources: "customresourcedefinitions", verbs: write, refused: true},
	"Admission":       {reason: "It cannot lift the policy that bounds it.", group: "admissionregistration.k8s.io", resources: "validatingadmissionpolicies validatingadmissionpolicybindings", verbs: read + " " + write, refused: true},
	"MassDeletion":    {reason: "Objects are deleted one by one, by name.", group: "work.open-cluster-management.io", resources: "manifestworks", verbs: "deletecollection", refused: true},
}

var gitSyncRights = map[string]right{
	"Grants":          {reason: "Applied and pruned.", group: "access.sallyport.dev", resources: "accessgrants accessroles", verbs: "get list create patch delete"},
	"Guardrails":      {reason: "Applied and pruned.", group: "access.sallyport.dev", resources: "guardrails guardrailbundles guardrailexceptions", verbs: "get list create patch delete"},
	"Namespaces":      {reason: "Made when missing.", resources: "namespaces", verbs: "get create"},
	"Placements":      {reason: "Applied and pruned.", group: "cluster.open-cluster-management.io", resources: "placements managedclustersetbindings", verbs: "get list create patch delete"},
	"Bind":            {reason: "Asked for by OCM.", group: "cluster.open-cluster-management.io", resources: "managedclustersets/bind", verbs: "create"},
	"NamespaceWrites": {reason: "Never changed, never pruned.", resources: "namespaces", verbs: "update patch delete", refused: true},
	"OtherKinds":      {reason: "A commit cannot bring anything else.", resources: "secrets pods serviceaccounts", verbs: "create patch", refused: true},
	"Workloads":       {reason: "Nor workloads.", group: "apps", resources: "deployments", verbs: "create patch", refused: true},
	"Escalate":        {reason: "S19 holds with the sync, too.", group: "rbac.authorization.k8s.io", resources: "clusterroles roles", verbs: "escalate bind", refused: true},
}

func testRights(t *testing.T, account *kubernetes.Clientset, table map[string]right) {
	for name, tc := range table {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, resource := range strings.Fields(tc.resources) {
				for _, verb := range strings.Fields(tc.verbs) {
					q := question{verb: verb, group: tc.group, resource: resource, namespace: tc.namespace, name: tc.name}
					if got := q.ask(t.Context(), t, account); got == tc.refused {
						t.Errorf("%s\nmay %s: %t, want %t", tc.reason, fmt.Sprintf("%s %s.%s %s in %q", verb, resource, tc.group, tc.name, tc.namespace), got, !tc.refused)
					}
				}
			}
		})
	}
}

// TestRightsAreTold: what the manifests give, the tables above give a reason for.
func TestRightsAreTold(t *testing.T) {
	told := map[question]bool{}
	for _, table := range []map[string]right{rights, gitSyncRights, routeRights} {
		for _, r := range table {
			for _, resource := range strings.Fields(r.resources) {
				for _, verb := range strings.Fields(r.verbs) {
					if !r.refused {
						told[question{verb, r.group, resource, r.namespace, r.name}] = true
					}
				}
			}
		}
	}
	// Verbs that follow from others that are told.
	for _, q := range []question{
		{verb: "get", group: "access.sallyport.dev", resource: "accessgrants/status"},
		{verb: "get", group: "access.sallyport.dev", resource: "guardrails/status"},
		{verb: "get", group: "access.sallyport.dev", resource: "guardrailbundles/status"},
		{verb: "get", group: "access.sallyport.dev", resource: "guardrailexceptions/status"},
		{verb: "update", group: "access.sallyport.dev", resource: "accessgrants/finalizers"},
	} {
		told[q] = true
	}
	for _, object := range append(build(t, "testdata/git-sync"), build(t, "../../config/gateway/routes")...) {
		name := object.GetName()
		if !strings.HasSuffix(object.GetKind(), "Role") || strings.HasPrefix(name, "sallyport-accessgrant-") {
			continue
		}
		var role rbacv1.ClusterRole
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, &role); err != nil {
			t.Fatal(err)
		}
		for _, rule := range role.Rules {
			for _, group := range rule.APIGroups {
				for _, resource := range rule.Resources {
					for _, verb := range rule.Verbs {
						if group == "events.k8s.io" {
							group = "" // the same events
						}
						for _, only := range names(rule) {
							if q := (question{verb, group, resource, role.Namespace, only}); !told[q] {
								t.Errorf("%s %q gives %s %s.%s %s, for which no test gives a reason", object.GetKind(), name, verb, resource, group, only)
							}
						}
					}
				}
			}
		}
	}
}

// names of the objects that a rule is about; an empty one for all.
func names(rule rbacv1.PolicyRule) []string {
	if len(rule.ResourceNames) == 0 {
		return []string{""}
	}
	return rule.ResourceNames
}
