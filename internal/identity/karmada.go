package identity

import (
	"context"
	"crypto/x509"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sallyport-dev/sallyport/internal/core/fleet"
	"github.com/sallyport-dev/sallyport/internal/inventory"
)

// KarmadaSecrets takes the token of Karmada's impersonator from the Secret in which
// Karmada keeps it. Karmada renews it.
type KarmadaSecrets struct {
	Inventory *inventory.Inventory
	// Secrets reads past every cache: two Secrets by their names, and no others.
	Secrets client.Reader
	// Now is the clock.
	Now func() time.Time
}

var _ Issuer = (*KarmadaSecrets)(nil)

// Route implements Issuer.
func (k *KarmadaSecrets) Route(ctx context.Context, m *fleet.Member, _ Route) (Route, error) {
	e, err := k.Inventory.KarmadaEndpoint(ctx, m.Name)
	if err != nil {
		return Route{}, err
	}
	// The token in there has more rights than the impersonator: only the CA is taken.
	ca, err := value(ctx, k.Secrets, e.Secret, "caBundle")
	if err != nil {
		return Route{}, err
	}
	token, err := value(ctx, k.Secrets, e.Impersonator, "token")
	if err != nil {
		return Route{}, err
	}
	route := Route{Endpoint: inventory.Endpoint{Server: e.Server, CA: ca}, Token: string(token), Expires: expiry(string(token)), Account: m.Impersonator.String()}
	return route, usable(&route, e.Impersonator, k.Now())
}

// value of a key of a Secret.
func value(ctx context.Context, from client.Reader, name types.NamespacedName, key string) ([]byte, error) {
	s := &corev1.Secret{}
	if err := from.Get(ctx, name, s); apierrors.IsNotFound(err) {
		return nil, fmt.Errorf("there is no Secret %q: %w", name, ErrWaits)
	} else if err != nil {
		return nil, fmt.Errorf("cannot read Secret %q: %w", name, err)
	}
	if len(s.Data[key]) == 0 {
		return nil, fmt.Errorf("Secret %q has no %s: %w", name, key, ErrWaits)
	}
	return s.Data[key], nil
}

// usable refuses a route whose CA or token, which came from a Secret, are none.
func usable(r *Route, from types.NamespacedName, now time.Time) error {
	switch {
	case !x509.NewCertPool().AppendCertsFromPEM(r.CA):
		return fmt.Errorf("there is no CA to verify %q by: %w", r.Server, ErrWaits)
	case !isToken(r.Token):
		return fmt.Errorf("Secret %q has no token: %w", from, ErrWaits)
	case !r.Expires.IsZero() && !now.Before(r.Expires):
		return fmt.Errorf("the token in Secret %q has expired: %w", from, ErrWaits)
	}
	return nil
}
