package inventory

import (
	"encoding/base64"
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	clusterv1 "open-cluster-management.io/api/cluster/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/sallyport-dev/sallyport/internal/transport"
)

// testCA is a certificate, which is all that is asked of it.
const testCA = `-----BEGIN CERTIFICATE-----
MIIBPTCB46ADAgECAgEBMAoGCCqGSM49BAMCMA0xCzAJBgNVBAMTAmNhMCAXDTI2
MDEwMTAwMDAwMFoYDzIxMjYwMTAxMDAwMDAwWjANMQswCQYDVQQDEwJjYTBZMBMG
ByqGSM49AgEGCCqGSM49AwEHA0IABB4NejTOxvBHgUfLuulZdplzufnX/38tXYMw
ihiec4yKMWYzLCHgw6HBcULA3MYlA8kOjuFgn7v2wE/MyaIdD/ijMjAwMA8GA1Ud
EwEB/wQFMAMBAf8wHQYDVR0OBBYEFLF8vtRQSrqh9oMunPGlg4fH7fKBMAoGCCqG
SM49BAMCA0kAMEYCIQDnbDwtr4r8b1N2G70L732raKpNCVpqwVzEsF/+DJK1nwIh
APejnPldy4N+gp05fmutPOENnsZQ52wFxB3S1cUfQK3X
-----END CERTIFICATE-----
`

func TestEndpoint(t *testing.T) {
	ca := []byte(testCA)
	configured := func(url string, bundle []byte) *clusterv1.ManagedCluster {
		c := managedCluster("eu-1")
		c.Spec.ManagedClusterClientConfigs = []clusterv1.ClientConfig{{URL: url, CABundle: bundle}, {URL: "https://second"}}
		return c
	}
	profile := func(namespace, providers string) client.Object {
		return untyped(t, fmt.Sprintf(`{apiVersion: multicluster.x-k8s.io/v1alpha1, kind: ClusterProfile, metadata: {name: eu-1, namespace: %s}, status: %s}`, namespace, providers))
	}
	plain := fmt.Sprintf(`{server: "https://profile:6443", certificate-authority-data: %s, tls-server-name: api}`, base64.StdEncoding.EncodeToString(ca))
	proxied := untyped(t, `{apiVersion: addon.open-cluster-management.io/v1alpha1, kind: ManagedClusterAddOn, metadata: {namespace: eu-1, name: cluster-proxy}}`)
	kubeconfig := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: "sallyport-system", Name: "eu-1"},
		Data: map[string][]byte{"kubeconfig": fmt.Appendf(nil, `{apiVersion: v1, kind: Config, current-context: c, contexts: [{name: c, context: {cluster: c, user: c}}],
			clusters: [{name: c, cluster: {server: "https://kubeconfig:6443", certificate-authority-data: %s}}], users: [{name: c, user: {token: CANARY}}]}`, base64.StdEncoding.EncodeToString(ca))},
	}
	elsewhere := kubeconfig.DeepCopy()
	elsewhere.Namespace = "tenant"

	cases := map[string]struct {
		reason  string
		objects []client.Object
		want    Endpoint
		refused bool
	}{
		"ClientConfig": {
			reason:  "The first client config of the ManagedCluster, before everything else.",
			objects: []client.Object{configured("https://api.eu-1:6443", ca), profile("sallyport-system", "{accessProviders: [{cluster: "+plain+"}]}"), proxied, kubeconfig},
			want:    Endpoint{Server: "https://api.eu-1:6443", CA: ca},
		},
		"NoBundle":  {reason: "The CA may come with the credential.", objects: []client.Object{configured("https://api.eu-1:6443", nil)}, want: Endpoint{Server: "https://api.eu-1:6443"}},
		"PlainHTTP": {reason: "A token is not sent in the clear, nor is another way taken silently.", objects: []client.Object{configured("http://api.eu-1", ca), proxied}, refused: true},
		"UserInfo":  {reason: "An address with a credential in it is none.", objects: []client.Object{configured("https://u:CANARY@api.eu-1", ca)}, refused: true},
		"BadBundle": {reason: "A CA without a certificate verifies nothing.", objects: []client.Object{configured("https://api.eu-1", []byte("CANARY"))}, refused: true},
		"Profile": {
			reason:  "A ClusterProfile of the same name, by the first provider that is plain; commands in it are not run.",
			objects: []client.Object{managedCluster("eu-1"), proxied, profile("sallyport-system", `{accessProviders: [{name: none}, {name: proxied, cluster: {server: "https://x", proxy-url: "http://y", certificate-authority-data: `+base64.StdEncoding.EncodeToString(ca)+`}}, {name: insecure, cluster: {server: "https://x", insecure-skip-tls-verify: true}}, {name: plain, cluster: `+plain+`}]}`)},
			want:    Endpoint{Server: "https://profile:6443", CA: ca, ServerName: "api"},
		},
		"OlderProfile": {
			reason:  "Older ones say credentialProviders.",
			objects: []client.Object{managedCluster("eu-1"), profile("sallyport-system", "{credentialProviders: [{cluster: "+plain+"}]}")},
			want:    Endpoint{Server: "https://profile:6443", CA: ca, ServerName: "api"},
		},
		"S24Profile": {
			reason:  "A tenant's ClusterProfile says nothing of where a cluster is.",
			objects: []client.Object{managedCluster("eu-1"), profile("tenant", "{accessProviders: [{cluster: "+plain+"}]}")},
			refused: true,
		},
		"Secret": {
			reason:  "The kubeconfig of the same cluster knows the address.",
			objects: []client.Object{managedCluster("eu-1"), proxied, kubeconfig}, want: Endpoint{Server: "https://kubeconfig:6443", CA: ca},
		},
		"S24Secret": {reason: "That of a tenant's namespace does not.", objects: []client.Object{managedCluster("eu-1"), elsewhere}, refused: true},
		"ClusterProxy": {
			reason:  "Where nobody tells an address there is the tunnel, in which the cluster's name is the host.",
			objects: []client.Object{managedCluster("eu-1"), proxied},
			want:    Endpoint{Server: "https://eu-1", ServerName: "kubernetes.default.svc", ClusterProxy: true},
		},
		"Nothing": {reason: "No address, no endpoint.", objects: []client.Object{managedCluster("eu-1")}, refused: true},
		"Unknown": {reason: "Nor for a cluster that is not there.", refused: true},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			hub := fakeHub{fake.NewClientBuilder().WithScheme(scheme(t)).WithObjects(tc.objects...).Build(), current(ManagedClusterKind, ManagedClusterAddOnKind, ClusterProfileKind, SecretKind)}
			got, err := New(hub, Options{Namespace: "sallyport-system"}).Endpoint(t.Context(), "eu-1", "eu-1")
			if diff := cmp.Diff(tc.want, got); diff != "" || errors.Is(err, ErrNoEndpoint) != tc.refused || !tc.refused && err != nil {
				t.Errorf("%s\n%v; (-want +got):\n%s", tc.reason, err, diff)
			}
		})
	}
	t.Run("RefusedSecret", func(t *testing.T) {
		bad := kubeconfig.DeepCopy()
		bad.Data["kubeconfig"] = []byte("CANARY")
		hub := fakeHub{fake.NewClientBuilder().WithScheme(scheme(t)).WithObjects(managedCluster("eu-1"), bad).Build(), current(ManagedClusterKind, SecretKind)}
		_, err := New(hub, Options{Namespace: "sallyport-system"}).Endpoint(t.Context(), "eu-1", "eu-1")
		if refusal := (*transport.Refusal)(nil); !errors.As(err, &refusal) {
			t.Errorf("got %v, want the refusal", err)
		}
	})
}

func TestKarmadaEndpoint(t *testing.T) {
	ns := func(name string) types.NamespacedName {
		return types.NamespacedName{Namespace: "karmada-cluster", Name: name}
	}
	const refs = `secretRef: {namespace: karmada-cluster, name: m1}, impersonatorSecretRef: {namespace: karmada-cluster, name: m1-impersonator}`
	cases := map[string]struct {
		reason, spec string
		want         KarmadaEndpoint
	}{
		"Plain":       {reason: "Address and Secrets, as Karmada's proxy uses them.", spec: `{apiEndpoint: "https://m1:6443", insecureSkipTLSVerification: false, proxyURL: "", ` + refs + `}`, want: KarmadaEndpoint{Server: "https://m1:6443", Secret: ns("m1"), Impersonator: ns("m1-impersonator")}},
		"NoNamespace": {reason: "The usual namespace.", spec: `{apiEndpoint: "https://m1:6443", secretRef: {name: m1}, impersonatorSecretRef: {name: i}}`, want: KarmadaEndpoint{Server: "https://m1:6443", Secret: ns("m1"), Impersonator: ns("i")}},
		"Insecure":    {reason: "Without verification the token goes to anybody.", spec: `{apiEndpoint: "https://m1:6443", insecureSkipTLSVerification: true, ` + refs + `}`},
		"Malformed":   {reason: "What cannot be read is not taken for false.", spec: `{apiEndpoint: "https://m1:6443", insecureSkipTLSVerification: "true", ` + refs + `}`},
		"Proxy":       {reason: "A proxy that a cluster names is not used.", spec: `{apiEndpoint: "https://m1:6443", proxyURL: "http://evil", ` + refs + `}`},
		"ProxyHeader": {reason: "Nor what it would be told.", spec: `{apiEndpoint: "https://m1:6443", proxyHeader: {a: b}, ` + refs + `}`},
		"PlainHTTP":   {reason: "A token is not sent in the clear.", spec: `{apiEndpoint: "http://m1", ` + refs + `}`},
		"NoSecret":    {reason: "Without a CA nothing is verified.", spec: `{apiEndpoint: "https://m1:6443", impersonatorSecretRef: {name: i}}`},
		"NoToken":     {reason: "Without an impersonator there is nobody to come as.", spec: `{apiEndpoint: "https://m1:6443", secretRef: {name: m1}}`},
		"Empty":       {reason: "A cluster that was only registered.", spec: `{}`},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			got, err := karmadaEndpoint(untyped(t, `{metadata: {name: m1}, spec: `+tc.spec+`}`))
			refused := tc.want == KarmadaEndpoint{}
			if diff := cmp.Diff(tc.want, got); diff != "" || errors.Is(err, ErrNoEndpoint) != refused || !refused && err != nil {
				t.Errorf("%s\n%v; (-want +got):\n%s", tc.reason, err, diff)
			}
		})
	}
}

func TestBareAddOn(t *testing.T) {
	full := untyped(t, `{apiVersion: a/v1, kind: K, metadata: {namespace: eu-1, name: x, uid: u, resourceVersion: "1", annotations: {big: big}}, spec: {a: b}, status: {namespace: agents, conditions: []}}`)
	got, err := bareAddOn(full)
	if err != nil {
		t.Fatal(err)
	}
	want := untyped(t, `{apiVersion: a/v1, kind: K, metadata: {namespace: eu-1, name: x, uid: u, resourceVersion: "1"}, status: {namespace: agents}}`)
	if diff := cmp.Diff(want.Object, got.(*unstructured.Unstructured).Object); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
