package transport

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/test/controlplane"
)

// TestMembersWatch: routes follow the Secrets of a real hub, and lead to a real member,
// which is answered for at once while it is down, and comes back by itself.
func TestMembersWatch(t *testing.T) {
	f := controlplane.ForTest(t, controlplane.Options{Members: []string{"eu-1"}})
	member := f.Member("eu-1")
	hub, err := client.New(f.Hub.AdminConfig(), client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	const namespace = "sallyport-gateway"
	if err := hub.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}); err != nil {
		t.Fatal(err)
	}
	secrets, err := cache.New(f.Hub.AdminConfig(), cache.Options{DefaultNamespaces: map[string]cache.Config{namespace: {}}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- secrets.Start(ctx) }()
	defer func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	registry := prometheus.NewPedanticRegistry()
	metrics, err := NewMetrics(registry)
	if err != nil {
		t.Fatal(err)
	}
	members := NewMembers(namespace, MembersOptions{Metrics: metrics})
	refused := make(chan error, 4)
	synced, err := members.Watch(ctx, secrets, func(err error) { refused <- err })
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the cache is there", synced)
	answers := func() error {
		r, err := members.Route("eu-1")
		if err != nil {
			return err
		}
		return send(t, r)
	}
	if err := answers(); !isUnavailable(err, "has no route") {
		t.Errorf("without a Secret: %v", err)
	}

	secret := impersonated(t, member)
	if err := hub.Create(t.Context(), secret); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the member is reached", func() bool { return answers() == nil })
	before := route(t, members, "eu-1")
	if open := testutil.ToFloat64(metrics.open); open != 1 {
		t.Errorf("%v connections are open, want 1", open)
	}
	secret.Annotations = map[string]string{v1alpha1.RouteExpiresAnnotation: "2000-01-01T00:00:00Z"}
	if err := hub.Update(t.Context(), secret); err != nil {
		t.Fatal(err)
	}
	eventually(t, "its credential has expired", func() bool { return isUnavailable(answers(), "expired") })
	delete(secret.Annotations, v1alpha1.RouteExpiresAnnotation)
	if err := hub.Update(t.Context(), secret); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is renewed", func() bool { return answers() == nil })
	if route(t, members, "eu-1") != before {
		t.Error("a renewed credential makes another route")
	}

	if err := member.Stop(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a member that is down is known to be", func() bool { return isUnavailable(answers(), "does not answer") })
	if failures := testutil.ToFloat64(metrics.failures); failures == 0 {
		t.Error("no failure is counted")
	}
	if err := member.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is back", func() bool { return answers() == nil })

	secret.Data[v1alpha1.RouteServer] = []byte("http://plain")
	if err := hub.Update(t.Context(), secret); err != nil {
		t.Fatal(err)
	}
	if err := <-refused; !strings.Contains(err.Error(), "route-eu-1") {
		t.Errorf("a Secret that cannot be used: %v", err)
	}
	if err := answers(); !isUnavailable(err, "has no route") {
		t.Errorf("by a Secret that cannot be used: %v", err)
	}
	secret.Data[v1alpha1.RouteServer] = []byte(member.URL())
	if err := hub.Update(t.Context(), secret); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the member is reached again", func() bool { return answers() == nil })
	if err := hub.Delete(t.Context(), secret); err != nil {
		t.Fatal(err)
	}
	eventually(t, "there is no route without its Secret", func() bool { return isUnavailable(answers(), "has no route") })
	if n := testutil.CollectAndCount(registry); n != 0 {
		t.Errorf("%d metrics of a member without a route are kept", n)
	}
}

func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	err := wait.PollUntilContextTimeout(t.Context(), 20*time.Millisecond, time.Minute, true, func(context.Context) (bool, error) {
		return condition(), nil
	})
	if err != nil {
		t.Fatalf("waiting until %s: %v", what, err)
	}
}
