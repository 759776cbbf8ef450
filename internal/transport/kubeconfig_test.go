package transport

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/yaml"
)

// canary stands in every field that is put into a kubeconfig here. No error may
// have it.
const canary = "CANARY-8b1d"

// keyPair is a self-signed certificate, whose common name is the canary.
func keyPair(t testing.TB) (certificate, key []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: canary},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})
}

// object is JSON in the making.
type object = map[string]any

// kubeconfig has a good current context, unless cluster or user say otherwise.
func kubeconfig(cluster, user object) object {
	return object{
		"apiVersion": "v1", "kind": "Config", "current-context": "here" + canary,
		"clusters": []any{object{"name": "c" + canary, "cluster": cluster}},
		"users":    []any{object{"name": "u" + canary, "user": user}},
		"contexts": []any{object{"name": "here" + canary, "context": object{"cluster": "c" + canary, "user": "u" + canary}}},
	}
}

func with(o object, key string, value any) object {
	c := object{}
	for k, v := range o {
		c[k] = v
	}
	if value == nil {
		delete(c, key)
	} else {
		c[key] = value
	}
	return c
}

func secretOf(t testing.TB, config object) *corev1.Secret {
	t.Helper()
	raw, err := yaml.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: "sallyport-system", Name: "eu-1"},
		Data:       map[string][]byte{"kubeconfig": raw},
	}
}

// S24: a kubeconfig that would have Sallyport run, read or be anything is
// refused. And whatever is refused, no error tells what was in it.
func TestS24FromSecretRefuses(t *testing.T) {
	ca, _ := keyPair(t)
	certificate, key := keyPair(t)
	_, otherKey := keyPair(t)
	cluster := object{"server": "https://" + canary + ".example.com", "certificate-authority-data": ca}
	token := object{"token": canary}
	pair := object{"client-certificate-data": certificate, "client-key-data": key}
	good := kubeconfig(cluster, token)
	user := func(field string, value any) object { return kubeconfig(cluster, with(token, field, value)) }
	place := func(field string, value any) object { return kubeconfig(with(cluster, field, value), token) }

	cases := map[string]struct {
		reason string
		config object
		raw    []byte
		want   string // the field; "" means that it is taken
	}{
		"Token":       {reason: "A token is a credential.", config: good},
		"Certificate": {reason: "A client certificate is a credential.", config: kubeconfig(cluster, pair)},
		"BothCredentials": {reason: "They say nothing different of who it is.", config: kubeconfig(cluster,
			with(pair, "token", canary))},

		"Exec": {
			reason: "It would run a command in Sallyport's pod.",
			config: user("exec", object{"apiVersion": "client.authentication.k8s.io/v1", "command": canary, "args": []string{canary}, "interactiveMode": "Never"}),
			want:   "users[].user.exec",
		},
		"ExecOfAnotherContext": {
			reason: "A file with a command in it was not made for this, even if the current context does not use it.",
			config: with(good, "users", append(good["users"].([]any), object{"name": "z", "user": object{"exec": object{"apiVersion": "client.authentication.k8s.io/v1", "command": canary}}})),
			want:   "users[].user.exec",
		},
		"AuthProvider": {reason: "It can run a command too.", config: user("auth-provider", object{"name": canary, "config": object{"cmd-path": canary}}), want: "users[].user.auth-provider"},
		"TokenFile":    {reason: "It would send Sallyport's own token to the server it names.", config: user("tokenFile", "/"+canary), want: "users[].user.tokenFile"},
		"CertFile":     {reason: "Files of the pod are not for members.", config: user("client-certificate", "/"+canary), want: "users[].user.client-certificate"},
		"KeyFile":      {reason: "Files of the pod are not for members.", config: user("client-key", "/"+canary), want: "users[].user.client-key"},
		"CAFile":       {reason: "Files of the pod are not for members.", config: place("certificate-authority", "/"+canary), want: "clusters[].cluster.certificate-authority"},
		"Insecure":     {reason: "Whoever is in the middle would get the token.", config: place("insecure-skip-tls-verify", true), want: "clusters[].cluster.insecure-skip-tls-verify"},
		"NoCA":         {reason: "The CA is the member's identity; those of the system know many others.", config: place("certificate-authority-data", nil), want: "clusters[].cluster.certificate-authority-data"},
		"CANoPEM":      {reason: "A CA that is none verifies nothing.", config: place("certificate-authority-data", []byte(canary)), want: "clusters[].cluster.certificate-authority-data"},
		"Proxy":        {reason: "Where requests go through is not the Secret's to say.", config: place("proxy-url", "http://"+canary), want: "clusters[].cluster.proxy-url"},
		"HTTP":         {reason: "The token would be sent in the clear.", config: place("server", "http://"+canary), want: "clusters[].cluster.server"},
		"NoServer":     {reason: "client-go would go to localhost.", config: place("server", nil), want: "clusters[].cluster.server"},
		"NoScheme":     {reason: "client-go would choose one.", config: place("server", canary+".example.com"), want: "clusters[].cluster.server"},
		"Userinfo":     {reason: "A password in a URL ends up in logs.", config: place("server", "https://a:"+canary+"@h"), want: "clusters[].cluster.server"},
		"BadURL":       {reason: "The error of url.Parse quotes it.", config: place("server", "https://%zz"+canary), want: "clusters[].cluster.server"},
		"Query":        {reason: "No server has one.", config: place("server", "https://h/?"+canary), want: "clusters[].cluster.server"},
		"As":           {reason: "Sallyport alone says whom it impersonates.", config: user("as", canary), want: "users[].user.as"},
		"AsUID":        {reason: "Sallyport alone says whom it impersonates.", config: user("as-uid", canary), want: "users[].user.as-uid"},
		"AsGroups":     {reason: "Sallyport alone says whom it impersonates.", config: user("as-groups", []string{canary}), want: "users[].user.as-groups"},
		"AsExtra":      {reason: "Sallyport alone says whom it impersonates.", config: user("as-user-extra", object{canary: []string{canary}}), want: "users[].user.as-user-extra"},
		"Username":     {reason: "Kubernetes has no passwords any more.", config: user("username", canary), want: "users[].user.username"},
		"Password":     {reason: "Kubernetes has no passwords any more.", config: user("password", canary), want: "users[].user.password"},
		"NoCredential": {reason: "Nobody's request is refused on each call; better once.", config: kubeconfig(cluster, object{}), want: "users[].user.token"},
		"NoKey":        {reason: "Half a credential is none.", config: kubeconfig(cluster, with(pair, "client-key-data", nil)), want: "users[].user.client-certificate-data"},
		"KeyOnly":      {reason: "Half a credential is none.", config: kubeconfig(cluster, with(pair, "client-certificate-data", nil)), want: "users[].user.client-certificate-data"},
		"NoPair":       {reason: "A key of another certificate.", config: kubeconfig(cluster, with(pair, "client-key-data", otherKey)), want: "users[].user.client-certificate-data"},
		"KeyNoPEM":     {reason: "Parsers quote what they cannot parse.", config: kubeconfig(cluster, with(pair, "client-key-data", []byte(canary))), want: "users[].user.client-certificate-data"},
		"TokenNewline": {reason: "It would end the header, and net/http's error quotes headers.", config: user("token", canary+"\r\nImpersonate-User: root"), want: "users[].user.token"},
		"NoContext":    {reason: "Which credential is meant must be said.", config: with(good, "current-context", nil), want: "current-context"},
		"WrongContext": {reason: "Nothing is chosen in its place.", config: with(good, "current-context", canary), want: "current-context"},
		"NoSuchUser":   {reason: "Nobody is chosen in its place.", config: with(good, "users", []any{}), want: "contexts[].context.user"},
		"NoSuchCluster": {reason: "No server is chosen in its place.", config: with(good, "clusters", []any{}),
			want: "contexts[].context.cluster"},
		"NotYAML":   {reason: "The error of the parser quotes it.", raw: []byte("token: " + canary + "\n\t- x"), want: "data.kubeconfig"},
		"WrongType": {reason: "The error of the decoder quotes it.", raw: []byte(`{"apiVersion":"v1","kind":"Config","users":"` + canary + `"}`), want: "data.kubeconfig"},
		"WrongKind": {reason: "So does that of the scheme.", raw: []byte("apiVersion: v1\nkind: " + canary), want: "data.kubeconfig"},
		"TooLong":   {reason: "Parsing takes memory.", raw: []byte(strings.Repeat(canary, maxKubeconfig)), want: "data.kubeconfig"},
		"Empty":     {reason: "There is nothing to use.", raw: []byte(""), want: "data.kubeconfig"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			secret := secretOf(t, tc.config)
			if tc.config == nil {
				secret.Data["kubeconfig"] = tc.raw
			}
			config, err := FromSecret(secret)
			if tc.want == "" {
				if err != nil || config == nil {
					t.Fatalf("%s\ngot %v, want a configuration", tc.reason, err)
				}
				return
			}
			refusal := (*Refusal)(nil)
			if !errors.As(err, &refusal) || config != nil {
				t.Fatalf("%s\ngot %v, want a refusal and nothing to use", tc.reason, err)
			}
			if refusal.Field != tc.want {
				t.Errorf("%s\ngot field %q, want %q", tc.reason, refusal.Field, tc.want)
			}
			if !strings.Contains(err.Error(), `"sallyport-system/eu-1"`) {
				t.Errorf("the error names no Secret: %v", err)
			}
			if strings.Contains(err.Error(), canary) || strings.Contains(err.Error(), "PRIVATE KEY") {
				t.Errorf("the error has what was in the Secret: %v", err)
			}
		})
	}
}

func TestFromSecretTakesOnlyWhatItNeeds(t *testing.T) {
	ca, _ := keyPair(t)
	config := kubeconfig(object{"server": "https://h:6443/k", "certificate-authority-data": ca, "tls-server-name": "n"}, object{"token": canary})
	secret := secretOf(t, config)
	secret.Data["value"] = secret.Data["kubeconfig"]
	delete(secret.Data, "kubeconfig") // as Cluster API has it
	t.Setenv("KUBECONFIG", "/nowhere")

	got, err := FromSecret(secret)
	if err != nil {
		t.Fatal(err)
	}
	want := &rest.Config{
		Host: "https://h:6443/k", TLSClientConfig: rest.TLSClientConfig{ServerName: "n", CAData: ca}, BearerToken: canary,
		UserAgent: "sallyport", QPS: QPS, Burst: Burst, Timeout: Timeout,
	}
	got.WrapTransport = nil // a function cannot be compared; TestNoRedirects has it
	if diff := cmp.Diff(want.String(), got.String()); diff != "" {
		t.Errorf("configuration (-want +got):\n%s", diff)
	}
	if got.BearerToken != canary || string(got.CAData) != string(ca) {
		t.Error("the credential is not that of the Secret")
	}
}

// S4, for Sallyport's own requests: a member cannot have its token sent on.
func TestNoRedirects(t *testing.T) {
	followed := 0
	other := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { followed++ }))
	defer other.Close()
	for _, code := range []int{301, 302, 303, 307, 308} {
		member := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, other.URL, code)
		}))
		ca := append(certificateOf(member), certificateOf(other)...)
		config, err := FromSecret(secretOf(t, kubeconfig(object{"server": member.URL, "certificate-authority-data": ca}, object{"token": canary})))
		if err != nil {
			t.Fatal(err)
		}
		client, err := rest.HTTPClientFor(config)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Get(member.URL)
		if !errors.Is(err, errRedirect) {
			t.Errorf("%d: got %v, %v, want %v", code, resp, err, errRedirect)
		}
		member.Close()
	}
	if followed > 0 {
		t.Errorf("%d redirects were followed", followed)
	}
}

func certificateOf(s *httptest.Server) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
}
