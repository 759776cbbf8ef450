package controlplane

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

func TestFleet(t *testing.T) {
	began := time.Now()
	f := ForTest(t, Options{Members: []string{"prod-eu-1", "prod-us-1"}, ControllerManager: true})
	t.Logf("a hub with its controller manager and two members were ready in %s", time.Since(began).Round(time.Millisecond))

	t.Run("Users", func(t *testing.T) { testUsers(t, f) })
	t.Run("ServiceAccounts", func(t *testing.T) { testServiceAccounts(t, f) })
	t.Run("Kubeconfig", func(t *testing.T) { testKubeconfig(t, f) })
	t.Run("ControllerManager", func(t *testing.T) { testControllerManager(t, f) })
	t.Run("MemberOutage", func(t *testing.T) { testMemberOutage(t, f) })
}

// A certificate is the user it says on its own cluster, and nobody on another.
func testUsers(t *testing.T, f *Fleet) {
	ada, err := f.Hub.User("ada", "payments-oncall", "payments")
	if err != nil {
		t.Fatal(err)
	}
	who := whoAmI(t, ada)
	slices.Sort(who.Groups)
	want := authenticationv1.UserInfo{Username: "ada", Groups: []string{"payments", "payments-oncall", "system:authenticated"}}
	if diff := cmp.Diff(want, who, cmp.FilterPath(func(p cmp.Path) bool { return p.Last().String() == ".Extra" }, cmp.Ignore())); diff != "" {
		t.Errorf("identity on the hub (-want +got):\n%s", diff)
	}

	ada.Host, ada.CAData = f.Member("prod-eu-1").URL(), f.Member("prod-eu-1").CABundle()
	_, err = clientset(t, ada).CoreV1().Namespaces().List(t.Context(), metav1.ListOptions{})
	if !apierrors.IsUnauthorized(err) {
		t.Errorf("the hub's certificate on a member: got %v, want Unauthorized", err)
	}
}

func testServiceAccounts(t *testing.T, f *Fleet) {
	for _, c := range append(f.Members(), f.Hub) {
		cfg, err := c.ServiceAccount(t.Context(), "ci", "deployer")
		if err != nil {
			t.Fatal(err)
		}
		if got, want := whoAmI(t, cfg).Username, "system:serviceaccount:ci:deployer"; got != want {
			t.Errorf("%s: got user %q, want %q", c.Name, got, want)
		}
	}
}

func testKubeconfig(t *testing.T, f *Fleet) {
	path := filepath.Join(t.TempDir(), "sub", "kubeconfig")
	if err := f.Hub.WriteKubeconfig(path, f.Hub.AdminConfig(), "/apis/example.com/proxy"); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("a kubeconfig holds a private key: got mode %v, %v", info.Mode(), err)
	}
}

// Deleting a namespace ends it only where a controller manager runs.
func testControllerManager(t *testing.T, f *Fleet) {
	namespaces := clientset(t, f.Hub.AdminConfig()).CoreV1().Namespaces()
	doomed := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "doomed"}}
	if _, err := namespaces.Create(t.Context(), doomed, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := namespaces.Delete(t.Context(), "doomed", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the namespace is gone", func(ctx context.Context) (bool, error) {
		_, err := namespaces.Get(ctx, "doomed", metav1.GetOptions{})
		return apierrors.IsNotFound(err), nil
	})
}

// A member that comes back has its address, its users and its objects.
func testMemberOutage(t *testing.T, f *Fleet) {
	member := f.Member("prod-us-1")
	client := clientset(t, member.AdminConfig())
	kept := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "kept", Namespace: "default"}}
	eventually(t, "the default namespace exists", func(ctx context.Context) (bool, error) {
		_, err := client.CoreV1().ConfigMaps("default").Create(ctx, kept, metav1.CreateOptions{})
		return err == nil, nil
	})
	if err := member.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := answers(member.URL() + "/healthz")(t.Context()); err == nil {
		t.Error("a stopped member answers")
	}
	if err := member.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := client.CoreV1().ConfigMaps("default").Get(t.Context(), "kept", metav1.GetOptions{}); err != nil {
		t.Errorf("after the restart: %v", err)
	}
}

// An authorization webhook of the hub comes and goes with its flags; here there is none but RBAC, spelled out.
func TestFlags(t *testing.T) {
	config := filepath.Join(t.TempDir(), "authorization.yaml")
	content := "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthorizationConfiguration\nauthorizers:\n- {type: RBAC, name: rbac}\n"
	if err := os.WriteFile(config, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	f := ForTest(t, Options{HubFlags: []string{"--authorization-config=" + config, "--anonymous-auth=false"}})
	nobody := f.Hub.AdminConfig()
	nobody.CertData, nobody.KeyData = nil, nil
	_, err := clientset(t, nobody).Discovery().ServerVersion()
	if !apierrors.IsUnauthorized(err) {
		t.Errorf("anonymous although it is off: got %v, want Unauthorized", err)
	}
}

func TestStartFailsWithTheLog(t *testing.T) {
	if testing.Short() {
		t.Skip("starts control planes")
	}
	assets := t.TempDir()
	script := "#!/bin/sh\necho the disk is on fire >&2\nexit 3\n"
	for _, name := range inEnvtest {
		if err := os.WriteFile(filepath.Join(assets, name), []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("KUBEBUILDER_ASSETS", assets)
	_, err := Start(t.Context(), Options{})
	if want := "cannot start etcd: exited early (exit status 3): the disk is on fire"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func whoAmI(t *testing.T, cfg *rest.Config) authenticationv1.UserInfo {
	t.Helper()
	review, err := clientset(t, cfg).AuthenticationV1().SelfSubjectReviews().
		Create(t.Context(), &authenticationv1.SelfSubjectReview{}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return review.Status.UserInfo
}

func clientset(t *testing.T, cfg *rest.Config) *kubernetes.Clientset {
	t.Helper()
	client, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return client
}
