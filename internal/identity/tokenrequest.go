package identity

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/internal/core/fleet"
	"github.com/sallyport-dev/sallyport/internal/inventory"
)

// TokenLifetime is for how long tokens are asked for from members. It is short,
// since nothing takes a token back but the removal of its account.
const TokenLifetime = time.Hour

// TokenRequests asks members for tokens, with their kubeconfigs. It makes the
// account, and its namespace, where they are not there.
type TokenRequests struct {
	// Secrets reads kubeconfigs, in Namespace.
	Secrets   client.Reader
	Namespace string
	// Members gives a client by the kubeconfig Secret of that name, which knows
	// namespaces and service accounts. *transport.Clients is one.
	Members interface {
		For(ctx context.Context, member, secret string) (client.Client, error)
	}
	// Now is the clock.
	Now func() time.Time
}

var _ Issuer = (*TokenRequests)(nil)

// Route implements Issuer. The member is asked for its account each time: a token
// does not outlive the account that it is of.
func (t *TokenRequests) Route(ctx context.Context, m *fleet.Member, held Route) (Route, error) {
	kubeconfig := &corev1.Secret{}
	if err := t.Secrets.Get(ctx, client.ObjectKey{Namespace: t.Namespace, Name: m.Secret}, kubeconfig); err != nil {
		return Route{}, fmt.Errorf("cannot read the kubeconfig of cluster %q: %w", m.Name, err)
	}
	endpoint, err := inventory.SecretEndpoint(kubeconfig)
	if err != nil {
		return Route{}, err
	}
	member, err := t.Members.For(ctx, m.Name, m.Secret)
	if err != nil {
		return Route{}, err
	}
	account, err := ensureAccount(ctx, member, m.Impersonator)
	if err != nil {
		return Route{}, fmt.Errorf("cannot find the impersonator on cluster %q: %w", m.Name, err)
	}
	name := fmt.Sprintf("%s@%s", m.Impersonator, account.UID)
	now := t.Now()
	if isToken(held.Token) && held.Account == name && held.leadsWhere(endpoint) && now.Before(held.Renew) {
		return held, nil
	}
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: ptr.To(int64(TokenLifetime / time.Second))}}
	if err := member.SubResource("token").Create(ctx, account, request); err != nil {
		return Route{}, fmt.Errorf("cannot get a token of %q from cluster %q: %w", m.Impersonator, m.Name, answer(err))
	}
	route := Route{Endpoint: endpoint, Token: request.Status.Token, Expires: request.Status.ExpirationTimestamp.Time, Account: name}
	if !isToken(route.Token) || !now.Before(route.Expires) {
		return Route{}, fmt.Errorf("cannot use the token of %q from cluster %q: it is none, or has expired by the clock here", m.Impersonator, m.Name)
	}
	route.Renew = renewal(now, route.Expires)
	return route, nil
}

// ensureAccount finds the account, or makes it. One that is there is taken as it is.
func ensureAccount(ctx context.Context, member client.Client, name types.NamespacedName) (*corev1.ServiceAccount, error) {
	account := &corev1.ServiceAccount{}
	err := member.Get(ctx, name, account)
	if err == nil || !apierrors.IsNotFound(err) {
		return account, described("get", "ServiceAccount", name.String(), err)
	}
	ours := map[string]string{v1alpha1.ManagedByLabel: v1alpha1.ManagedByValue}
	namespace := &corev1.Namespace{}
	if err := member.Get(ctx, client.ObjectKey{Name: name.Namespace}, namespace); apierrors.IsNotFound(err) {
		namespace = &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name.Namespace, Labels: ours}}
		if err := member.Create(ctx, namespace); err != nil && !apierrors.IsAlreadyExists(err) {
			return nil, described("create", "Namespace", name.Namespace, err)
		}
	} else if err != nil {
		return nil, described("get", "Namespace", name.Namespace, err)
	}
	account = &corev1.ServiceAccount{
		ObjectMeta: metav1.ObjectMeta{Namespace: name.Namespace, Name: name.Name, Labels: ours},
		// No pod has it.
		AutomountServiceAccountToken: ptr.To(false),
	}
	err = member.Create(ctx, account)
	if apierrors.IsAlreadyExists(err) {
		err = member.Get(ctx, name, account)
	}
	return account, described("create", "ServiceAccount", name.String(), err)
}

func described(verb, kind, name string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("cannot %s %s %q there: %w", verb, kind, name, answer(err))
}

// answer is the code of what a member's API server answered, without its words. An
// error of the network is told as it is.
func answer(err error) error {
	if status := apierrors.APIStatus(nil); errors.As(err, &status) {
		code := int(status.Status().Code)
		return fmt.Errorf("it answers %d %s", code, http.StatusText(code))
	}
	return err
}
