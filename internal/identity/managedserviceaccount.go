package identity

import (
	"context"
	"errors"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	msav1beta1 "open-cluster-management.io/managed-serviceaccount/apis/authentication/v1beta1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/internal/core/fleet"
	"github.com/sallyport-dev/sallyport/internal/inventory"
	"github.com/sallyport-dev/sallyport/internal/inventory/served"
)

// ManagedServiceAccountKind is the kind by which the add-on is asked for accounts.
var ManagedServiceAccountKind = msav1beta1.GroupVersion.WithKind("ManagedServiceAccount")

// AddToScheme adds the Go types of this package's kinds.
func AddToScheme(s *runtime.Scheme) error { return msav1beta1.AddToScheme(s) }

// Kinds are what a served.Kinds has to follow for a ManagedServiceAccounts with
// that name.
func Kinds(name string) []served.Kind {
	return []served.Kind{{
		GVK: ManagedServiceAccountKind, Resource: "managedserviceaccounts", Namespaced: true,
		Object: &msav1beta1.ManagedServiceAccount{}, Fields: fields.OneTermEqualSelector(metav1.ObjectNameField, name),
	}}
}

// Validity is for how long the add-on's tokens are asked for. It renews them by
// itself when a fifth of that is left, and a cluster may be away for as long.
const Validity = 24 * time.Hour

// ManagedServiceAccounts has Open Cluster Management's add-on make the account, and
// bring its tokens to the hub.
type ManagedServiceAccounts struct {
	Inventory *inventory.Inventory
	// Client writes, Kinds reads what the hub may not serve.
	Client client.Client
	Kinds  client.Reader
	// Secrets reads past every cache, and one Secret by its name.
	Secrets client.Reader
	// Now is the clock.
	Now func() time.Time
}

var _ Issuer = (*ManagedServiceAccounts)(nil)

const fieldOwner = client.FieldOwner("sallyport")

// Route implements Issuer.
func (a *ManagedServiceAccounts) Route(ctx context.Context, m *fleet.Member, _ Route) (Route, error) {
	key := types.NamespacedName{Namespace: m.Name, Name: m.Impersonator.Name}
	account, err := a.ensure(ctx, key)
	if err != nil {
		return Route{}, err
	}
	if ref := account.Status.TokenSecretRef; ref == nil || ref.Name != key.Name {
		return Route{}, fmt.Errorf("ManagedServiceAccount %q has not been brought a token: %w", key, ErrWaits)
	}
	endpoint, err := a.Inventory.Endpoint(ctx, m.Name, m.Secret)
	if err != nil {
		return Route{}, err
	}
	if len(endpoint.CA) == 0 {
		if endpoint.CA, err = value(ctx, a.Secrets, key, "ca.crt"); err != nil {
			return Route{}, err
		}
	}
	token, err := value(ctx, a.Secrets, key, "token")
	if err != nil {
		return Route{}, err
	}
	route := Route{Endpoint: endpoint, Token: string(token), Expires: expiry(string(token)), Account: m.Impersonator.String()}
	if at := account.Status.ExpirationTimestamp; route.Expires.IsZero() && at != nil {
		route.Expires = at.Time
	}
	return route, usable(&route, key, a.Now())
}

// ensure there is such a ManagedServiceAccount, as it should be. One that is not
// Sallyport's is let be.
func (a *ManagedServiceAccounts) ensure(ctx context.Context, key types.NamespacedName) (*msav1beta1.ManagedServiceAccount, error) {
	want := msav1beta1.ManagedServiceAccountRotation{Enabled: true, Validity: metav1.Duration{Duration: Validity}}
	account := &msav1beta1.ManagedServiceAccount{}
	switch err := a.Kinds.Get(ctx, key, account); {
	case client.IgnoreNotFound(err) != nil:
		return nil, fmt.Errorf("cannot read ManagedServiceAccount %q: %w", key, err)
	case err != nil:
		account = &msav1beta1.ManagedServiceAccount{
			ObjectMeta: metav1.ObjectMeta{
				Namespace: key.Namespace, Name: key.Name, Labels: map[string]string{v1alpha1.ManagedByLabel: v1alpha1.ManagedByValue},
			},
			Spec: msav1beta1.ManagedServiceAccountSpec{Rotation: want},
		}
		if err := a.Client.Create(ctx, account, fieldOwner); err != nil {
			return nil, fmt.Errorf("cannot create ManagedServiceAccount %q: %w", key, err)
		}
		return account, nil
	case account.Labels[v1alpha1.ManagedByLabel] != v1alpha1.ManagedByValue:
		return nil, fmt.Errorf("ManagedServiceAccount %q is not Sallyport's: %w", key, ErrWaits)
	case !account.DeletionTimestamp.IsZero():
		return nil, fmt.Errorf("ManagedServiceAccount %q is being deleted: %w", key, ErrWaits)
	}
	if account.Spec.Rotation != want {
		account = account.DeepCopy()
		account.Spec.Rotation = want
		if err := a.Client.Update(ctx, account, fieldOwner); err != nil {
			return nil, fmt.Errorf("cannot update ManagedServiceAccount %q: %w", key, err)
		}
	}
	return account, nil
}

// Withdraw the account of a cluster that has none of the add-on's any more, and with
// it its token.
func (a *ManagedServiceAccounts) Withdraw(ctx context.Context, cluster, name string) error {
	key := types.NamespacedName{Namespace: cluster, Name: name}
	account := &msav1beta1.ManagedServiceAccount{}
	if err := a.Kinds.Get(ctx, key, account); err != nil {
		return ignoreAbsent(err)
	}
	if account.Labels[v1alpha1.ManagedByLabel] != v1alpha1.ManagedByValue || !account.DeletionTimestamp.IsZero() {
		return nil
	}
	only := client.Preconditions{UID: &account.UID}
	if err := a.Client.Delete(ctx, account, only); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("cannot delete ManagedServiceAccount %q: %w", key, err)
	}
	return nil
}

// ignoreAbsent is nil where there is no such object, or no such kind.
func ignoreAbsent(err error) error {
	if errors.Is(err, served.ErrAbsent) {
		return nil
	}
	return client.IgnoreNotFound(err)
}
