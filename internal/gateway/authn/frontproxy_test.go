package authn

import (
	"context"
	"encoding/pem"
	"net/http"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apiserver/pkg/server/dynamiccertificates"
	"k8s.io/client-go/kubernetes/fake"
)

// TestFrontProxy: S2. Nobody who has a client certificate only can pose as the
// aggregation layer, however the hub is set up.
func TestFrontProxy(t *testing.T) {
	front, people := newAuthority(t), newAuthority(t)
	text := func(a *authority) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw}))
	}
	for name, tc := range map[string]struct {
		reason     string
		ca         *authority
		names      string
		by         *authority
		commonName string
		group      string
		user       string
	}{
		"Front":        {reason: "The front proxy is believed.", ca: front, names: `["front"]`, by: front, commonName: "front", user: "bob"},
		"AnyName":      {reason: "Of an authority of its own, by any name.", ca: front, names: `[]`, by: front, commonName: "x", user: "bob"},
		"OtherName":    {reason: "But not by another than it is to have.", ca: front, names: `["front"]`, by: front, commonName: "x"},
		"Person":       {reason: "A person is not believed.", ca: front, names: `["front"]`, by: people, commonName: "front"},
		"SharedName":   {reason: "A shared authority needs a name.", ca: people, names: `["front"]`, by: people, commonName: "front", user: "bob"},
		"SharedPerson": {reason: "Which people do not have.", ca: people, names: `["front"]`, by: people, commonName: "alice"},
		"SharedAny":    {reason: "Without one everybody could be anybody.", ca: people, names: `[]`, by: people, commonName: "front"},
		"NoGroup":      {reason: "S6: a group without a name.", ca: front, names: `["front"]`, by: front, commonName: "front", group: " "},
	} {
		t.Run(name, func(t *testing.T) {
			hub := fake.NewClientset(&corev1.ConfigMap{
				ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceSystem, Name: configMap},
				Data: map[string]string{
					"client-ca-file": text(people), "requestheader-client-ca-file": text(tc.ca), "requestheader-allowed-names": tc.names,
					"requestheader-username-headers": `["X-Remote-User"]`, "requestheader-group-headers": `["X-Remote-Group"]`, "requestheader-extra-headers-prefix": `["X-Remote-Extra-"]`,
				},
			})
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			a, err := New(ctx, Options{Hub: hub, FrontProxy: true})
			if err != nil {
				t.Fatal(err)
			}
			if a.Ready(nil) == nil {
				t.Error("S16: it is ready before the authority is known")
			}
			go a.ClientCA.(dynamiccertificates.ControllerRunner).Run(ctx, 1) // as the server does
			if err := wait.PollUntilContextTimeout(ctx, 5*time.Millisecond, 30*time.Second, true, func(context.Context) (bool, error) {
				_, ok := a.ClientCA.VerifyOptions()
				return ok && a.Ready(nil) == nil, nil
			}); err != nil {
				t.Fatal(a.Ready(nil))
			}
			cert := tc.by.client(t, tc.commonName, time.Hour)
			for _, which := range []string{"first", "again"} {
				r := showing(cert)
				r.Header = http.Header{"X-Remote-User": {"bob"}}
				if tc.group != "" {
					r.Header["X-Remote-Group"] = []string{"dev", tc.group}
				}
				got := ""
				if response, ok, err := a.Request.AuthenticateRequest(r); ok && err == nil {
					got = response.User.GetName()
				}
				if impersonated := got == "bob"; impersonated != (tc.user == "bob") {
					t.Errorf("%s\n%s: authenticated %q, want %q", tc.reason, which, got, tc.user)
				}
			}
		})
	}
}
