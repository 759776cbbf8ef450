package e2e

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/internal/bundle"
	"github.com/sallyport-dev/sallyport/internal/core/effective"
	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
	"github.com/sallyport-dev/sallyport/internal/snapshot"
)

// decider is one replica of what decides on requests.
type decider struct {
	*world
	*snapshot.Access
}

// decider runs until the returned function is called, or the test ends.
func (w *world) decider() (d *decider, stop func()) {
	w.Helper()
	mgr, access, err := snapshot.NewManager(w.fleet.Hub.AdminConfig(), snapshot.Options{Namespace: namespace, MetricsAddr: "0", ProbeAddr: "0"})
	w.must(err)
	ctx, cancel := context.WithCancel(w.ctx)
	done := make(chan error, 1)
	go func() { done <- mgr.Start(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			w.Errorf("what decides stopped with: %v", err)
		}
	})
	w.Cleanup(stop)
	return &decider{w, access}, stop
}

// ask whether somebody may get an object of a member.
func (d *decider) ask(member string, u who, resource, ns string) effective.Decision {
	return d.Current().Decide(&effective.Request{
		User: guardrail.User{Name: u.name, Groups: u.groups}, Cluster: member, Verb: "get", ResourceRequest: true,
		APIVersion: "v1", Resource: resource, Namespace: ns, Name: "x", At: time.Now(),
	})
}

// decides waits for a verdict on getting an object in namespace payments.
func (d *decider) decides(member string, u who, resource string, want effective.Verdict) {
	d.Helper()
	d.eventually(fmt.Sprintf("%s gets %s on %s: %s", u.name, resource, member, want), func() string {
		if got := d.ask(member, u, resource, "payments"); got.Verdict != want {
			return fmt.Sprintf("%s %v", got.Verdict, got.Reasons)
		}
		return ""
	})
}

// TestDecisionsFollow: what is decided is what the controller brings to the members.
func TestDecisionsFollow(t *testing.T) {
	w := newWorld(t, "edge-1")
	w.byKubeconfig("edge-1", prod)
	w.create(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "payments"}}, podReader())
	w.controller()
	d, _ := w.decider()

	w.create(oncall())
	d.decides("edge-1", alice, "pods", effective.Allowed)
	w.ready("payments", "oncall", "True Applied")
	for _, c := range []struct {
		reason   string
		who      who
		resource string
		ns       string
	}{
		{"Another namespace.", alice, "pods", "default"},
		{"Another resource.", alice, "secrets", "payments"},
		{"Somebody else.", bob, "pods", "payments"},
	} {
		if got := d.ask("edge-1", c.who, c.resource, c.ns); got.Verdict != effective.NotGranted || w.can("edge-1", c.who, "get", c.resource, c.ns) {
			t.Errorf("%s Decided %s.", c.reason, got.Verdict)
		}
	}
	because := d.ask("edge-1", alice, "pods", "payments").Because
	if len(because) != 1 || because[0].Grant.Key() != "payments/oncall" || because[0].Role != "AccessRole pod-reader" {
		t.Errorf("because of %+v", because)
	}

	// A suspended grant holds what stands, whatever it says now.
	w.change("payments", "oncall", func(g *v1alpha1.AccessGrant) {
		g.Spec.Suspend, g.Spec.Subjects = true, []v1alpha1.Subject{userSubject("carol")}
	})
	w.ready("payments", "oncall", "True Suspended")
	d.decides("edge-1", alice, "pods", effective.Allowed)
	d.decides("edge-1", who{"carol", nil}, "pods", effective.NotGranted)
	if !w.can("edge-1", alice, "get", "pods", "payments") {
		t.Error("the member does not hold it")
	}

	// A guardrail takes it, there and here.
	refuse := &v1alpha1.Guardrail{ObjectMeta: metav1.ObjectMeta{Name: "no"}, Spec: v1alpha1.GuardrailSpec{
		CEL: &v1alpha1.CELPolicy{Validations: []v1alpha1.CELValidation{{Expression: "false", Message: "not today"}}},
	}}
	w.create(refuse)
	d.decides("edge-1", alice, "pods", effective.NotGranted)
	w.waitCan(false, "edge-1", alice, "get", "pods", "payments")
}

// TestRequestsUnderLoad (S16): while requests are decided all the time, the archive of a
// bundle is corrupted and taken away, and what decides is stopped and started: what the
// bundle refuses is never let through, and nobody is ready without it.
func TestRequestsUnderLoad(t *testing.T) {
	w := guardedWorld(t)
	stopController := w.controller()
	revision, err := bundle.ParseRevision("1")
	w.must(err)
	archive, err := bundle.Build(bundle.Manifest{Revision: revision, Guardrails: map[string]v1alpha1.GuardrailSpec{"no-secrets": {
		Points: []v1alpha1.GuardrailPoint{v1alpha1.PointRequest},
		Rego: &v1alpha1.RegoPolicy{Module: `package guardrails.no_secrets

deny contains {"message": "Secrets are not read by people"} if input.request.resource == "secrets"
`},
	}}})
	w.must(err)
	w.create(
		&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "baseline"}, BinaryData: map[string][]byte{"bundle.tar.gz": archive}},
		&v1alpha1.GuardrailBundle{ObjectMeta: metav1.ObjectMeta{Name: "baseline"}, Spec: v1alpha1.GuardrailBundleSpec{
			Source:   v1alpha1.BundleSource{ConfigMap: &v1alpha1.ConfigMapSource{Namespace: namespace, Name: "baseline"}},
			Interval: metav1.Duration{Duration: time.Hour}, Unsigned: "Allowed",
		}},
		reading("secrets", "secrets"), reading("pods", "pods"),
	)
	first, stopFirst := w.decider()
	first.decides("m1", alice, "pods", effective.Allowed)
	first.decides("m1", alice, "secrets", effective.Denied)
	if got := first.ask("m1", alice, "secrets", "payments").Reasons; len(got) != 1 || !strings.Contains(got[0].Message, "not read by people") {
		t.Errorf("refused by %+v", got)
	}

	var current atomic.Pointer[decider]
	current.Store(first)
	ctx, cancel := context.WithCancel(w.ctx)
	var asking sync.WaitGroup
	var asked, let atomic.Int64
	for range 2 {
		asking.Go(func() {
			for ; ctx.Err() == nil; asked.Add(1) {
				d := current.Load()
				if d.ask("m1", alice, "secrets", "payments").Verdict >= effective.OnMember {
					let.Add(1)
				}
			}
		})
	}
	stopController() // which would put it right
	kept := &corev1.ConfigMap{}
	key := client.ObjectKey{Namespace: namespace, Name: bundle.ArchiveName("baseline", bundle.Digest(archive))}
	w.must(w.hub.Get(w.ctx, key, kept))
	replace := func(content []byte) {
		w.Helper()
		w.must(client.IgnoreNotFound(w.hub.Delete(w.ctx, kept)))
		now := kept.DeepCopy()
		now.ResourceVersion, now.UID, now.BinaryData = "", "", map[string][]byte{bundle.ArchiveKey: content}
		w.must(w.hub.Create(w.ctx, now))
	}
	corrupt := bytes.Clone(archive)
	corrupt[len(corrupt)/2] ^= 0xff
	replace(corrupt)
	stopFirst()
	second, stopSecond := w.decider()
	current.Store(second)
	w.eventually("the corrupt archive stalls what decides", func() string {
		if second.Ready(nil) != nil {
			return "nothing is known yet"
		}
		return ""
	})
	// A guardrail that cannot be evaluated refuses what it is asked about: all of it.
	second.decides("m1", alice, "pods", effective.Denied)
	w.must(w.hub.Delete(w.ctx, kept))
	stopSecond()
	third, _ := w.decider()
	current.Store(third)
	third.decides("m1", alice, "pods", effective.Denied)
	replace(archive)
	third.decides("m1", alice, "pods", effective.Allowed)
	cancel()
	asking.Wait()
	t.Logf("%d requests were decided", asked.Load())
	if n := let.Load(); n > 0 {
		t.Errorf("S16: %d requests were let through that the bundle refuses", n)
	}
}
