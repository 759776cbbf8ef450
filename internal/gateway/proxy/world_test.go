package proxy

import (
	"context"
	"encoding/pem"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/endpoints/request"
	testclock "k8s.io/utils/clock/testing"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/internal/core/compile"
	"github.com/sallyport-dev/sallyport/internal/core/effective"
	"github.com/sallyport-dev/sallyport/internal/core/fleet"
	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
	"github.com/sallyport-dev/sallyport/internal/core/subject"
	"github.com/sallyport-dev/sallyport/internal/decisionlog"
	"github.com/sallyport-dev/sallyport/internal/gateway/hub"
	"github.com/sallyport-dev/sallyport/internal/policy"
	"github.com/sallyport-dev/sallyport/internal/transport"
)

var noon = time.Date(2030, 1, 7, 12, 0, 0, 0, time.UTC)

// world is a handler with an index of its own, and one member, "prod". The member here
// is a plain server: what real ones do is in test/gateway.
type world struct {
	*testing.T
	clock   *testclock.FakeClock
	builder effective.Builder
	mu      sync.Mutex
	ix      *effective.Index
	told    []func(*effective.Index)
	hub     hubSays
	members *transport.Members
	log     entries
	handler *Handler
	server  *httptest.Server
	// subscribed is closed when the handler runs.
	subscribed chan struct{}
}

type hubSays struct {
	mu     sync.Mutex
	answer hub.Answer
	err    error
	asked  []hub.Question
}

func (h *hubSays) Review(_ context.Context, q *hub.Question) (hub.Answer, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.asked = append(h.asked, *q)
	return h.answer, h.err
}

type entries struct {
	mu  sync.Mutex
	all []*decisionlog.Entry
}

func (e *entries) Log(one *decisionlog.Entry) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.all = append(e.all, one)
}

func (e *entries) last() *decisionlog.Entry {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.all) == 0 {
		return &decisionlog.Entry{}
	}
	return e.all[len(e.all)-1]
}

func (w *world) Current() *effective.Index {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.ix
}

func (w *world) Subscribe(f func(*effective.Index)) func() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.told = append(w.told, f)
	close(w.subscribed) // the handler does so once
	return func() {}
}

// grants are in force from now on, with guardrails.
func (w *world) grants(guardrails []*guardrail.Guardrail, grants ...compile.Grant) {
	w.Helper()
	ix := w.builder.Build(compile.Snapshot{
		Grants: grants, Now: w.clock.Now(), Point: guardrail.Compile,
		Fleet:      fleet.New([]fleet.Member{{Name: "prod", Accepted: true, Delivery: fleet.Direct, Paths: subject.Gateway}}),
		Guardrails: guardrail.NewSet(guardrails, nil, guardrail.Options{}),
	})
	w.mu.Lock()
	w.ix = ix
	told := w.told
	w.mu.Unlock()
	for _, f := range told {
		f(ix)
	}
}

// oncall lets group devs do much with pods, and alice see configmaps, in payments.
func oncall(change ...func(*v1alpha1.AccessGrantSpec)) compile.Grant {
	spec := &v1alpha1.AccessGrantSpec{
		Reason:   "on call",
		Subjects: []v1alpha1.Subject{{Kind: v1alpha1.GroupSubject, Name: "devs"}},
		Clusters: v1alpha1.ClusterSelection{Names: []v1alpha1.ClusterName{"prod"}},
		Access: []v1alpha1.AccessEntry{{
			Rules: []v1alpha1.PolicyRule{
				{Verbs: []string{"get", "list", "watch", "create", "delete"}, APIGroups: []string{""}, Resources: []string{"pods", "pods/exec", "pods/log"}},
			},
			Namespaces: []v1alpha1.NamespaceName{"payments"},
		}},
	}
	for _, c := range change {
		c(spec)
	}
	return compile.Grant{Namespace: "payments", Name: "oncall", Spec: spec}
}

// against is a guardrail on requests.
func against(t testing.TB, expression, message string, change ...func(*v1alpha1.GuardrailSpec)) []*guardrail.Guardrail {
	t.Helper()
	spec := &v1alpha1.GuardrailSpec{
		Points: []v1alpha1.GuardrailPoint{v1alpha1.PointRequest},
		CEL:    &v1alpha1.CELPolicy{Validations: []v1alpha1.CELValidation{{Expression: expression, Message: message}}},
	}
	for _, c := range change {
		c(spec)
	}
	g, errs := policy.Compile("no-exec", spec, policy.Options{})
	if len(errs) > 0 {
		t.Fatal(errs.ToAggregate())
	}
	return []*guardrail.Guardrail{g}
}

const pods = "/api/v1/namespaces/payments/pods"

// newWorld serves a handler in front of a member. Who asks is what the header X-Test-User
// says, of the groups in X-Test-Groups: it stands for authentication.
func newWorld(t *testing.T, member http.HandlerFunc, change ...func(*Options)) *world {
	t.Helper()
	w := &world{T: t, subscribed: make(chan struct{}), clock: testclock.NewFakeClock(noon), hub: hubSays{answer: hub.Answer{Allowed: true}}}
	to := httptest.NewUnstartedServer(member)
	to.StartTLS()
	t.Cleanup(to.Close)
	w.members = transport.NewMembers("sallyport-gateway", transport.MembersOptions{})
	w.route("prod", to)
	o := Options{Index: w, Members: w.members, Hub: &w.hub, Log: &w.log, Clock: w.clock}
	for _, c := range change {
		c(&o)
	}
	w.handler = New(o)
	w.grants(nil, oncall())
	w.server = httptest.NewUnstartedServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if name := r.Header.Get("X-Test-User"); name != "" {
			u := &user.DefaultInfo{Name: name, UID: "uid-of-" + name}
			if groups := r.Header.Get("X-Test-Groups"); groups != "" {
				u.Groups = strings.Split(groups, ",")
			}
			r = r.WithContext(request.WithUser(r.Context(), u))
		}
		r.Header.Del("X-Test-User")
		r.Header.Del("X-Test-Groups")
		w.handler.ServeHTTP(rw, r)
	}))
	w.server.EnableHTTP2 = true
	w.server.StartTLS()
	t.Cleanup(w.server.Close)
	ctx, cancel := context.WithCancel(context.Background())
	running := make(chan struct{})
	go func() {
		defer close(running)
		_ = w.handler.Run(ctx) // it ends with the context
	}()
	t.Cleanup(func() { cancel(); <-running })
	<-w.subscribed
	return w
}

func (w *world) route(cluster string, to *httptest.Server) {
	w.Helper()
	err := w.members.Set(&corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "sallyport-gateway", Name: v1alpha1.RouteNamePrefix + cluster,
			Labels: map[string]string{v1alpha1.ManagedByLabel: v1alpha1.ManagedByValue, v1alpha1.ClusterLabel: cluster},
		},
		Type: v1alpha1.RouteSecretType,
		Data: map[string][]byte{
			v1alpha1.RouteServer: []byte(to.URL), v1alpha1.RouteToken: []byte("impersonator"),
			v1alpha1.RouteCA: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: to.Certificate().Raw}),
		},
	})
	if err != nil {
		w.Fatal(err)
	}
}

// ask as alice, who is in devs and in staff.
func (w *world) ask(method, path string, change ...func(*http.Request)) (*http.Response, string) {
	w.Helper()
	r, err := http.NewRequestWithContext(w.Context(), method, w.server.URL+Prefix+path, http.NoBody)
	if err != nil {
		w.Fatal(err)
	}
	r.Header.Set("X-Test-User", "alice")
	r.Header.Set("X-Test-Groups", "devs,staff,system:authenticated,system:masters")
	for _, c := range change {
		c(r)
	}
	resp, err := w.server.Client().Do(r)
	if err != nil {
		w.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		w.Fatal(err)
	}
	return resp, string(body)
}

// contextDone is one that is done already.
func contextDone() (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx, cancel
}
