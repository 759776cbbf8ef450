package admission

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
)

const host = DefaultService + ".sallyport-system.svc"

var secretKey = client.ObjectKey{Namespace: "sallyport-system", Name: DefaultSecret}

// hub holds the Secret and the configuration, and tells of each write.
type hub struct {
	client.Client
	wrote func(client.Object)
}

func newHub(t *testing.T, objects ...client.Object) *hub {
	t.Helper()
	h := &hub{wrote: func(client.Object) {}}
	h.Client = fake.NewClientBuilder().WithScheme(scheme.Scheme).WithObjects(objects...).WithInterceptorFuncs(interceptor.Funcs{
		Update: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.UpdateOption) error {
			err := c.Update(ctx, o, opts...)
			if err == nil {
				h.wrote(o)
			}
			return err
		},
	}).Build()
	return h
}

func emptySecret() *corev1.Secret {
	return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: secretKey.Namespace, Name: secretKey.Name}}
}

func configuration() *admissionregistrationv1.ValidatingWebhookConfiguration {
	return &admissionregistrationv1.ValidatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: DefaultConfiguration},
		Webhooks:   []admissionregistrationv1.ValidatingWebhook{{Name: "a"}, {Name: "b"}},
	}
}

func (h *hub) authority(now *time.Time) *Authority {
	return &Authority{
		reader: h, writer: h, seen: h, secret: secretKey, configuration: DefaultConfiguration,
		maker: newMaker(secretKey.Namespace, DefaultService), now: func() time.Time { return *now }, wake: make(chan struct{}, 1),
	}
}

func (h *hub) data(t *testing.T) map[string][]byte {
	t.Helper()
	var s corev1.Secret
	if err := h.Get(t.Context(), secretKey, &s); err != nil {
		t.Fatal(err)
	}
	return s.Data
}

// bundle is what the API server trusts.
func (h *hub) bundle(t *testing.T) []byte {
	t.Helper()
	var c admissionregistrationv1.ValidatingWebhookConfiguration
	if err := h.Get(t.Context(), client.ObjectKey{Name: DefaultConfiguration}, &c); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(c.Webhooks[0].ClientConfig.CABundle, c.Webhooks[1].ClientConfig.CABundle) {
		t.Error("the webhooks have different authorities")
	}
	return c.Webhooks[0].ClientConfig.CABundle
}

// trusted reports whether the API server would talk to a server with the pair.
func trusted(bundle []byte, pair *tls.Certificate, now time.Time) error {
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(bundle)
	_, err := pair.Leaf.Verify(x509.VerifyOptions{
		Roots: roots, DNSName: host, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
	return err
}

// TestAlwaysTrusted plays twelve years. After every single write, what replicas
// serve, those included that have not seen the write, is what the API server trusts.
func TestAlwaysTrusted(t *testing.T) {
	now := time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC)
	h := newHub(t, emptySecret(), configuration())
	a := h.authority(&now)
	if err := a.keep(t.Context()); err != nil {
		t.Fatal(err)
	}
	var writes []string
	h.wrote = func(o client.Object) {
		writes = append(writes, fmt.Sprintf("%T", o))
		bundle := h.bundle(t)
		if err := trusted(bundle, a.pair.Load(), now); err != nil {
			t.Errorf("%s: what is served is not trusted: %v", now, err)
		}
		data := h.data(t)
		pair, err := tls.X509KeyPair(data[corev1.TLSCertKey], data[corev1.TLSPrivateKeyKey])
		if err != nil {
			t.Fatal(err)
		}
		if err := trusted(bundle, &pair, now); err != nil {
			t.Errorf("%s: what will be served is not trusted: %v", now, err)
		}
	}
	authorities := map[string]bool{}
	for end := now.AddDate(12, 0, 0); now.Before(end); now = now.AddDate(0, 1, 0) {
		if err := a.keep(t.Context()); err != nil {
			t.Fatal(err)
		}
		if left := a.pair.Load().Leaf.NotAfter.Sub(now); left < renewBefore {
			t.Fatalf("%s: the certificate is good for %s more", now, left)
		}
		authorities[string(h.data(t)[caCertKey])] = true
	}
	if len(authorities) != 2 {
		t.Errorf("%d authorities in 12 years, want 2", len(authorities))
	}
	if len(writes) < 12 || len(writes) > 24 {
		t.Errorf("%d writes in 12 years: %v", len(writes), writes)
	}
	if !slices.Contains(writes, "*v1.ValidatingWebhookConfiguration") {
		t.Error("the new authority was never told")
	}
}

func TestKeep(t *testing.T) {
	now := time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC)
	made := newHub(t, emptySecret(), configuration())
	if err := made.authority(&now).keep(t.Context()); err != nil {
		t.Fatal(err)
	}
	good := made.data(t)
	without := func(keys ...string) map[string][]byte {
		data := map[string][]byte{}
		for k, v := range good {
			if !slices.Contains(keys, k) {
				data[k] = v
			}
		}
		return data
	}
	with := func(key, value string) map[string][]byte {
		data := without()
		data[key] = []byte(value)
		return data
	}
	tests := map[string]struct {
		reason    string
		data      map[string][]byte
		same      bool // authority
		untouched bool // nothing is written but trust
		former    bool // the authority before is trusted still
	}{
		"Good":              {reason: "What is good is kept.", data: good, same: true, untouched: true},
		"Empty":             {reason: "All is made.", data: nil},
		"EmptiedByHand":     {reason: "Who takes all away does not trust it any more.", data: map[string][]byte{}},
		"NoCertificate":     {reason: "The authority makes another.", data: without(corev1.TLSCertKey, corev1.TLSPrivateKeyKey), same: true},
		"OtherKey":          {reason: "A key that is not the certificate's is none.", data: with(corev1.TLSPrivateKeyKey, string(good[caKeyKey])), same: true},
		"BrokenCertificate": {reason: "What cannot be read is made anew.", data: with(corev1.TLSCertKey, "-----BEGIN"), same: true},
		"NoAuthorityKey":    {reason: "An authority that can make nothing is replaced, and what it has made stays good.", data: without(caKeyKey), former: true},
		"BrokenAuthority":   {reason: "What cannot be read is nobody to trust.", data: with(caCertKey, "-----BEGIN")},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			secret := emptySecret()
			secret.Data = tc.data
			h := newHub(t, secret, configuration())
			secrets := 0
			h.wrote = func(o client.Object) {
				if _, is := o.(*corev1.Secret); is {
					secrets++
				}
			}
			a := h.authority(&now)
			if err := a.keep(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := trusted(h.bundle(t), a.pair.Load(), now); err != nil {
				t.Errorf("%s\nnot trusted: %v", tc.reason, err)
			}
			data := h.data(t)
			if got := bytes.Equal(data[caCertKey], good[caCertKey]); got != tc.same {
				t.Errorf("%s\nthe same authority: %t, want %t", tc.reason, got, tc.same)
			}
			if got := secrets == 0; got != tc.untouched {
				t.Errorf("%s\nuntouched: %t, want %t", tc.reason, got, tc.untouched)
			}
			if got := !tc.same && bytes.Contains(h.bundle(t), bytes.TrimSpace(good[caCertKey])); got != tc.former {
				t.Errorf("%s\nthe former one is trusted: %t, want %t", tc.reason, got, tc.former)
			}
			before := secrets
			if err := a.keep(t.Context()); err != nil || secrets != before {
				t.Errorf("%s\nonce more: %v, %d writes", tc.reason, err, secrets-before)
			}
		})
	}
}

// TestTwoReplicas: of two that begin at once, one makes the authority, and both
// serve with it.
func TestTwoReplicas(t *testing.T) {
	now := time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC)
	h := newHub(t, emptySecret(), configuration())
	a, b := h.authority(&now), h.authority(&now)
	first := true
	h.wrote = func(client.Object) {
		if first {
			first = false
			for b.look(t.Context()) != 0 {
				t.Log("b looks again")
			}
		}
	}
	// What a writes after b has is based on what is no more.
	if again := a.look(t.Context()); again == 0 || a.told() != "" {
		t.Errorf("a looks again after %s, with problem %q", again, a.told())
	}
	for a.look(t.Context()) != 0 {
		t.Log("a looks again")
	}
	if !bytes.Equal(a.pair.Load().Certificate[0], b.pair.Load().Certificate[0]) {
		t.Error("they serve with different certificates")
	}
	if err := trusted(h.bundle(t), a.pair.Load(), now); err != nil {
		t.Error(err)
	}
}

// TestMissing: without Secret or configuration the controller goes on, and is ready
// unless the API server is going to ask.
func TestMissing(t *testing.T) {
	now := time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC)
	for name, tc := range map[string]struct {
		reason      string
		objects     []client.Object
		ready, told bool
	}{
		"Neither":         {"A hub that does not ask is not waited for.", nil, true, true},
		"NoConfiguration": {"The certificate is there when the configuration comes.", []client.Object{emptySecret()}, true, false},
		"NoSecret":        {"The API server would ask in vain.", []client.Object{configuration()}, false, true},
		"Both":            {"As installed.", []client.Object{emptySecret(), configuration()}, true, false},
	} {
		t.Run(name, func(t *testing.T) {
			a := newHub(t, tc.objects...).authority(&now)
			again := a.look(t.Context())
			got := [3]bool{a.ready(t.Context()) == nil, a.told() != "", again != 0}
			if diff := cmp.Diff([3]bool{tc.ready, tc.told, tc.told}, got); diff != "" {
				t.Errorf("%s\nready, told, looks again (-want +got):\n%s%s", tc.reason, diff, a.told())
			}
		})
	}
	a := newHub(t).authority(&now)
	a.seen = unreadable{}
	if a.ready(t.Context()) == nil {
		t.Error("ready, without knowing whether anybody asks")
	}
	if _, err := a.certificate(nil); err == nil {
		t.Error("there is a certificate")
	}
}

// TestRefused: a hub that lets nothing be written is told of, without any key.
func TestRefused(t *testing.T) {
	now := time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC)
	h := newHub(t, emptySecret(), configuration())
	a := h.authority(&now)
	a.writer = unwritable{h}
	if a.look(t.Context()) == 0 || !apierrors.IsForbidden(*a.problem.Load()) {
		t.Errorf("the problem is %q", a.told())
	}
	if bytes.Contains([]byte(a.told()), []byte("PRIVATE")) {
		t.Error("the problem has a key in it")
	}
}

type unreadable struct{ client.Reader }

func (unreadable) Get(context.Context, client.ObjectKey, client.Object, ...client.GetOption) error {
	return errors.New("not filled")
}

type unwritable struct{ client.Writer }

func (unwritable) Update(context.Context, client.Object, ...client.UpdateOption) error {
	return apierrors.NewForbidden(corev1.Resource("secrets"), DefaultSecret, errors.New("no"))
}
