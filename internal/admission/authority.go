package admission

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/open-policy-agent/cert-controller/pkg/rotator"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/fields"
	toolscache "k8s.io/client-go/tools/cache"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// How long certificates are good for, and how long before the end they are renewed:
// what cert-controller has by default.
const (
	caLifetime     = 10 * 365 * 24 * time.Hour
	serverLifetime = 365 * 24 * time.Hour
	renewBefore    = 90 * 24 * time.Hour
	// lookEvery is how often, beside whenever something changes.
	lookEvery = time.Hour
)

// Keys of the Secret, beside those of a Secret of type kubernetes.io/tls.
const (
	caCertKey = "ca.crt"
	caKeyKey  = "ca.key"
	// formerCAKey is the authority before this one. It stays trusted, so that nothing
	// is refused while replicas go over to the new one.
	formerCAKey = "former-ca.crt"
)

// Authority makes and renews the certificate that the webhook is served with, and
// tells the API server which authority to trust. Keys and certificates are made and
// checked by cert-controller. Its loop is not used: that needs the Secret mounted,
// watches all Secrets and all webhook configurations, ends the process when it
// cannot go on, and replaces the authority before anybody trusts the new one.
//
// Every replica runs one. Each step is one write that says what it was based on, so
// that of two at once one is refused, and looks again.
type Authority struct {
	reader        client.Reader
	writer        client.Writer
	objects       cache.Cache   // the Secret and the configuration, and nothing else
	seen          client.Reader // the same, read
	secret        client.ObjectKey
	configuration string
	maker         rotator.CertRotator
	now           func() time.Time

	wake chan struct{}
	pair atomic.Pointer[tls.Certificate]
	// problem is why there may be no certificate; nil while all is well.
	problem atomic.Pointer[error]
}

// newAuthority makes one and has the manager run it.
func newAuthority(mgr ctrl.Manager, o Options) (*Authority, error) {
	objects, err := cache.New(mgr.GetConfig(), cache.Options{
		HTTPClient: mgr.GetHTTPClient(), Scheme: mgr.GetScheme(), Mapper: mgr.GetRESTMapper(),
		ByObject: map[client.Object]cache.ByObject{
			&corev1.Secret{}: {Namespaces: map[string]cache.Config{o.Namespace: {FieldSelector: fields.OneTermEqualSelector("metadata.name", o.Secret)}}},
			&admissionregistrationv1.ValidatingWebhookConfiguration{}: {Field: fields.OneTermEqualSelector("metadata.name", o.Configuration)},
		},
	})
	if err != nil {
		return nil, fmt.Errorf("cannot watch the webhook's Secret: %w", err)
	}
	a := &Authority{
		reader: mgr.GetAPIReader(), writer: mgr.GetClient(), objects: objects, seen: objects,
		secret: client.ObjectKey{Namespace: o.Namespace, Name: o.Secret}, configuration: o.Configuration,
		maker: newMaker(o.Namespace, o.Service), now: o.Now, wake: make(chan struct{}, 1),
	}
	return a, mgr.Add(a)
}

func newMaker(namespace, service string) rotator.CertRotator {
	host := service + "." + namespace + ".svc"
	return rotator.CertRotator{
		CAName: "sallyport-webhook-ca", CAOrganization: "sallyport", DNSName: host, ExtraDNSNames: []string{host + ".cluster.local"},
		ExtKeyUsages: &[]x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
}

// NeedLeaderElection is false: every replica serves, and so needs a certificate.
func (a *Authority) NeedLeaderElection() bool { return false }

// Start keeps the certificate in order until the context ends.
func (a *Authority) Start(ctx context.Context) error {
	log := ctrl.LoggerFrom(ctx).WithName("webhook-authority")
	stopped := make(chan error, 1)
	go func() { stopped <- a.objects.Start(ctx) }()
	for _, object := range []client.Object{&corev1.Secret{}, &admissionregistrationv1.ValidatingWebhookConfiguration{}} {
		informer, err := a.objects.GetInformer(ctx, object)
		if err != nil {
			return fmt.Errorf("cannot watch the webhook's %T: %w", object, err)
		}
		changed := func() {
			select {
			case a.wake <- struct{}{}:
			default: // it is awake
			}
		}
		if _, err := informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
			AddFunc: func(any) { changed() }, UpdateFunc: func(any, any) { changed() }, DeleteFunc: func(any) { changed() },
		}); err != nil {
			return fmt.Errorf("cannot watch the webhook's %T: %w", object, err)
		}
	}
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	var told string
	for {
		again := a.look(ctx)
		if now := a.told(); now != told {
			log.Info("The webhook's certificate", "problem", now)
			told = now
		}
		var retry <-chan time.Time
		if again > 0 {
			retry = time.After(again)
		}
		select {
		case <-ctx.Done():
			return <-stopped
		case err := <-stopped:
			return err
		case <-a.wake:
		case <-tick.C:
		case <-retry:
		}
	}
}

// look once, and say when to look again; 0 for when something changes.
func (a *Authority) look(ctx context.Context) (again time.Duration) {
	err := a.keep(ctx)
	switch {
	case err == nil:
		a.problem.Store(nil)
	case apierrors.IsConflict(err): // another replica was first
		return 100 * time.Millisecond
	default:
		a.problem.Store(&err)
		return 5 * time.Second
	}
	return 0
}

func (a *Authority) told() string {
	if p := a.problem.Load(); p != nil {
		return (*p).Error()
	}
	return ""
}

// keep makes what is missing, in an order in which the certificate that is served
// is trusted at any time: authority, trust, certificate.
func (a *Authority) keep(ctx context.Context) error {
	var secret corev1.Secret
	if err := a.reader.Get(ctx, a.secret, &secret); err != nil {
		return fmt.Errorf("cannot read Secret %q: %w", a.secret, err)
	}
	// What there is, is served at once, whatever becomes of the rest.
	if pair, err := tls.X509KeyPair(secret.Data[corev1.TLSCertKey], secret.Data[corev1.TLSPrivateKeyKey]); err == nil {
		a.pair.Store(&pair)
	}
	renew := a.now().Add(renewBefore)
	if ok, err := rotator.ValidCert(secret.Data[caCertKey], secret.Data[caCertKey], secret.Data[caKeyKey], a.maker.CAName, nil, renew); err != nil || !ok {
		if err := a.renewAuthority(ctx, &secret); err != nil {
			return err
		}
	}
	if err := a.trust(ctx, secret.Data); err != nil {
		return err
	}
	if ok, err := rotator.ValidCert(secret.Data[caCertKey], secret.Data[corev1.TLSCertKey], secret.Data[corev1.TLSPrivateKeyKey], a.maker.DNSName, a.maker.ExtKeyUsages, renew); err != nil || !ok {
		return a.renewCertificate(ctx, &secret)
	}
	return nil
}

func (a *Authority) renewAuthority(ctx context.Context, secret *corev1.Secret) error {
	now := a.now()
	ca, err := a.maker.CreateCACert(now.Add(-time.Hour), now.Add(caLifetime))
	if err != nil {
		return fmt.Errorf("cannot make an authority for the webhook: %w", err)
	}
	if secret.Data == nil {
		secret.Data = map[string][]byte{}
	}
	if former := secret.Data[caCertKey]; isCertificate(former) {
		secret.Data[formerCAKey] = former
	}
	secret.Data[caCertKey], secret.Data[caKeyKey] = ca.CertPEM, ca.KeyPEM
	return a.write(ctx, secret)
}

func (a *Authority) renewCertificate(ctx context.Context, secret *corev1.Secret) error {
	ca, err := authorityOf(secret.Data)
	if err != nil {
		return fmt.Errorf("cannot use the authority in Secret %q: %w", a.secret, err)
	}
	now := a.now()
	cert, key, err := a.maker.CreateCertPEM(ca, now.Add(-time.Hour), now.Add(serverLifetime))
	if err != nil {
		return fmt.Errorf("cannot make a certificate for the webhook: %w", err)
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return fmt.Errorf("cannot make a certificate for the webhook: %w", err)
	}
	secret.Data[corev1.TLSCertKey], secret.Data[corev1.TLSPrivateKeyKey] = cert, key
	if err := a.write(ctx, secret); err != nil {
		return err
	}
	a.pair.Store(&pair)
	return nil
}

// write the Secret if it is as it was read.
func (a *Authority) write(ctx context.Context, secret *corev1.Secret) error {
	if err := a.writer.Update(ctx, secret); err != nil {
		return fmt.Errorf("cannot write Secret %q: %w", a.secret, err)
	}
	return nil
}

// trust has the API server trust the authority and the one before. Without a
// configuration there is nobody to trust it, and nothing to do.
func (a *Authority) trust(ctx context.Context, data map[string][]byte) error {
	bundle := bytes.Join([][]byte{bytes.TrimSpace(data[caCertKey]), bytes.TrimSpace(data[formerCAKey])}, []byte("\n"))
	var c admissionregistrationv1.ValidatingWebhookConfiguration
	switch err := a.reader.Get(ctx, client.ObjectKey{Name: a.configuration}, &c); {
	case apierrors.IsNotFound(err):
		return nil
	case err != nil:
		return fmt.Errorf("cannot read ValidatingWebhookConfiguration %q: %w", a.configuration, err)
	}
	trusted := true
	for i := range c.Webhooks {
		to := &c.Webhooks[i].ClientConfig
		trusted = trusted && bytes.Equal(to.CABundle, bundle)
		to.CABundle = bundle
	}
	if trusted {
		return nil
	}
	if err := a.writer.Update(ctx, &c); err != nil {
		return fmt.Errorf("cannot write ValidatingWebhookConfiguration %q: %w", a.configuration, err)
	}
	return nil
}

// certificate is what to serve with now, as tls.Config.GetCertificate.
func (a *Authority) certificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	if pair := a.pair.Load(); pair != nil {
		return pair, nil
	}
	return nil, errors.New("there is no certificate yet")
}

// ready unless the API server is to ask and there is no certificate to answer with.
// Without a configuration nobody asks.
func (a *Authority) ready(ctx context.Context) error {
	if a.pair.Load() != nil {
		return nil
	}
	var c admissionregistrationv1.ValidatingWebhookConfiguration
	if err := a.seen.Get(ctx, client.ObjectKey{Name: a.configuration}, &c); apierrors.IsNotFound(err) {
		return nil
	}
	return errors.New("the webhook has no certificate yet")
}

func isCertificate(raw []byte) bool {
	block, _ := pem.Decode(raw)
	if block == nil {
		return false
	}
	_, err := x509.ParseCertificate(block.Bytes)
	return err == nil
}

func authorityOf(data map[string][]byte) (*rotator.KeyPairArtifacts, error) {
	cert, _ := pem.Decode(data[caCertKey])
	key, _ := pem.Decode(data[caKeyKey])
	if cert == nil || key == nil {
		return nil, errors.New("it is not in PEM")
	}
	ca := &rotator.KeyPairArtifacts{CertPEM: data[caCertKey], KeyPEM: data[caKeyKey]}
	var err error
	if ca.Cert, err = x509.ParseCertificate(cert.Bytes); err != nil {
		return nil, errors.New("its certificate cannot be read")
	}
	if ca.Key, err = x509.ParsePKCS1PrivateKey(key.Bytes); err != nil {
		return nil, errors.New("its key cannot be read") // and what is wrong with a key is not told
	}
	return ca, nil
}
