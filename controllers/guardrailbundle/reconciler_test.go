package guardrailbundle_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/fluxcd/pkg/apis/meta"
	"github.com/fluxcd/pkg/runtime/conditions"
	sourcev1 "github.com/fluxcd/source-controller/api/v1"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/record"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/controllers/guardrailbundle"
	"github.com/sallyport-dev/sallyport/internal/bundle"
	"github.com/sallyport-dev/sallyport/test/controlplane"
)

const namespace = "sallyport-system"

// world is a hub, and a server of artifacts.
type world struct {
	client client.WithWatch
	server *httptest.Server
	keys   keys

	mu    sync.Mutex
	paths map[string]http.HandlerFunc
}

type keys struct{ private, public string }

func newKeys(t *testing.T) keys {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return keys{
		string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})),
		string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public})),
	}
}

func newWorld(t *testing.T) *world {
	t.Helper()
	hub := controlplane.ForTest(t, controlplane.Options{}).Hub
	if err := hub.InstallCRDs(t.Context(), "../../config/crd/bases", "../../test/controlplane/crds"); err != nil {
		t.Fatal(err)
	}
	scheme := runtime.NewScheme()
	if err := errors.Join(clientgoscheme.AddToScheme(scheme), v1alpha1.AddToScheme(scheme)); err != nil {
		t.Fatal(err)
	}
	config := hub.AdminConfig()
	config.QPS = -1
	c, err := client.NewWithWatch(config, client.Options{Scheme: scheme})
	if err != nil {
		t.Fatal(err)
	}
	w := &world{client: c, keys: newKeys(t), paths: map[string]http.HandlerFunc{}}
	w.server = httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w.mu.Lock()
		serve := w.paths[r.URL.Path]
		w.mu.Unlock()
		if serve == nil {
			http.NotFound(rw, r)
			return
		}
		serve(rw, r)
	}))
	t.Cleanup(w.server.Close)
	must(t, c.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}))
	return w
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// built is a bundle with one guardrail.
func built(t *testing.T, revision, description string) []byte {
	t.Helper()
	r, err := bundle.ParseRevision(revision)
	must(t, err)
	archive, err := bundle.Build(bundle.Manifest{Name: "test", Description: description, Revision: r, Guardrails: map[string]v1alpha1.GuardrailSpec{
		"tenants": {Ceiling: &v1alpha1.Ceiling{Rules: []v1alpha1.PolicyRule{{APIGroups: []string{""}, Resources: []string{"pods"}, Verbs: []string{"get"}}}}},
	}})
	must(t, err)
	return archive
}

func (w *world) signed(t *testing.T, revision string) []byte {
	t.Helper()
	return w.sign(t, built(t, revision, ""))
}

func (w *world) sign(t *testing.T, archive []byte) []byte {
	t.Helper()
	out, err := bundle.Sign(archive, bundle.Signer{Key: w.keys.private, KeyID: "release", Algorithm: "ES256"})
	must(t, err)
	return out
}

// scene is one bundle in the world, with its source and its controller.
type scene struct {
	*world
	t       *testing.T
	name    string
	now     time.Time
	client  client.Client // of the controller
	metrics *prometheus.Registry
	events  *record.FakeRecorder

	r *guardrailbundle.Reconciler
}

func (w *world) scene(t *testing.T, spec func(*v1alpha1.GuardrailBundleSpec)) *scene {
	t.Helper()
	s := &scene{
		world: w, t: t, name: strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(t.Name(), "TestBundles/"), "/", "-")),
		now: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), client: w.client,
	}
	s.restart()
	b := &v1alpha1.GuardrailBundle{ObjectMeta: metav1.ObjectMeta{Name: s.name}, Spec: v1alpha1.GuardrailBundleSpec{
		Source:       v1alpha1.BundleSource{Artifact: &v1alpha1.ArtifactSource{Kind: "GitRepository", Namespace: "default", Name: s.name}},
		Interval:     metav1.Duration{Duration: time.Minute},
		Verification: &v1alpha1.BundleVerification{Keys: []v1alpha1.BundleKey{{ID: "release", Algorithm: "ES256", PublicKey: w.keys.public}}},
	}}
	if spec != nil {
		spec(&b.Spec)
	}
	must(t, w.client.Create(t.Context(), b))
	return s
}

// restart the controller: it remembers nothing.
func (s *scene) restart() {
	s.metrics, s.events = prometheus.NewRegistry(), record.NewFakeRecorder(100)
	s.r = &guardrailbundle.Reconciler{
		Client: s.client, Live: s.client, Namespace: namespace, Events: s.events, Now: func() time.Time { return s.now },
	}
	must(s.t, guardrailbundle.Register(s.r, s.metrics))
}

// serve content at a new path, as the artifact of the bundle's source. The digest is
// that of what is to be served.
func (s *scene) serve(content []byte, how func(http.ResponseWriter, *http.Request)) {
	s.t.Helper()
	digest := bundle.Digest(content)
	path := "/" + s.name + "/" + strings.TrimPrefix(digest, "sha256:") + ".tar.gz"
	if how == nil {
		how = func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(content) }
	}
	s.mu.Lock()
	s.paths[path] = how
	s.mu.Unlock()
	s.artifact(meta.Artifact{URL: s.server.URL + path, Digest: digest, Path: path, Revision: "main@" + digest, LastUpdateTime: metav1.NewTime(s.now)})
}

func (s *scene) artifact(a meta.Artifact) {
	s.t.Helper()
	source := &unstructured.Unstructured{}
	source.SetGroupVersionKind(sourcev1.GroupVersion.WithKind("GitRepository"))
	source.SetNamespace("default")
	source.SetName(s.name)
	must(s.t, unstructured.SetNestedField(source.Object, map[string]any{"interval": "1h", "url": "https://git.invalid/x"}, "spec"))
	must(s.t, client.IgnoreAlreadyExists(s.world.client.Create(s.t.Context(), source)))
	must(s.t, s.world.client.Get(s.t.Context(), client.ObjectKeyFromObject(source), source))
	raw, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&struct {
		Artifact meta.Artifact `json:"artifact"`
	}{a})
	must(s.t, err)
	source.Object["status"] = raw
	must(s.t, s.world.client.Status().Update(s.t.Context(), source))
}

// look is one pass of the controller.
func (s *scene) look() (ctrl.Result, error) {
	s.t.Helper()
	return s.r.Reconcile(s.t.Context(), ctrl.Request{NamespacedName: client.ObjectKey{Name: s.name}})
}

func (s *scene) mustLook() ctrl.Result {
	s.t.Helper()
	result, err := s.look()
	must(s.t, err)
	return result
}

func (s *scene) bundle() *v1alpha1.GuardrailBundle {
	s.t.Helper()
	var b v1alpha1.GuardrailBundle
	must(s.t, s.world.client.Get(s.t.Context(), client.ObjectKey{Name: s.name}, &b))
	return &b
}

func (s *scene) change(how func(*v1alpha1.GuardrailBundle)) {
	s.t.Helper()
	b := s.bundle()
	how(b)
	must(s.t, s.world.client.Update(s.t.Context(), b))
}

func (s *scene) archives() []corev1.ConfigMap {
	s.t.Helper()
	var list corev1.ConfigMapList
	must(s.t, s.world.client.List(s.t.Context(), &list, client.InNamespace(namespace), client.MatchingLabels{guardrailbundle.BundleLabel: s.name}))
	return list.Items
}

// inForce is what those who judge make of it: the revision, or why there is none.
func (s *scene) inForce() string {
	s.t.Helper()
	b := s.bundle()
	var archive []byte
	if b.Status.Active != nil {
		var kept corev1.ConfigMap
		key := client.ObjectKey{Namespace: namespace, Name: bundle.ArchiveName(s.name, b.Status.Active.Digest)}
		must(s.t, client.IgnoreNotFound(s.world.client.Get(s.t.Context(), key, &kept)))
		archive = kept.BinaryData[bundle.ArchiveKey]
	}
	guardrails := bundle.InForce(b, archive)
	if len(guardrails) != 1 {
		s.t.Fatalf("%d guardrails in force, want 1", len(guardrails))
	}
	if g := guardrails[0]; g.Check == nil {
		return "stalled: " + g.Err.Error()
	} else if g.Name != s.name+"/tenants" {
		s.t.Fatalf("guardrail %q in force", g.Name)
	}
	return b.Status.Active.Revision
}

// expect a reason, something in the message, and what is in force.
func (s *scene) expect(what, reason, message, inForce string) {
	s.t.Helper()
	b := s.bundle()
	ready := conditions.Get(b, v1alpha1.ConditionReady)
	if ready == nil {
		s.t.Fatalf("%s: there is no Ready", what)
	}
	if ready.Reason != reason || !strings.Contains(ready.Message, message) || (ready.Status == metav1.ConditionTrue) != (reason == v1alpha1.ReasonInForce || reason == v1alpha1.ReasonSuspended) {
		s.t.Errorf("%s: Ready is %s %s %q, want %s with %q", what, ready.Status, ready.Reason, ready.Message, reason, message)
	}
	if got := s.inForce(); got != inForce {
		s.t.Errorf("%s: in force is %q, want %q", what, got, inForce)
	}
	if b.Status.ObservedGeneration != b.Generation {
		s.t.Errorf("%s: observed generation %d of %d", what, b.Status.ObservedGeneration, b.Generation)
	}
}

func (s *scene) metric(name, outcome string) float64 {
	s.t.Helper()
	families, err := s.metrics.Gather()
	must(s.t, err)
	for _, f := range families {
		for _, m := range f.GetMetric() {
			found := outcome == ""
			for _, l := range m.GetLabel() {
				found = found || l.GetName() == "outcome" && l.GetValue() == outcome
			}
			if f.GetName() == name && found {
				return m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return 0
}

func TestBundles(t *testing.T) {
	w := newWorld(t)
	t.Run("Refused", func(t *testing.T) { testRefused(t, w) })
	t.Run("Accepted", func(t *testing.T) { testAccepted(t, w) })
	t.Run("Stopped", func(t *testing.T) { testStopped(t, w) })
	t.Run("Lost", func(t *testing.T) { testLost(t, w) })
	t.Run("Sources", func(t *testing.T) { testSources(t, w) })
	t.Run("Life", func(t *testing.T) { testLife(t, w) })
}

// testRefused: S25 and S16. What is not to be, and what cannot be had, leaves the
// last good bundle in force, and so it stays when the controller starts anew.
func testRefused(t *testing.T, w *world) {
	other := newKeys(t)
	tampered := func(s *scene) []byte {
		raw := s.signed(s.t, "43")
		return rewrite(s.t, raw, func(f map[string][]byte) {
			f["data.json"] = []byte(strings.Replace(string(f["data.json"]), `"get"`, `"*"`, 1))
		})
	}
	tests := map[string]struct {
		reason          string
		then            func(*scene)
		because, saying string
	}{
		"Older": {"An older bundle, signed in its time, is not brought back.",
			func(s *scene) { s.serve(s.signed(s.t, "41"), nil) }, v1alpha1.ReasonRollback, "revision 41 is older than revision 42"},
		"SameRevision": {"Which of two bundles of one revision is newer nobody can tell.",
			func(s *scene) { s.serve(s.sign(s.t, built(s.t, "42+again", "other")), nil) }, v1alpha1.ReasonRollback, "has other content"},
		"NoRevision": {"A commit is no number.",
			func(s *scene) {
				s.serve(s.sign(s.t, rewrite(s.t, built(s.t, "43", ""), func(f map[string][]byte) {
					f[".manifest"] = []byte(strings.Replace(string(f[".manifest"]), `"43"`, `"4f2c1e"`, 1))
				})), nil)
			}, v1alpha1.ReasonInvalid, `revision "4f2c1e" does not begin with a number`},
		"Tampered": {"A value was changed after it was signed.",
			func(s *scene) { s.serve(tampered(s), nil) }, v1alpha1.ReasonVerificationFailed, "is not what was signed"},
		"Unsigned": {"Nobody signed it.",
			func(s *scene) { s.serve(built(s.t, "43", ""), nil) }, v1alpha1.ReasonVerificationFailed, "is not signed"},
		"UnknownKey": {"Somebody else signed it.",
			func(s *scene) {
				signed, err := bundle.Sign(built(s.t, "43", ""), bundle.Signer{Key: other.private, KeyID: "theirs", Algorithm: "ES256"})
				must(s.t, err)
				s.serve(signed, nil)
			}, v1alpha1.ReasonVerificationFailed, `the key "theirs"`},
		"SameKeyID": {"Somebody else signed it, and says otherwise.",
			func(s *scene) {
				signed, err := bundle.Sign(built(s.t, "43", ""), bundle.Signer{Key: other.private, KeyID: "release", Algorithm: "ES256"})
				must(s.t, err)
				s.serve(signed, nil)
			}, v1alpha1.ReasonVerificationFailed, `is not signed with the key "release"`},
		"Delta": {"A delta bundle cannot be signed.",
			func(s *scene) {
				s.serve(rewrite(s.t, built(s.t, "43", ""), func(f map[string][]byte) { f["patch.json"] = []byte(`{"data":[]}`) }), nil)
			}, v1alpha1.ReasonInvalid, "is a delta bundle"},
		"DoesNotCompile": {"A guardrail of it is none.",
			func(s *scene) {
				s.serve(s.sign(s.t, rewrite(s.t, built(s.t, "43", ""), func(f map[string][]byte) {
					f["data.json"] = []byte(`{"sallyport":{"guardrails":{"good":{"ceiling":{}},"bad":{"cel":{"validations":[{"expression":"input.nothing +"}]}}}}}`)
				})), nil)
			}, v1alpha1.ReasonInvalid, "bad: "},
		"Pinned": {"It is not the one that is asked for.",
			func(s *scene) {
				s.change(func(b *v1alpha1.GuardrailBundle) { b.Spec.Digest = "sha256:" + strings.Repeat("0", 64) })
			}, v1alpha1.ReasonVerificationFailed, "that spec.digest asks for"},
		"Corrupt": {"What is served is not what the source says.",
			func(s *scene) {
				raw := s.signed(s.t, "43")
				s.serve(raw, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(append(raw[:len(raw):len(raw)], 0)) })
			}, v1alpha1.ReasonFetchFailed, "its digest is sha256:"},
		"CutOff": {"Half of it is served.",
			func(s *scene) {
				raw := s.signed(s.t, "43")
				s.serve(raw, func(w http.ResponseWriter, _ *http.Request) {
					w.Header().Set("Content-Length", fmt.Sprint(len(raw)))
					_, _ = w.Write(raw[:len(raw)/2])
				})
			}, v1alpha1.ReasonFetchFailed, "it ends too early"},
		"Late": {"The server takes its time.",
			func(s *scene) {
				s.r.Timeout = 20 * time.Millisecond
				s.serve(s.signed(s.t, "43"), func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
			}, v1alpha1.ReasonFetchFailed, "it took longer than"},
		"Missing": {"The server has lost it.",
			func(s *scene) { s.serve(s.signed(s.t, "43"), http.NotFound) }, v1alpha1.ReasonFetchFailed, "the server says 404 Not Found"},
		"Down": {"The server is gone.",
			func(s *scene) {
				s.artifact(meta.Artifact{URL: "http://127.0.0.1:1/x", Digest: "sha256:00", Revision: "r", LastUpdateTime: metav1.NewTime(s.now)})
			}, v1alpha1.ReasonFetchFailed, "the server cannot be reached"},
		"Moved": {"The server sends elsewhere.",
			func(s *scene) {
				s.serve(s.signed(s.t, "43"), func(w http.ResponseWriter, r *http.Request) {
					http.Redirect(w, r, "http://localhost:1"+r.URL.Path, http.StatusFound)
				})
			}, v1alpha1.ReasonFetchFailed, "redirected to another server"},
		"File": {"The URL is that of a file.",
			func(s *scene) {
				s.artifact(meta.Artifact{URL: "file://localhost/etc/passwd", Digest: "sha256:00", Revision: "r", LastUpdateTime: metav1.NewTime(s.now)})
			}, v1alpha1.ReasonFetchFailed, "neither http nor https"},
		"Large": {"It is more than it may be.",
			func(s *scene) { s.serve(make([]byte, bundle.MaxArchive+1), nil) }, v1alpha1.ReasonFetchFailed, "it has more than 716800 bytes"},
		"NoArtifact": {"The source has nothing yet.",
			func(s *scene) {
				s.change(func(b *v1alpha1.GuardrailBundle) { b.Spec.Source.Artifact.Name = "none" })
			}, v1alpha1.ReasonFetchFailed, "cannot read GitRepository default/none"},
		"KeyRemoved": {"Its key is not trusted any more: it may go on only until there is a better one.",
			func(s *scene) {
				s.change(func(b *v1alpha1.GuardrailBundle) {
					b.Spec.Verification.Keys[0] = v1alpha1.BundleKey{ID: "next", Algorithm: "ES256", PublicKey: other.public}
				})
			}, v1alpha1.ReasonVerificationFailed, `the key "release", which is not one of those that are trusted`},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			s := w.scene(t, nil)
			s.serve(w.signed(t, "42"), nil)
			s.mustLook()
			s.expect("at first", v1alpha1.ReasonInForce, "revision 42 with 1 guardrail", "42")
			tc.then(s)
			s.mustLook()
			s.expect(tc.reason, tc.because, tc.saying, "42")
			s.expect(tc.reason, tc.because, "; revision 42 stays in force", "42")
			if s.metric("sallyport_guardrail_bundle_activations_total", tc.because) != 1 {
				t.Errorf("%s\nno metric says %s", tc.reason, tc.because)
			}
			timeout := s.r.Timeout
			s.restart()
			s.r.Timeout = timeout
			version := s.bundle().ResourceVersion
			s.mustLook()
			s.expect(tc.reason+" After a restart", tc.because, tc.saying, "42")
			if now := s.bundle().ResourceVersion; now != version {
				t.Errorf("%s\nthe status was written again, and says the same", tc.reason)
			}
			if len(s.events.Events) > 0 {
				t.Errorf("%s\nevent %q for nothing new", tc.reason, <-s.events.Events)
			}
			s.change(func(b *v1alpha1.GuardrailBundle) {
				b.Spec.Digest, b.Spec.Source.Artifact.Name = "", s.name
				b.Spec.Verification.Keys[0] = v1alpha1.BundleKey{ID: "release", Algorithm: "ES256", PublicKey: w.keys.public}
			})
			s.r.Timeout = 0
			s.serve(w.signed(t, "44"), nil)
			s.mustLook()
			s.expect(tc.reason+" Then it is mended", v1alpha1.ReasonInForce, "revision 44", "44")
		})
	}
}

// files of an archive.
func files(t *testing.T, archive []byte) map[string][]byte {
	t.Helper()
	z, err := gzip.NewReader(bytes.NewReader(archive))
	must(t, err)
	out := map[string][]byte{}
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return out
		}
		must(t, err)
		out[h.Name], err = io.ReadAll(r)
		must(t, err)
	}
}

// rewrite the files of an archive.
func rewrite(t *testing.T, archive []byte, how func(map[string][]byte)) []byte {
	t.Helper()
	content := files(t, archive)
	how(content)
	folder := fstest.MapFS{}
	for name, data := range content {
		folder[name] = &fstest.MapFile{Data: data}
	}
	out, err := bundle.FromFolder(folder)
	must(t, err)
	return out
}

func testAccepted(t *testing.T, w *world) {
	s := w.scene(t, nil)
	if got := s.inForce(); !strings.HasPrefix(got, `stalled: no bundle "accepted" has been accepted yet`) {
		t.Errorf("S16: in force before the first look is %q", got)
	}
	s.serve(w.signed(t, "42"), nil)
	if again := s.mustLook().RequeueAfter; again != time.Minute {
		t.Errorf("the source is looked at again after %v, want a minute", again)
	}
	want := &v1alpha1.ActiveBundle{
		Revision: "42", Digest: bundle.Digest(w.signed42(s)), KeyID: "release", Guardrails: []string{"tenants"}, Since: metav1.NewTime(s.now),
	}
	if diff := cmp.Diff(want, s.bundle().Status.Active); diff != "" {
		t.Errorf("active (-want +got):\n%s", diff)
	}
	kept := s.archives()
	if len(kept) != 1 || kept[0].Immutable == nil || !*kept[0].Immutable || len(kept[0].OwnerReferences) != 1 {
		t.Fatalf("kept are %+v", kept)
	}
	if e := <-s.events.Events; e != "Normal InForce revision 42 with 1 guardrail" {
		t.Errorf("event %q", e)
	}

	s.now = s.now.Add(time.Hour)
	s.serve(w.signed(t, "43+abc"), nil)
	if again := s.mustLook().RequeueAfter; again != time.Minute {
		t.Errorf("looked at again after %v, want a minute", again)
	}
	s.expect("a newer one", v1alpha1.ReasonInForce, "revision 43+abc", "43+abc")
	if e := <-s.events.Events; e != "Normal InForce revision 43+abc with 1 guardrail" {
		t.Errorf("event %q", e)
	}
	if got := s.metric("sallyport_guardrail_bundle_active_revision", ""); got != 43 {
		t.Errorf("the metric says that revision %v is in force", got)
	}
	if got := s.metric("sallyport_guardrail_bundle_last_success_timestamp_seconds", ""); got != float64(s.now.Unix()) {
		t.Errorf("the metric says that the last success was at %v", got)
	}
	if len(s.archives()) != 2 {
		t.Error("the archive before is gone at once, while somebody may still read the status before")
	}
	s.now = s.now.Add(time.Minute)
	s.mustLook()
	if kept := s.archives(); len(kept) != 1 || kept[0].Name != bundle.ArchiveName(s.name, s.bundle().Status.Active.Digest) {
		t.Errorf("a minute later kept are %d archives", len(kept))
	}
	if s.metric("sallyport_guardrail_bundle_activations_total", v1alpha1.ReasonInForce) != 2 {
		t.Error("an activation was not counted, or one that was none was")
	}
}

// signed42 is what is kept.
func (w *world) signed42(s *scene) []byte { return s.archives()[0].BinaryData[bundle.ArchiveKey] }

// testStopped: S16. Stopped after any of its writes, the controller leaves one bundle
// in force, whole, and never none and never two.
func testStopped(t *testing.T, w *world) {
	var broken error
	stopped := func(kind string) client.Client {
		return interceptor.NewClient(w.client, interceptor.Funcs{
			Create: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.CreateOption) error {
				if kind == "archive" && broken != nil {
					return broken
				}
				return c.Create(ctx, o, opts...)
			},
			SubResourcePatch: func(ctx context.Context, c client.Client, sub string, o client.Object, p client.Patch, opts ...client.SubResourcePatchOption) error {
				if kind == "status" && broken != nil {
					return broken
				}
				return c.SubResource(sub).Patch(ctx, o, p, opts...)
			},
		})
	}
	for _, kind := range []string{"archive", "status"} {
		t.Run(kind, func(t *testing.T) {
			broken = nil
			s := w.scene(t, nil)
			s.client = stopped(kind)
			s.restart()
			s.serve(w.signed(t, "42"), nil)
			s.mustLook()
			broken = errors.New("stopped")
			s.serve(w.signed(t, "43"), nil)
			if _, err := s.look(); err == nil {
				t.Error("got no error, and so no second attempt")
			}
			if got := s.inForce(); got != "42" {
				t.Errorf("in force is %q, want 42", got)
			}
			if kind == "archive" {
				s.expect("it is told", v1alpha1.ReasonApplyFailed, "revision 42 stays in force", "42")
			}
			broken = nil
			s.restart()
			s.mustLook()
			s.expect("when it goes on", v1alpha1.ReasonInForce, "revision 43", "43")
		})
	}
}

// testLost: what the controller needs is written by nobody else, but may be lost.
func testLost(t *testing.T, w *world) {
	t.Run("archive", func(t *testing.T) {
		s := w.scene(t, nil)
		s.serve(w.signed(t, "42"), nil)
		s.mustLook()
		must(t, w.client.Delete(t.Context(), &s.archives()[0]))
		if got := s.inForce(); !strings.Contains(got, "is not there") {
			t.Errorf("S16: in force is %q", got)
		}
		s.serve(w.signed(t, "41"), nil)
		s.mustLook()
		if got := conditions.GetMessage(s.bundle(), v1alpha1.ConditionReady); !strings.Contains(got, "the archive of revision 42 is gone, and what this bundle matches is refused") {
			t.Errorf("message %q", got)
		}
		s.serve(w.signed(t, "43"), nil)
		s.mustLook()
		s.expect("a newer one", v1alpha1.ReasonInForce, "revision 43", "43")
		must(t, w.client.Delete(t.Context(), &s.archives()[0]))
		s.mustLook()
		s.expect("the same again", v1alpha1.ReasonInForce, "revision 43", "43")
	})
	t.Run("forged-archive", func(t *testing.T) {
		s := w.scene(t, nil)
		s.serve(w.signed(t, "42"), nil)
		s.mustLook()
		forged := s.archives()[0]
		must(t, w.client.Delete(t.Context(), &forged))
		forged.ResourceVersion, forged.UID, forged.BinaryData = "", "", map[string][]byte{bundle.ArchiveKey: built(t, "99", "forged")}
		must(t, w.client.Create(t.Context(), &forged))
		if got := s.inForce(); !strings.HasPrefix(got, "stalled: the archive of bundle") {
			t.Errorf("S25: in force is %q", got)
		}
		s.mustLook()
		s.expect("it is put right", v1alpha1.ReasonInForce, "revision 42", "42")
	})
	t.Run("status", func(t *testing.T) {
		s := w.scene(t, nil)
		s.serve(w.signed(t, "42"), nil)
		s.mustLook()
		b := s.bundle()
		b.Status = v1alpha1.GuardrailBundleStatus{}
		must(t, w.client.Status().Update(t.Context(), b))
		s.restart()
		s.serve(w.signed(t, "41"), nil)
		s.mustLook()
		s.expect("S25: an older one", v1alpha1.ReasonRollback, "revision 41 is older than revision 42; no bundle is in force, and what this one matches is refused",
			`stalled: no bundle "lost-status" has been accepted yet`)
		s.serve(w.signed(t, "43"), nil)
		s.mustLook()
		s.expect("a newer one", v1alpha1.ReasonInForce, "revision 43", "43")
	})
}

func testSources(t *testing.T, w *world) {
	dir := t.TempDir()
	raw := w.signed(t, "42")
	for name, content := range files(t, raw) {
		must(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, "dist", "unpacked", name)), 0o700))
		must(t, os.WriteFile(filepath.Join(dir, "dist", "unpacked", name), content, 0o600))
	}
	must(t, os.WriteFile(filepath.Join(dir, "dist", "b.tar.gz"), raw, 0o600))
	must(t, os.WriteFile(filepath.Join(dir, ".manifest"), []byte("{}"), 0o600)) // so that the tree can be packed
	tree, err := bundle.FromFolder(os.DirFS(dir))
	must(t, err)
	must(t, w.client.Create(t.Context(), &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "carrier"}, BinaryData: map[string][]byte{"b": raw},
	}))
	artifact := func(path string) v1alpha1.BundleSource {
		return v1alpha1.BundleSource{Artifact: &v1alpha1.ArtifactSource{Kind: "GitRepository", Namespace: "default", Path: path}}
	}
	configMap := func(key string) v1alpha1.BundleSource {
		return v1alpha1.BundleSource{ConfigMap: &v1alpha1.ConfigMapSource{Namespace: "default", Name: "carrier", Key: key}}
	}
	directory := func(path string) v1alpha1.BundleSource {
		return v1alpha1.BundleSource{Directory: &v1alpha1.DirectorySource{Path: path}}
	}
	tests := map[string]struct {
		reason string
		source v1alpha1.BundleSource
		want   string
	}{
		"file-in-tree":      {"The archive in a repository.", artifact("dist/b.tar.gz"), ""},
		"folder-in-tree":    {"The unpacked bundle in a repository.", artifact("dist/unpacked"), ""},
		"nothing-in-tree":   {"A path that is not there.", artifact("dist/c.tar.gz"), `there is nothing at "dist/c.tar.gz"`},
		"out-of-tree":       {"A path that leads out.", artifact("../b.tar.gz"), "leads out"},
		"config-map":        {"A ConfigMap.", configMap("b"), ""},
		"config-map-no-key": {"A key that is not there.", configMap("c"), `has no binaryData "c"`},
		"file":              {"A file.", directory(filepath.Join(dir, "dist", "b.tar.gz")), ""},
		"folder":            {"A folder.", directory(filepath.Join(dir, "dist", "unpacked")), ""},
		"no-folder":         {"One that is not there.", directory(filepath.Join(dir, "none")), "no such file"},
		"relative":          {"Of a path that is not absolute nobody knows where it leads.", directory("dist"), "is not absolute"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			s := w.scene(t, func(spec *v1alpha1.GuardrailBundleSpec) {
				spec.Source = tc.source
				if spec.Source.Artifact != nil {
					spec.Source.Artifact.Name = "sources-" + name
				}
			})
			s.serve(tree, nil)
			s.mustLook()
			if tc.want == "" {
				s.expect(tc.reason, v1alpha1.ReasonInForce, "revision 42", "42")
			} else {
				s.expect(tc.reason, v1alpha1.ReasonFetchFailed, tc.want, fmt.Sprintf("stalled: no bundle %q has been accepted yet", s.name))
			}
		})
	}
}

func testLife(t *testing.T, w *world) {
	s := w.scene(t, func(spec *v1alpha1.GuardrailBundleSpec) { spec.Interval = metav1.Duration{Duration: 5 * time.Minute} })
	s.serve(w.signed(t, "42"), nil)
	if again := s.mustLook().RequeueAfter; again != 5*time.Minute {
		t.Errorf("looked at again after %v", again)
	}
	s.change(func(b *v1alpha1.GuardrailBundle) { b.Spec.Suspend = true })
	s.serve(w.signed(t, "43"), nil)
	if again := s.mustLook().RequeueAfter; again != 0 {
		t.Errorf("suspended, it is looked at again after %v", again)
	}
	s.expect("suspended", v1alpha1.ReasonSuspended, "suspended; revision 42 stays in force", "42")
	s.change(func(b *v1alpha1.GuardrailBundle) {
		b.Spec.Suspend = false
		b.Annotations = map[string]string{meta.ReconcileRequestAnnotation: "now"}
	})
	s.mustLook()
	s.expect("resumed", v1alpha1.ReasonInForce, "revision 43", "43")
	if got := s.bundle().Status.LastHandledReconcileAt; got != "now" {
		t.Errorf("the request %q was handled", got)
	}
	s.change(func(b *v1alpha1.GuardrailBundle) {
		b.Spec.Match = &v1alpha1.GuardrailMatch{Namespaces: &v1alpha1.NamespaceMatch{Selector: &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "a", Operator: "Near"}}}}}
	})
	s.mustLook()
	if got := conditions.GetReason(s.bundle(), v1alpha1.ConditionReady); got != v1alpha1.ReasonInvalid {
		t.Errorf("Ready has the reason %q where the spec cannot be put in force", got)
	}
	must(t, w.client.Delete(t.Context(), s.bundle()))
	s.mustLook()
	if kept := s.archives(); len(kept) != 0 {
		t.Errorf("%d archives are kept of a bundle that is gone", len(kept))
	}
	if s.metric("sallyport_guardrail_bundle_active_revision", "") != 0 {
		t.Error("a metric is kept of a bundle that is gone")
	}
}
