package authz

import (
	"context"
	"crypto/x509"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apiserver/pkg/apis/apiserver"
	"k8s.io/apiserver/pkg/apis/apiserver/load"
	"k8s.io/apiserver/pkg/apis/apiserver/validation"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	authorizationcel "k8s.io/apiserver/pkg/authorization/cel"
	"k8s.io/apiserver/plugin/pkg/authorizer/webhook"
	"k8s.io/apiserver/plugin/pkg/authorizer/webhook/metrics"
	"k8s.io/client-go/tools/clientcmd"
	testclock "k8s.io/utils/clock/testing"

	"github.com/sallyport-dev/sallyport/internal/core/effective"
)

// loaded is a configuration as kube-apiserver reads it.
func loaded(t *testing.T, o *ConfigOptions) *apiserver.AuthorizationConfiguration {
	t.Helper()
	authorization, kubeconfig, err := Config(o)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(o.KubeconfigFile, kubeconfig, 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := load.LoadFromData(authorization)
	if err != nil {
		t.Fatalf("%v:\n%s", err, authorization)
	}
	known := sets.New("Webhook", "Node", "RBAC")
	if errs := validation.ValidateAuthorizationConfiguration(authorizationcel.NewDefaultCompiler(), nil, c, known, sets.New("Webhook")); len(errs) > 0 {
		t.Fatalf("%v:\n%s", errs.ToAggregate(), authorization)
	}
	return c
}

// asKubeAPIServer is kube-apiserver's own webhook with a configuration.
func asKubeAPIServer(t *testing.T, o *ConfigOptions) *webhook.WebhookAuthorizer {
	t.Helper()
	c := loaded(t, o).Authorizers[0].Webhook
	config, err := clientcmd.BuildConfigFromFlags("", *c.ConnectionInfo.KubeConfigFile)
	if err != nil {
		t.Fatal(err)
	}
	config.Timeout = c.Timeout.Duration
	ttl := func(kept bool, ttl time.Duration) time.Duration {
		if !kept {
			return 0
		}
		return ttl
	}
	onError := authorizer.DecisionNoOpinion
	if c.FailurePolicy == apiserver.FailurePolicyDeny {
		onError = authorizer.DecisionDeny
	}
	a, err := webhook.New(config, c.SubjectAccessReviewVersion, ttl(c.CacheAuthorizedRequests, c.AuthorizedTTL.Duration), ttl(c.CacheUnauthorizedRequests, c.UnauthorizedTTL.Duration),
		wait.Backoff{Steps: 1}, onError, c.MatchConditions, "sallyport", metrics.NoopAuthorizerMetrics{}, authorizationcel.NewDefaultCompiler())
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// configOf a server, in a folder of its own.
func configOf(t *testing.T, s *served, clients *authority) *ConfigOptions {
	t.Helper()
	dir := t.TempDir()
	o := NewConfigOptions()
	o.Cluster, o.Server = "prod", strings.TrimSuffix(s.url, Path)
	o.CAFile, o.CertFile, o.KeyFile, o.KubeconfigFile = filepath.Join(dir, "ca.crt"), filepath.Join(dir, "client.crt"), filepath.Join(dir, "client.key"), filepath.Join(dir, "kubeconfig.yaml")
	cert, key := clients.pair(t, "prod-api", x509.ExtKeyUsageClientAuth, time.Hour)
	for path, content := range map[string][]byte{o.CAFile: s.servers.pem, o.CertFile: cert, o.KeyFile: key} {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return o
}

// attributes of a request for pods in payments.
func attributes(verb, subresource, name string, groups ...string) authorizer.AttributesRecord {
	return authorizer.AttributesRecord{
		User: &user.DefaultInfo{Name: name, Groups: groups}, Verb: verb, APIVersion: "v1", Resource: "pods", Subresource: subresource, Namespace: "payments", ResourceRequest: true,
	}
}

func must(t *testing.T, a *webhook.WebhookAuthorizer, of authorizer.Attributes, want authorizer.Decision) string {
	t.Helper()
	got, reason, err := a.Authorize(t.Context(), of)
	if err != nil || got != want {
		t.Errorf("%s %s by %s: got %v %q, %v; want %v", of.GetVerb(), of.GetSubresource(), of.GetUser().GetName(), got, reason, err, want)
	}
	return reason
}

// TestConfig: kube-apiserver's own code takes the configuration, and by it spares what it
// would not run without.
func TestConfig(t *testing.T) {
	clients := newAuthority(t)
	s := serve(t, clients, gives(t), "prod-api=prod")
	o := configOf(t, s, clients)
	a := asKubeAPIServer(t, o)
	if reason := must(t, a, attributes("create", "exec", "alice", "devs"), authorizer.DecisionDeny); !strings.Contains(reason, "not for people") {
		t.Errorf("the reason is %q", reason)
	}
	must(t, a, attributes("list", "", "alice", "devs"), authorizer.DecisionAllow)
	must(t, a, attributes("list", "", "bob", "ops"), authorizer.DecisionNoOpinion)

	for name, spared := range map[string]authorizer.AttributesRecord{
		"Node":       attributes("create", "exec", "system:node:a", "system:nodes"),
		"Controller": attributes("create", "exec", "system:serviceaccount:kube-system:x", "system:serviceaccounts", "system:serviceaccounts:kube-system"),
		"Manager":    attributes("create", "exec", "system:kube-controller-manager"),
		"Scheduler":  attributes("create", "exec", "system:kube-scheduler"),
		"Itself":     attributes("create", "exec", "system:apiserver"),
		"Authorizer": attributes("create", "exec", "system:serviceaccount:sallyport-authorizer:sallyport-authorizer", "system:serviceaccounts:sallyport-authorizer"),
		"Health":     {User: &user.DefaultInfo{Name: "system:anonymous"}, Verb: "get", Path: "/readyz"},
	} {
		if got, _, err := a.Authorize(t.Context(), spared); got != authorizer.DecisionNoOpinion || err != nil {
			t.Errorf("%s is asked about: %v, %v", name, got, err)
		}
	}
	for name, asked := range map[string]authorizer.AttributesRecord{
		"Account":  attributes("create", "exec", "system:serviceaccount:payments:kube-system", "system:serviceaccounts", "system:serviceaccounts:payments"),
		"LookName": attributes("create", "exec", "system:kube", "kube-system"),
		"Groups":   attributes("create", "exec", "alice"),
		"Masters":  attributes("create", "exec", "alice", "system:masters"),
		"Path":     {User: &user.DefaultInfo{Name: "alice"}, Verb: "get", Path: "/debug/x"},
	} {
		if got, _, err := a.Authorize(t.Context(), asked); got != authorizer.DecisionDeny || err != nil {
			t.Errorf("%s is not asked about: %v, %v", name, got, err)
		}
	}
}

// TestConfigHub has no cluster in its path.
func TestConfigHub(t *testing.T) {
	clients := newAuthority(t)
	options := gives(t)
	options.Cluster = ""
	o := configOf(t, serve(t, clients, options), clients)
	o.Cluster, o.Node = "", false
	if c := loaded(t, o); len(c.Authorizers) != 2 {
		t.Errorf("there are %d authorizers", len(c.Authorizers))
	}
	way := authorizer.AttributesRecord{
		User: &user.DefaultInfo{Name: "alice", Groups: []string{"devs"}}, Verb: "get", APIGroup: "proxy.sallyport.dev", APIVersion: "v1alpha1",
		Resource: "clusters", Subresource: "proxy", Name: "prod", ResourceRequest: true,
	}
	a := asKubeAPIServer(t, o)
	must(t, a, way, authorizer.DecisionAllow)
	way.Name = "dev"
	must(t, a, way, authorizer.DecisionNoOpinion)
}

// TestFailurePolicy: where there is no answer, what the policy says holds, at once.
func TestFailurePolicy(t *testing.T) {
	clients := newAuthority(t)
	unknown := gives(t)
	unknown.Index = fixed{}
	stuck, over := make(chan struct{}), make(chan struct{})
	slow := gives(t)
	slow.Index = waiting{fixed{index(t)}, stuck}
	defer close(over)
	defer close(stuck)
	down := serve(t, clients, gives(t))
	if err := down.end(); err != nil {
		t.Fatal(err)
	}
	for name, s := range map[string]*served{"S16Unknown": serve(t, clients, unknown), "Slow": serve(t, clients, slow), "Down": down, "Refused": serve(t, clients, gives(t), "another")} {
		for policy, want := range map[string]authorizer.Decision{"Deny": authorizer.DecisionDeny, "NoOpinion": authorizer.DecisionNoOpinion} {
			o := configOf(t, s, clients)
			o.FailurePolicy, o.Timeout = policy, 200*time.Millisecond
			got, _, err := asKubeAPIServer(t, o).Authorize(t.Context(), attributes("list", "", "alice", "devs"))
			if got != want || err == nil {
				t.Errorf("%s: with %s it is %v, %v", name, policy, got, err)
			}
		}
	}
}

// waiting has its index when it is allowed to.
type waiting struct {
	fixed
	until chan struct{}
}

func (w waiting) Current() *effective.Index {
	<-w.until
	return w.fixed.Current()
}

// moving is an index that is swapped.
type moving struct {
	atomic.Pointer[effective.Index]
}

func (m *moving) Current() *effective.Index { return m.Load() }

// TestS14NothingAllowedIsKept: a grant that ends, or a guardrail that comes, holds for the
// next request of an API server that has asked the same before. What was not allowed is
// kept for as long as the configuration says and no longer.
func TestS14NothingAllowedIsKept(t *testing.T) {
	clients := newAuthority(t)
	ix := &moving{}
	ix.Store(index(t))
	clock := testclock.NewFakePassiveClock(noon)
	s := serve(t, clients, HandlerOptions{Index: ix, AllowFromGrants: true, Clock: clock})
	o := configOf(t, s, clients)
	o.UnauthorizedTTL = 0
	a := asKubeAPIServer(t, o)
	alice := attributes("list", "", "alice", "devs")
	for range 3 {
		must(t, a, alice, authorizer.DecisionAllow)
		ix.Store(index(t, "input.request.verb != 'list'"))
		must(t, a, alice, authorizer.DecisionDeny)
		ix.Store(index(t))
		must(t, a, alice, authorizer.DecisionAllow)
		clock.SetTime(noon.Add(time.Hour))
		must(t, a, alice, authorizer.DecisionNoOpinion)
		clock.SetTime(noon)
	}
	o.UnauthorizedTTL = time.Second
	a = asKubeAPIServer(t, o)
	clock.SetTime(noon.Add(time.Hour))
	must(t, a, alice, authorizer.DecisionNoOpinion)
	ix.Store(index(t, "input.request.verb != 'list'"))
	kept := time.Now()
	if err := wait.PollUntilContextTimeout(t.Context(), 10*time.Millisecond, time.Minute, true, func(ctx context.Context) (bool, error) {
		got, _, err := a.Authorize(ctx, alice)
		if got == authorizer.DecisionAllow {
			err = errors.Join(err, errors.New("it was allowed"))
		}
		return got == authorizer.DecisionDeny, err
	}); err != nil {
		t.Fatal(err)
	}
	t.Logf("a new guardrail held after %s", time.Since(kept))
}

// TestConfigRefuses what an API server could not use, or would be used wrongly by.
func TestConfigRefuses(t *testing.T) {
	for name, change := range map[string]func(o *ConfigOptions){
		"HTTP":     func(o *ConfigOptions) { o.Server = "http://authorizer" },
		"Path":     func(o *ConfigOptions) { o.Server = "https://authorizer/x" },
		"Query":    func(o *ConfigOptions) { o.Server = "https://authorizer/?cluster=prod" },
		"Password": func(o *ConfigOptions) { o.Server = "https://a:b@authorizer" },
		"Cluster":  func(o *ConfigOptions) { o.Cluster = "../x" },
		"Policy":   func(o *ConfigOptions) { o.FailurePolicy = "Allow" },
		"Timeout":  func(o *ConfigOptions) { o.Timeout = time.Minute },
		"TTL":      func(o *ConfigOptions) { o.UnauthorizedTTL = time.Minute },
		"Relative": func(o *ConfigOptions) { o.KubeconfigFile = "kubeconfig.yaml" },
	} {
		o := NewConfigOptions()
		o.Server = "https://authorizer"
		if _, _, err := Config(o); err != nil {
			t.Fatal(err)
		}
		change(o)
		if _, _, err := Config(o); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
}
