package identity

import (
	"encoding/base64"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/internal/core/fleet"
	"github.com/sallyport-dev/sallyport/internal/inventory"
)

var noon = time.Date(2030, 1, 1, 12, 0, 0, 0, time.UTC)

func clock() time.Time { return noon }

// jwt is a token that claims to expire then.
func jwt(claims string) string {
	return "h." + base64.RawURLEncoding.EncodeToString([]byte(claims)) + ".CANARY"
}

func jwtUntil(t time.Time) string { return jwt(fmt.Sprintf(`{"exp":%d}`, t.Unix())) }

func TestExpiry(t *testing.T) {
	cases := map[string]struct {
		reason, token string
		want          time.Time
	}{
		"Bound":     {reason: "What the token says.", token: jwtUntil(noon), want: noon},
		"Unbound":   {reason: "A token of a Secret does not expire.", token: jwt(`{"iss":"kubernetes/serviceaccount"}`)},
		"Opaque":    {reason: "Nor does it say so if it is no JWT.", token: "opaque"},
		"Garbage":   {reason: "What cannot be read says nothing.", token: "a.%%%.c"},
		"NotJSON":   {reason: "What cannot be read says nothing.", token: jwt("exp")},
		"Malformed": {reason: "What cannot be read says nothing.", token: jwt(`{"exp":"tomorrow"}`)},
		"Negative":  {reason: "No time before time.", token: jwt(`{"exp":-1}`)},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			if got := expiry(tc.token); !got.Equal(tc.want) {
				t.Errorf("%s\ngot %s, want %s", tc.reason, got, tc.want)
			}
		})
	}
}

func TestRenewal(t *testing.T) {
	if got := renewal(noon, noon.Add(time.Hour)); !got.Equal(noon.Add(40 * time.Minute)) {
		t.Errorf("of an hour: %s", got)
	}
	if got := renewal(noon, noon.Add(10*time.Minute)); !got.Equal(noon.Add(400 * time.Second)) {
		t.Errorf("of what a member gave instead of an hour: %s", got)
	}
}

// TestSecret: a Secret tells a route, and is read back as the same.
func TestSecret(t *testing.T) {
	full := Route{
		Endpoint: inventory.Endpoint{Server: "https://eu-1", CA: []byte("ca"), ServerName: "kubernetes.default.svc", ClusterProxy: true},
		Token:    "t", Expires: noon.Add(time.Hour), Renew: noon, Account: "sallyport-system/sallyport-impersonator@uid",
	}
	want := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "sallyport-gateway", Name: "route-eu-1",
			Labels: map[string]string{"app.kubernetes.io/managed-by": "sallyport", "access.sallyport.dev/cluster": "eu-1"},
			Annotations: map[string]string{
				"access.sallyport.dev/expires": "2030-01-01T13:00:00Z", "access.sallyport.dev/renew": "2030-01-01T12:00:00Z",
				"access.sallyport.dev/impersonator": "sallyport-system/sallyport-impersonator@uid", "access.sallyport.dev/issuer": "TokenRequest",
			},
		},
		Type: "access.sallyport.dev/route",
		Data: map[string][]byte{
			"server": []byte("https://eu-1"), "ca.crt": []byte("ca"), "tls-server-name": []byte("kubernetes.default.svc"),
			"token": []byte("t"), "via": []byte("ClusterProxy"),
		},
	}
	got := full.Secret("sallyport-gateway", "eu-1", fleet.TokenRequest)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	bare := Route{Endpoint: inventory.Endpoint{Server: "https://m", CA: []byte("ca")}, Token: "t", Account: "a/b"}
	for name, r := range map[string]Route{"full": full, "bare": bare} {
		if diff := cmp.Diff(r, Held(r.Secret("n", "c", fleet.KarmadaSecret))); diff != "" {
			t.Errorf("%s, read back (-want +got):\n%s", name, diff)
		}
	}
	if !Ours(got) {
		t.Error("what was made is not recognised")
	}
}

func TestOurs(t *testing.T) {
	cases := map[string]struct {
		reason string
		change func(*corev1.Secret)
	}{
		"Type":    {reason: "A Secret of another type.", change: func(s *corev1.Secret) { s.Type = corev1.SecretTypeOpaque }},
		"Label":   {reason: "One that somebody else manages.", change: func(s *corev1.Secret) { s.Labels[v1alpha1.ManagedByLabel] = "them" }},
		"Cluster": {reason: "One of no cluster.", change: func(s *corev1.Secret) { delete(s.Labels, v1alpha1.ClusterLabel) }},
		"Name":    {reason: "One whose name is another cluster's.", change: func(s *corev1.Secret) { s.Name = "route-other" }},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			s := (&Route{}).Secret("n", "eu-1", fleet.TokenRequest)
			tc.change(s)
			if Ours(s) {
				t.Errorf("taken for ours: %s", tc.reason)
			}
		})
	}
}
