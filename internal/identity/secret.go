package identity

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/internal/core/fleet"
	"github.com/sallyport-dev/sallyport/internal/inventory"
)

// SecretName of the route to a cluster.
func SecretName(cluster string) string { return v1alpha1.RouteNamePrefix + cluster }

// Secret that tells the gateway a route.
func (r *Route) Secret(namespace, cluster string, issuer fleet.Issuer) *corev1.Secret {
	s := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: namespace, Name: SecretName(cluster),
			Labels: map[string]string{v1alpha1.ManagedByLabel: v1alpha1.ManagedByValue, v1alpha1.ClusterLabel: cluster},
			Annotations: map[string]string{
				v1alpha1.RouteImpersonatorAnnotation: r.Account, v1alpha1.RouteIssuerAnnotation: issuer.String(),
			},
		},
		Type: v1alpha1.RouteSecretType,
		Data: map[string][]byte{
			v1alpha1.RouteServer: []byte(r.Server), v1alpha1.RouteCA: r.CA, v1alpha1.RouteToken: []byte(r.Token),
		},
	}
	if r.ServerName != "" {
		s.Data[v1alpha1.RouteServerName] = []byte(r.ServerName)
	}
	if r.ClusterProxy {
		s.Data[v1alpha1.RouteVia] = []byte(v1alpha1.RouteViaClusterProxy)
	}
	for annotation, at := range map[string]time.Time{v1alpha1.RouteExpiresAnnotation: r.Expires, v1alpha1.RouteRenewAnnotation: r.Renew} {
		if !at.IsZero() {
			s.Annotations[annotation] = at.UTC().Format(time.RFC3339)
		}
	}
	return s
}

// Held is the route that a Secret tells, as far as it does.
func Held(s *corev1.Secret) Route {
	at := func(annotation string) time.Time {
		t, err := time.Parse(time.RFC3339, s.Annotations[annotation])
		if err != nil {
			return time.Time{}
		}
		return t
	}
	return Route{
		Endpoint: inventory.Endpoint{
			Server: string(s.Data[v1alpha1.RouteServer]), CA: s.Data[v1alpha1.RouteCA], ServerName: string(s.Data[v1alpha1.RouteServerName]),
			ClusterProxy: string(s.Data[v1alpha1.RouteVia]) == v1alpha1.RouteViaClusterProxy,
		},
		Token:   string(s.Data[v1alpha1.RouteToken]),
		Expires: at(v1alpha1.RouteExpiresAnnotation), Renew: at(v1alpha1.RouteRenewAnnotation),
		Account: s.Annotations[v1alpha1.RouteImpersonatorAnnotation],
	}
}

// Ours reports whether a Secret is a route that Sallyport made.
func Ours(s *corev1.Secret) bool {
	cluster := s.Labels[v1alpha1.ClusterLabel]
	return s.Type == v1alpha1.RouteSecretType && s.Labels[v1alpha1.ManagedByLabel] == v1alpha1.ManagedByValue &&
		cluster != "" && s.Name == SecretName(cluster)
}
