package controlplane

import (
	"context"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
	aggregator "k8s.io/kube-aggregator/pkg/client/clientset_generated/clientset"
	"k8s.io/utils/ptr"
)

// ServingCertificate issues a certificate and its key, in PEM, for a server on loopback that answers to the given DNS
// names too: an aggregated API server or a webhook. CABundle is its authority.
func (c *ControlPlane) ServingCertificate(dnsNames ...string) (cert, key []byte, err error) {
	pair, err := c.pki.serving.server(dnsNames...)
	if err != nil {
		return nil, nil, fmt.Errorf("cannot issue a serving certificate for %q: %w", dnsNames, err)
	}
	return pair.cert, pair.key, nil
}

// RegisterAPIService makes the API server serve a group and version from an aggregated API server on a port of this
// machine, and returns when it does. The aggregated server must run already, with a certificate of ServingCertificate
// for <service>.<namespace>.svc. The namespace and the Service are made; the Service is an ExternalName for localhost,
// since nothing here gives a ClusterIP a meaning.
func (c *ControlPlane) RegisterAPIService(ctx context.Context, gv schema.GroupVersion, namespace, service string, port int) error {
	name := gv.Version + "." + gv.Group
	if err := c.registerAPIService(ctx, name, gv, namespace, service, port); err != nil {
		return fmt.Errorf("cannot register APIService %q on %q: %w", name, c.Name, err)
	}
	return nil
}

func (c *ControlPlane) registerAPIService(ctx context.Context, name string, gv schema.GroupVersion, namespace, service string, port int) error {
	client, err := kubernetes.NewForConfig(c.AdminConfig())
	if err != nil {
		return err
	}
	services, err := aggregator.NewForConfig(c.AdminConfig())
	if err != nil {
		return err
	}
	if err := ensureNamespace(ctx, client, namespace); err != nil {
		return err
	}
	_, err = client.CoreV1().Services(namespace).Create(ctx, &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: service},
		Spec:       corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: "localhost"},
	}, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return err
	}

	api := services.ApiregistrationV1().APIServices()
	spec := apiregistrationv1.APIServiceSpec{
		Group: gv.Group, Version: gv.Version,
		GroupPriorityMinimum: 2000, VersionPriority: 10,
		CABundle: c.CABundle(),
		Service:  &apiregistrationv1.ServiceReference{Namespace: namespace, Name: service, Port: ptr.To(int32(port))},
	}
	_, err = api.Create(ctx, &apiregistrationv1.APIService{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: spec}, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) { // it came back on another port
		err = updateAPIService(ctx, services, name, spec)
	}
	if err != nil {
		return err
	}

	var last string
	err = wait.PollUntilContextCancel(ctx, 50*time.Millisecond, true, func(ctx context.Context) (bool, error) {
		live, err := api.Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return false, err
		}
		i := slices.IndexFunc(live.Status.Conditions, func(c apiregistrationv1.APIServiceCondition) bool {
			return c.Type == apiregistrationv1.Available
		})
		if i < 0 {
			return false, nil
		}
		last = live.Status.Conditions[i].Message
		return live.Status.Conditions[i].Status == apiregistrationv1.ConditionTrue, nil
	})
	if err != nil {
		return fmt.Errorf("not available: %w: %s", err, last)
	}
	return nil
}

func updateAPIService(ctx context.Context, client aggregator.Interface, name string, spec apiregistrationv1.APIServiceSpec) error {
	api := client.ApiregistrationV1().APIServices()
	live, err := api.Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	live.Spec = spec
	_, err = api.Update(ctx, live, metav1.UpdateOptions{})
	return err
}
