//go:build peers

package main

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"
	aggregator "k8s.io/kube-aggregator/pkg/client/clientset_generated/clientset"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/controllers"
	"github.com/sallyport-dev/sallyport/test/controlplane"
	"github.com/sallyport-dev/sallyport/test/install"
)

const (
	// only member of the stand: what is measured is one request to one.
	only = "m1"
	// tenants with a namespace each, here and there, and the grants between them.
	tenancies, standing = 20, 1_000
	// pod that everybody reads, of the first tenant.
	pod    = "/api/v1/namespaces/team-0/pods/api-0"
	oncall = "payments-oncall"
	// cuts that are timed, each of a grant of its own.
	cuts = 20
)

var floorGroup = schema.GroupVersion{Group: "floor.example.dev", Version: "v1alpha1"}

// below are the paths of the member by what is raced.
func below(group string) string { return "/apis/" + group + "/v1alpha1/clusters/" + only + "/proxy" }

const overlay = `apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
resources: [../config/default, ../config/gateway]
components: [../config/components/karmada-routes]
`

// stand is a hub and a member that is reached by Karmada, by Sallyport's gateway and by
// the floor: all as processes, by one account of the member, to one object.
type stand struct {
	*testing.B
	ctx    context.Context
	fleet  *controlplane.Fleet
	hub    client.WithWatch
	member client.WithWatch
	gates  *install.Installation
	alice  *rest.Config
	// ports of the floor and of Karmada's aggregated API server.
	floor, karmada int
}

func newStand(b *testing.B) *stand {
	b.Helper()
	s := &stand{B: b, ctx: b.Context()}
	s.fleet = controlplane.ForTest(b, controlplane.Options{Members: []string{only}, ControllerManager: true})
	s.hub, s.member = s.client(s.fleet.Hub), s.client(s.fleet.Member(only))
	for _, step := range []struct {
		what string
		do   func() error
	}{
		{"start Karmada", s.startKarmada},
		{"run a pod", s.runPod},
		{"install", s.install},
		{"put guardrails in force", s.guard},
		{"grant", s.grant},
		{"start the floor", s.startFloor},
		{"start the gateways", s.startGateways},
		{"wait until all lead to the pod", s.awaitAll},
	} {
		began := time.Now()
		if err := step.do(); err != nil {
			b.Fatalf("cannot %s: %v", step.what, err)
		}
		b.Logf("%s: %s", step.what, time.Since(began).Round(time.Millisecond))
	}
	return s
}

func (s *stand) client(c *controlplane.ControlPlane) client.WithWatch {
	s.Helper()
	scheme, err := controllers.Scheme()
	if err != nil {
		s.Fatal(err)
	}
	config := c.AdminConfig()
	out, err := client.NewWithWatch(config, client.Options{Scheme: scheme})
	if err != nil {
		s.Fatal(err)
	}
	return out
}

func (s *stand) startKarmada() error {
	if err := s.fleet.StartKarmadaAggregatedAPIServer(s.ctx); err != nil {
		return err
	}
	if err := s.fleet.JoinKarmada(s.ctx, only, map[string]string{"env": "prod"}); err != nil {
		return err
	}
	services, err := aggregator.NewForConfig(s.fleet.Hub.AdminConfig())
	if err != nil {
		return err
	}
	api, err := services.ApiregistrationV1().APIServices().Get(s.ctx, "v1alpha1.cluster.karmada.io", metav1.GetOptions{})
	if err != nil {
		return err
	}
	s.karmada = int(*api.Spec.Service.Port)
	return s.fleet.StartKarmadaControllerManager(s.ctx)
}

func (s *stand) runPod() error {
	m := s.fleet.Member(only)
	if err := s.fleet.StartKubelet(s.ctx, m); err != nil {
		return err
	}
	if err := m.RunPod(s.ctx, "team-0", "api-0"); err != nil {
		return err
	}
	// Karmada tells the member all groups of a person, granted or not.
	others := []client.Object{
		&rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: "bench-groups"}, Rules: []rbacv1.PolicyRule{
			{Verbs: []string{"impersonate"}, APIGroups: []string{""}, Resources: []string{"groups"}, ResourceNames: []string{oncall, "payments", "staff"}},
			{Verbs: []string{"impersonate"}, APIGroups: []string{""}, Resources: []string{"users"}, ResourceNames: []string{"alice"}},
		}},
		binding("bench-groups", rbacv1.Subject{Kind: rbacv1.ServiceAccountKind, Namespace: "karmada-cluster", Name: "karmada-impersonator"}),
	}
	for i := range tenancies - 1 {
		others = append(others, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("team-%d", i+1)}})
	}
	return create(s.ctx, s.member, others)
}

// install Sallyport on the hub, with its controller.
func (s *stand) install() error {
	root, err := filepath.Abs("../..")
	if err != nil {
		return err
	}
	s.gates = &install.Installation{Fleet: s.fleet, Hub: s.hub, Root: root, Binary: filepath.Join(s.TempDir(), "sallyport")}
	if err := install.Build(s.ctx, root, s.gates.Binary); err != nil {
		return err
	}
	if err := s.gates.Apply(s.ctx, overlay); err != nil {
		return err
	}
	return s.gates.StartController(s.ctx)
}

// guard puts the twenty of the library in force.
func (s *stand) guard() error {
	var all []client.Object
	for _, name := range inForce {
		raw, err := os.ReadFile(filepath.Join(library, name, "guardrail.yaml"))
		if err != nil {
			return err
		}
		g := &v1alpha1.Guardrail{}
		if err := yaml.UnmarshalStrict(raw, g); err != nil {
			return err
		}
		all = append(all, g)
	}
	return create(s.ctx, s.hub, all)
}

// grant alice what she needs, a group for each cut, and the rest to others.
func (s *stand) grant() error {
	read := []string{"get", "list", "watch"}
	var first, all []client.Object
	for i := range tenancies {
		name := fmt.Sprintf("team-%d", i)
		first = append(first, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"tenant": name}}})
	}
	for i := range 4 {
		first = append(first, &v1alpha1.AccessRole{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("role-%d", i)}, Spec: v1alpha1.AccessRoleSpec{Rules: []v1alpha1.PolicyRule{
			{Verbs: read, APIGroups: []string{""}, Resources: []string{"pods", "services"}},
			{Verbs: []string{"get"}, APIGroups: []string{""}, Resources: []string{"pods/log"}},
			{Verbs: read[:1+i%3], APIGroups: []string{"apps"}, Resources: []string{"deployments"}},
		}}})
	}
	give := func(tenant, role int, name, group string) {
		ns := fmt.Sprintf("team-%d", tenant)
		ends := metav1.NewTime(time.Now().Add(6 * time.Hour))
		all = append(all, &v1alpha1.AccessGrant{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name}, Spec: v1alpha1.AccessGrantSpec{
			Reason:   "PAY-1234: on call",
			Subjects: []v1alpha1.Subject{{Kind: v1alpha1.GroupSubject, Name: group}},
			Clusters: v1alpha1.ClusterSelection{Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"env": "prod"}}},
			Access: []v1alpha1.AccessEntry{{
				RoleRef:    &v1alpha1.RoleReference{Kind: v1alpha1.AccessRoleRef, Name: fmt.Sprintf("role-%d", role)},
				Namespaces: []v1alpha1.NamespaceName{v1alpha1.NamespaceName(ns)},
			}},
			Validity: &v1alpha1.Validity{NotAfter: &ends},
		}})
	}
	give(0, 0, "oncall", oncall)
	for i := range cuts {
		give(0, 0, fmt.Sprintf("cut-%d", i), fmt.Sprintf("cut-%d", i))
	}
	for i := range standing - 1 - cuts {
		give(i%tenancies, i%4, fmt.Sprintf("grant-%d", i), fmt.Sprintf("group-%d", i%200))
	}
	if err := create(s.ctx, s.hub, first); err != nil {
		return err
	}
	if err := create(s.ctx, s.hub, all); err != nil {
		return err
	}
	// The last to be made is the last to be applied, or nearly so.
	return install.Until(s.ctx, 3*time.Minute, func(ctx context.Context) string {
		for _, o := range []client.Object{all[0], all[cuts], all[len(all)-1]} {
			g := &v1alpha1.AccessGrant{}
			if err := s.hub.Get(ctx, client.ObjectKeyFromObject(o), g); err != nil {
				return err.Error()
			}
			if c := meta.FindStatusCondition(g.Status.Conditions, v1alpha1.ConditionReady); c == nil || c.Status != metav1.ConditionTrue {
				return fmt.Sprintf("%s is not ready: %+v", g.Name, g.Status.Conditions)
			}
		}
		return ""
	})
}

// startFloor starts the bare proxy as an aggregated API of its own, with the token that
// the gateway has.
func (s *stand) startFloor() error {
	route := &corev1.Secret{}
	err := install.Until(s.ctx, time.Minute, func(ctx context.Context) string {
		if err := s.hub.Get(ctx, client.ObjectKey{Namespace: install.GatewayNamespace, Name: "route-" + only}, route); err != nil {
			return err.Error()
		}
		return ""
	})
	if err != nil {
		return err
	}
	dir := s.TempDir()
	cmd := exec.CommandContext(s.ctx, "go", "build", "-o", filepath.Join(dir, "floor"), "./floor")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	cert, key, err := s.fleet.Hub.ServingCertificate("floor.floor.svc")
	if err != nil {
		return err
	}
	for name, content := range map[string][]byte{"tls.crt": cert, "tls.key": key, "member.crt": route.Data["ca.crt"], "token": route.Data["token"]} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			return err
		}
	}
	err = s.fleet.StartProgram(s.ctx, "floor", filepath.Join(dir, "floor"), "https", func(port int) []string {
		s.floor = port
		return []string{
			fmt.Sprintf("--addr=127.0.0.1:%d", port), "--tls-cert=" + filepath.Join(dir, "tls.crt"), "--tls-key=" + filepath.Join(dir, "tls.key"),
			"--prefix=" + below(floorGroup.Group), "--member=" + string(route.Data["server"]), "--member-ca=" + filepath.Join(dir, "member.crt"),
			"--token-file=" + filepath.Join(dir, "token"), "--user=alice", "--group=" + oncall,
		}
	})
	if err != nil {
		return err
	}
	err = create(s.ctx, s.hub, []client.Object{
		&rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: "bench-peers"}, Rules: []rbacv1.PolicyRule{
			{Verbs: []string{"get"}, APIGroups: []string{floorGroup.Group, "cluster.karmada.io"}, Resources: []string{"clusters/proxy"}},
		}},
		binding("bench-peers", rbacv1.Subject{Kind: rbacv1.GroupKind, APIGroup: rbacv1.GroupName, Name: oncall}),
	})
	if err != nil {
		return err
	}
	return s.fleet.Hub.RegisterAPIService(s.ctx, floorGroup, "floor", "floor", s.floor)
}

// startGateways starts the gateway.
func (s *stand) startGateways() (err error) {
	if s.alice, err = s.fleet.Hub.User("alice", oncall, "payments", "staff"); err != nil {
		return err
	}
	return s.gates.StartGateway(s.ctx, "--max-sessions-per-user=5000")
}

// startHTTP2 starts another gateway whose requests to a member share a connection.
func (s *stand) startHTTP2() (port int, err error) {
	base := filepath.Join(s.fleet.Dir(), "pki", "sallyport-gateway")
	free, err := (&net.ListenConfig{}).Listen(s.ctx, "tcp", "localhost:0")
	if err != nil {
		return 0, err
	}
	port = free.Addr().(*net.TCPAddr).Port
	if err := free.Close(); err != nil {
		return 0, err
	}
	err = s.fleet.StartProgram(s.ctx, "gateway-http2", s.gates.Binary, "http", func(health int) []string {
		return []string{
			"gateway", "--kubeconfig=" + filepath.Join(s.fleet.Dir(), "kubeconfigs", "sallyport-gateway.kubeconfig"),
			fmt.Sprintf("--addr=localhost:%d", port), fmt.Sprintf("--health-addr=127.0.0.1:%d", health), "--metrics-addr=0",
			"--tls-cert-file=" + base + ".crt", "--tls-private-key-file=" + base + ".key", "--shutdown-delay=0s", "--member-http2",
		}
	})
	return port, err
}

// pid of a program of the fleet.
func (s *stand) pid(program string) int {
	s.Helper()
	f, err := os.Open(filepath.Join(s.fleet.Dir(), "pids"))
	if err != nil {
		s.Fatal(err)
	}
	defer f.Close()
	pid := 0
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if one := strings.Fields(lines.Text()); len(one) == 3 && one[2] == program {
			pid, _ = strconv.Atoi(one[0]) // the last is the one that runs
		}
	}
	if pid == 0 {
		s.Fatalf("%s does not run", program)
	}
	return pid
}

func binding(role string, to rbacv1.Subject) *rbacv1.ClusterRoleBinding {
	return &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: role}, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role},
		Subjects: []rbacv1.Subject{to},
	}
}

// create objects, several at once.
func create(ctx context.Context, c client.Client, objects []client.Object) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(8)
	for _, o := range objects {
		group.Go(func() error {
			if err := c.Create(ctx, o); err != nil {
				return fmt.Errorf("%T %q: %w", o, o.GetName(), err)
			}
			return nil
		})
	}
	return group.Wait()
}
