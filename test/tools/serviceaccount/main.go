// Program managed-serviceaccount-agent is the controller of Open Cluster Management's managed-serviceaccount add-on that
// runs on a member: it makes the accounts that the hub asks for, and brings their tokens to the hub anew in good time.
//
// The add-on's own main package listens on a port that nobody can choose, and two of it cannot run on one machine. This
// one puts the same reconciler together in the same way.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
	msav1beta1 "open-cluster-management.io/managed-serviceaccount/apis/authentication/v1beta1"
	"open-cluster-management.io/managed-serviceaccount/pkg/addon/agent/controller"
	"open-cluster-management.io/managed-serviceaccount/pkg/common"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
)

func main() {
	var o options
	flag.StringVar(&o.hub, "hub-kubeconfig", "", "kubeconfig for the hub")
	flag.StringVar(&o.member, "spoke-kubeconfig", "", "kubeconfig for the member")
	flag.StringVar(&o.cluster, "cluster-name", "", "name of the member, and its namespace on the hub")
	flag.StringVar(&o.namespace, "namespace", "", "namespace of the accounts on the member")
	flag.StringVar(&o.probes, "health-probe-bind-address", "", "address of /healthz")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

type options struct{ hub, member, cluster, namespace, probes string }

func run(ctx context.Context, o options) error {
	ctrl.SetLogger(klog.Background())
	hub, hubErr := clientcmd.BuildConfigFromFlags("", o.hub)
	member, memberErr := clientcmd.BuildConfigFromFlags("", o.member)
	if err := errors.Join(hubErr, memberErr); err != nil {
		return err
	}
	scheme := runtime.NewScheme()
	if err := errors.Join(clientgoscheme.AddToScheme(scheme), msav1beta1.AddToScheme(scheme)); err != nil {
		return err
	}
	manager, err := ctrl.NewManager(hub, ctrl.Options{
		Scheme: scheme, Metrics: metricsserver.Options{BindAddress: "0"}, HealthProbeBindAddress: o.probes, LivenessEndpointName: "/healthz",
		Cache: cache.Options{DefaultNamespaces: map[string]cache.Config{o.cluster: {}}},
	})
	if err != nil {
		return err
	}
	accounts, err := accountsOf(member, o.namespace)
	if err != nil {
		return err
	}
	onHub, hubErr := kubernetes.NewForConfig(hub)
	onMember, memberErr := kubernetes.NewForConfig(member)
	if err := errors.Join(hubErr, memberErr, manager.Add(accounts), manager.AddHealthzCheck("ping", healthz.Ping)); err != nil {
		return err
	}
	tokens := &controller.TokenReconciler{
		Cache: manager.GetCache(), HubClient: manager.GetClient(), HubNativeClient: onHub,
		SpokeNamespace: o.namespace, SpokeClientConfig: member, SpokeNativeClient: onMember, ClusterName: o.cluster, SpokeCache: accounts,
	}
	if err := tokens.SetupWithManager(manager); err != nil {
		return err
	}
	return manager.Start(ctx)
}

// accountsOf the member that the add-on has made.
func accountsOf(member *rest.Config, namespace string) (cache.Cache, error) {
	return cache.New(member, cache.Options{ByObject: map[client.Object]cache.ByObject{
		&corev1.ServiceAccount{}: {Namespaces: map[string]cache.Config{
			namespace: {LabelSelector: labels.SelectorFromSet(labels.Set{common.LabelKeyIsManagedServiceAccount: "true"})},
		}},
	}})
}
