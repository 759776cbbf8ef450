package snapshot

import (
	"context"
	"fmt"
	"io"
	"os"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/internal/core/effective"
	"github.com/sallyport-dev/sallyport/internal/core/fleet"
	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
	"github.com/sallyport-dev/sallyport/internal/inventory"
	"github.com/sallyport-dev/sallyport/test/controlplane"
)

const ownNamespace = "sallyport-system"

// hub is a real one, with an Access to it. No controller runs there: the test writes
// what a controller would.
type hub struct {
	*testing.T
	*Access
	plane *controlplane.ControlPlane
	admin client.Client

	mu   sync.Mutex
	cond *sync.Cond
	// given of each index since the last look.
	given []map[string][]string
}

func newHub(t *testing.T, o Options, change ...func(*Access)) *hub {
	t.Helper()
	ctrl.SetLogger(zap.New(zap.WriteTo(io.Discard)))
	h := &hub{T: t, plane: controlplane.ForTest(t, controlplane.Options{}).Hub}
	h.cond = sync.NewCond(&h.mu)
	h.must(h.plane.InstallCRDs(t.Context(), "../../config/crd/bases"))
	scheme, err := Scheme()
	h.must(err)
	h.admin, err = client.New(h.plane.AdminConfig(), client.Options{Scheme: scheme})
	h.must(err)
	for _, name := range []string{ownNamespace, "team"} {
		h.create(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}})
	}
	for _, name := range []string{"a", "b"} {
		h.member(name, "prod")
	}
	h.allow("gateway")
	config, err := h.plane.User("gateway")
	h.must(err)
	o.Namespace, o.MetricsAddr, o.ProbeAddr = ownNamespace, "0", "0"
	mgr, access, err := NewManager(config, o)
	h.must(err)
	h.Access = access
	for _, c := range change {
		c(access)
	}
	access.Subscribe(func(*effective.Index) {
		now := map[string][]string{}
		if !access.lapsed.Load() {
			now = gives(*access.last) // by the goroutine that it belongs to
		}
		h.mu.Lock()
		defer h.mu.Unlock()
		h.given = append(h.given, now)
		h.cond.Broadcast()
	})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- mgr.Start(ctx) }()
	t.Cleanup(func() {
		cancel()
		h.must(<-ended)
	})
	h.eventually("At first there is nothing.", map[string][]string{})
	return h
}

func (h *hub) must(err error) {
	h.Helper()
	if err != nil {
		h.Fatal(err)
	}
}

func (h *hub) create(objects ...client.Object) {
	h.Helper()
	for _, o := range objects {
		h.must(h.admin.Create(h.Context(), o))
	}
}

// member has the fleet know of a cluster, as the controller describes it.
func (h *hub) member(name, env string) {
	h.Helper()
	h.create(inventory.Describe(fleet.New([]fleet.Member{{Name: name, Delivery: fleet.Direct, Labels: map[string]string{"env": env}}}), ownNamespace)[0])
}

// allow a user what rbac.go asks for, and nothing else.
func (h *hub) allow(user string) {
	h.Helper()
	source, err := os.ReadFile("rbac.go")
	h.must(err)
	cluster, own := []rbacv1.PolicyRule{}, []rbacv1.PolicyRule{}
	for _, m := range regexp.MustCompile(`(?m)^// \+kubebuilder:rbac:(\S+)$`).FindAllStringSubmatch(string(source), -1) {
		of := map[string][]string{}
		for pair := range strings.SplitSeq(m[1], ",") {
			key, values, _ := strings.Cut(pair, "=")
			of[key] = strings.Split(strings.Trim(values, `"`), ";")
		}
		for _, verb := range of["verbs"] {
			if !slices.Contains([]string{"get", "list", "watch"}, verb) {
				h.Errorf("an Access writes nothing, and asks for %s", m[1])
			}
		}
		rule := rbacv1.PolicyRule{APIGroups: of["groups"], Resources: of["resources"], Verbs: of["verbs"]}
		if of["namespace"] == nil {
			cluster = append(cluster, rule)
		} else {
			own = append(own, rule)
		}
	}
	meta := metav1.ObjectMeta{Name: user, Namespace: ownNamespace}
	subjects := []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: "User", Name: user}}
	ref := func(kind string) rbacv1.RoleRef {
		return rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: kind, Name: user}
	}
	h.create(
		&rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: user}, Rules: cluster},
		&rbacv1.ClusterRoleBinding{ObjectMeta: metav1.ObjectMeta{Name: user}, RoleRef: ref("ClusterRole"), Subjects: subjects},
		&rbacv1.Role{ObjectMeta: meta, Rules: own},
		&rbacv1.RoleBinding{ObjectMeta: meta, RoleRef: ref("Role"), Subjects: subjects},
	)
}

// until waits for an index that gives something. It returns what that and the indexes
// before it gave, since the last time that anything was waited for; nil if it took too
// long.
func (h *hub) until(is func(given map[string][]string) bool) []map[string][]string {
	expired := false
	timer := time.AfterFunc(time.Minute, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		expired = true
		h.cond.Broadcast()
	})
	defer timer.Stop()
	h.mu.Lock()
	defer h.mu.Unlock()
	for {
		if i := slices.IndexFunc(h.given, is); i >= 0 {
			var seen []map[string][]string
			seen, h.given = h.given[:i+1], h.given[i+1:]
			return seen
		}
		if expired {
			return nil
		}
		h.cond.Wait()
	}
}

// eventually waits for an index that gives just that.
func (h *hub) eventually(reason string, want map[string][]string) {
	h.Helper()
	if h.until(func(given map[string][]string) bool {
		return len(given) == 0 && len(want) == 0 || cmp.Equal(given, want)
	}) == nil {
		h.Fatalf("%s None of the indexes gives %v: %v", reason, want, h.given)
	}
}

// adopted is a grant to alice as the controller would have adopted it.
func adopted(name string, change ...func(*v1alpha1.AccessGrant)) *v1alpha1.AccessGrant {
	g := &v1alpha1.AccessGrant{
		ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: name, Finalizers: []string{v1alpha1.AccessGrantFinalizer}},
		Spec:       *aGrant(name, nil).Spec,
	}
	g.Spec.Clusters = v1alpha1.ClusterSelection{Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"env": "prod"}}}
	for _, c := range change {
		c(g)
	}
	return g
}

func to(user string) func(*v1alpha1.AccessGrant) {
	return func(g *v1alpha1.AccessGrant) { g.Spec.Subjects[0].Name = user }
}

// release lets a grant that is being deleted go.
func (h *hub) release(g *v1alpha1.AccessGrant) {
	h.Helper()
	h.must(h.admin.Get(h.Context(), client.ObjectKeyFromObject(g), g))
	g.Finalizers = nil
	h.must(h.admin.Update(h.Context(), g))
}

var nothing = map[string][]string{}

// notToAlice refuses whatever is for alice, in a grant and in a request.
func notToAlice() *v1alpha1.Guardrail {
	return &v1alpha1.Guardrail{ObjectMeta: metav1.ObjectMeta{Name: "not-to-alice"}, Spec: v1alpha1.GuardrailSpec{
		Match:  &v1alpha1.GuardrailMatch{Subjects: []v1alpha1.SubjectPattern{{Kind: v1alpha1.UserSubject, Name: "alice"}}},
		Points: []v1alpha1.GuardrailPoint{v1alpha1.PointCompile, v1alpha1.PointRequest},
		CEL:    &v1alpha1.CELPolicy{Validations: []v1alpha1.CELValidation{{Expression: "false", Message: "not to alice"}}},
	}}
}

// TestAccess: the index follows the hub, with the rights that rbac.go asks for.
func TestAccess(t *testing.T) {
	h := newHub(t, Options{})
	if err := h.Ready(nil); err != nil {
		t.Error(err)
	}
	began := time.Now()
	g := adopted("g")
	h.create(g)
	h.eventually("A grant comes.", map[string][]string{"alice": {"a", "b"}})
	t.Logf("from the grant to the index: %s", time.Since(began).Round(100*time.Microsecond))

	g.Spec.Subjects[0].Name = "bob"
	h.must(h.admin.Update(t.Context(), g))
	h.eventually("It is changed.", map[string][]string{"bob": {"a", "b"}})

	h.member("c", "prod")
	h.eventually("A member comes.", map[string][]string{"bob": {"a", "b", "c"}})
	gone := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: ownNamespace, Name: "member-c"}}
	h.must(h.admin.Delete(t.Context(), gone))
	h.eventually("And goes.", map[string][]string{"bob": {"a", "b"}})

	h.must(h.admin.Delete(t.Context(), g))
	h.eventually("S27: it is being deleted, and still there.", nothing)
	h.release(g)

	end := metav1.NewTime(time.Now().Add(3 * time.Second).Truncate(time.Second))
	short := adopted("short", func(g *v1alpha1.AccessGrant) { g.Spec.Validity = &v1alpha1.Validity{NotAfter: &end} })
	h.create(short)
	h.eventually("One comes for a while.", map[string][]string{"alice": {"a", "b"}})
	h.eventually("Nothing tells of its end but the time.", nothing)
	if now := time.Now(); now.Before(end.Time) {
		t.Errorf("it ended %s early", end.Sub(now))
	}

	role := &v1alpha1.AccessRole{ObjectMeta: metav1.ObjectMeta{Name: "r"}, Spec: v1alpha1.AccessRoleSpec{
		Rules: []v1alpha1.PolicyRule{{APIGroups: []string{""}, Resources: []string{"pods"}, Verbs: []string{"get"}}},
	}}
	h.create(adopted("by-role", func(g *v1alpha1.AccessGrant) {
		g.Spec.Access = []v1alpha1.AccessEntry{{RoleRef: &v1alpha1.RoleReference{Kind: v1alpha1.AccessRoleRef, Name: "r"}}}
	}))
	h.create(role)
	h.eventually("Its role comes.", map[string][]string{"alice": {"a", "b"}})
	h.must(h.admin.Delete(t.Context(), role))
	h.eventually("Its role goes.", nothing)
	h.create(adopted("other", to("carol")))
	h.eventually("Another one stands.", map[string][]string{"carol": {"a", "b"}})

	b := &v1alpha1.GuardrailBundle{ObjectMeta: metav1.ObjectMeta{Name: "corp"}, Spec: v1alpha1.GuardrailBundleSpec{
		Source: v1alpha1.BundleSource{Directory: &v1alpha1.DirectorySource{Path: "/nowhere"}}, Unsigned: "Allowed", Interval: metav1.Duration{Duration: time.Minute},
	}}
	h.create(b)
	h.eventually("S16: a bundle whose archive is not to be had leaves nothing that does not stand already.", nothing)
	h.must(h.admin.Delete(t.Context(), b))
	h.eventually("It is withdrawn.", map[string][]string{"carol": {"a", "b"}})
}

// TestGuardrailFirst: a grant never counts without the guardrail that was there before
// it, nor after it was deleted without the one that went after it, whatever else makes
// indexes meanwhile (S26).
func TestGuardrailFirst(t *testing.T) {
	h := newHub(t, Options{}, func(a *Access) { a.spacing = 0 })
	ctx, stop := context.WithCancel(t.Context())
	var others sync.WaitGroup
	others.Go(func() {
		for ctx.Err() == nil {
			h.changed()
			runtime.Gosched()
		}
	})
	// What is decided is asked all the time as well, not only of each index.
	var asked, allowed int
	others.Go(func() {
		for alice := (guardrail.User{Name: "alice"}); ctx.Err() == nil; asked++ {
			d := h.Current().Decide(&effective.Request{
				User: alice, Cluster: "a", Verb: "get", ResourceRequest: true, Resource: "pods", Namespace: "n", Name: "p", At: time.Now(),
			})
			if d.Verdict >= effective.OnMember || len(h.Current().Reaches(&alice, time.Now())) > 0 {
				allowed++
			}
		}
	})
	indexes := 0
	for n := range 20 {
		guardrail, grant, marker := notToAlice(), adopted("g"), fmt.Sprintf("marker-%d", n)
		h.create(guardrail, grant, adopted(marker, to(marker)))
		seen := h.until(func(given map[string][]string) bool { return given[marker] != nil })
		if seen == nil {
			t.Fatal("the index does not follow the hub")
		}
		h.must(h.admin.Delete(ctx, grant))
		h.release(grant)
		h.must(h.admin.Delete(ctx, guardrail))
		marker += "-gone"
		h.create(adopted(marker, to(marker)))
		seen = append(seen, h.until(func(given map[string][]string) bool { return given[marker] != nil })...)
		for _, given := range seen {
			if given["alice"] != nil {
				t.Errorf("S26: in round %d there was an index by which alice had access", n)
			}
		}
		indexes += len(seen)
	}
	stop()
	others.Wait()
	t.Logf("%d indexes, %d questions", indexes, asked)
	if allowed > 0 {
		t.Errorf("S26: %d of %d times alice had access", allowed, asked)
	}
}

// TestHubRestart: an Access goes on with what it knows while its hub is down, and
// follows it again afterwards (S16).
func TestHubRestart(t *testing.T) {
	h := newHub(t, Options{})
	h.create(adopted("g"))
	h.eventually("A grant stands.", map[string][]string{"alice": {"a", "b"}})
	before := h.Current()
	h.must(h.plane.Stop())
	h.changed()
	h.stirred()
	if h.Current() != before || h.Ready(nil) != nil {
		t.Error("S16: a hub that is down for a moment takes what is granted, or readiness")
	}
	h.must(h.plane.Start(t.Context()))
	h.create(notToAlice())
	h.eventually("S16: a guardrail that came with the restart is in force.", nothing)
	h.create(adopted("other", to("bob")))
	h.eventually("And grants are followed.", map[string][]string{"bob": {"a", "b"}})
}

// cutOff is a reader of the hub that can be cut off, alone: the watches go on.
type cutOff struct {
	client.Reader
	cut *atomic.Bool
}

func (c cutOff) List(ctx context.Context, list client.ObjectList, o ...client.ListOption) error {
	if c.cut.Load() {
		return errDown
	}
	return c.Reader.List(ctx, list, o...)
}

// TestCutOff: while the guardrails cannot be read, revocations are seen and grants are
// not; when that has lasted for MaxStaleness everything is denied, until they can be.
func TestCutOff(t *testing.T) {
	var cut atomic.Bool
	h := newHub(t, Options{MaxStaleness: 5 * time.Second, WrapClient: func(r client.Reader) client.Reader { return cutOff{r, &cut} }})
	g := adopted("g")
	h.create(g, adopted("other", to("bob")))
	h.eventually("Two grants stand.", map[string][]string{"alice": {"a", "b"}, "bob": {"a", "b"}})
	cut.Store(true)
	h.create(adopted("new", to("carol")))
	h.must(h.admin.Delete(t.Context(), g))
	h.eventually("S16: a revocation is seen, a new grant is not.", map[string][]string{"bob": {"a", "b"}})
	h.eventually("Then everything is denied.", nothing)
	if h.Ready(nil) == nil {
		t.Error("S16: ready, and it knows nothing")
	}
	cut.Store(false)
	h.eventually("It can be read again.", map[string][]string{"bob": {"a", "b"}, "carol": {"a", "b"}})
	if err := h.Ready(nil); err != nil {
		t.Error(err)
	}
}
