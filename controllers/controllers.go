// Package controllers puts Sallyport's controllers together: one manager with all
// that runs on a hub.
package controllers

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	fluxevents "github.com/fluxcd/pkg/runtime/events"
	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/record"
	workv1 "open-cluster-management.io/api/work/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	ctrlconfig "sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	"sigs.k8s.io/controller-runtime/pkg/metrics"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/controllers/direct"
	"github.com/sallyport-dev/sallyport/controllers/grant"
	guardrailstatus "github.com/sallyport-dev/sallyport/controllers/guardrail"
	"github.com/sallyport-dev/sallyport/controllers/guardrailbundle"
	"github.com/sallyport-dev/sallyport/controllers/member"
	"github.com/sallyport-dev/sallyport/controllers/route"
	"github.com/sallyport-dev/sallyport/internal/admission"
	"github.com/sallyport-dev/sallyport/internal/audit"
	"github.com/sallyport-dev/sallyport/internal/core/fleet"
	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
	"github.com/sallyport-dev/sallyport/internal/core/rules"
	"github.com/sallyport-dev/sallyport/internal/distribute"
	"github.com/sallyport-dev/sallyport/internal/identity"
	"github.com/sallyport-dev/sallyport/internal/inventory"
	"github.com/sallyport-dev/sallyport/internal/inventory/served"
	"github.com/sallyport-dev/sallyport/internal/snapshot"
	"github.com/sallyport-dev/sallyport/internal/source"
	"github.com/sallyport-dev/sallyport/internal/transport"
)

// Options of the controllers.
type Options struct {
	// Namespace is Sallyport's own: kubeconfig Secrets, orders, leases and the
	// state of the sync are there and nowhere else.
	Namespace string
	// MetricsAddr and ProbeAddr are addresses to listen on; "0" for none.
	MetricsAddr, ProbeAddr string
	// LeaderElect has one of several replicas work at a time.
	LeaderElect bool
	// Executor is the service account on members with whose rights OCM's work
	// agent applies; empty for the agent's own.
	Executor types.NamespacedName
	// EventsAddr is where Flux's notification-controller takes events; empty for
	// Kubernetes events only.
	EventsAddr string
	// Writers is how many writes to the hub may be under way at once.
	Writers int
	// Resync is how often members with a kubeconfig are looked at.
	Resync time.Duration
	// Grace is how long members may take to confirm a revocation before it is
	// called residual access.
	Grace time.Duration
	// GatewayNamespace is where routes to members are written for the gateway; empty
	// where there is no gateway. Then Impersonator means nothing.
	GatewayNamespace string
	// Impersonator is the service account on members as which the gateway comes.
	Impersonator types.NamespacedName
	// ExtraKeys are the keys by which the gateway tells members of a person's extra,
	// beside Kubernetes' own; to be as the gateway has them.
	ExtraKeys []string
	// RequireCeiling has namespaces without a ceiling grant nothing.
	RequireCeiling bool
	// WebhookAddr is where the admission webhook listens; "" or "0" for none.
	WebhookAddr string
	// WebhookCertDir has its tls.crt and tls.key; empty has them made.
	WebhookCertDir string
	// Reports and LegacyReports have policy reports written, of openreports.io and of
	// wgpolicyk8s.io, at most once per ReportInterval; 10 s if that is zero.
	Reports, LegacyReports bool
	ReportInterval         time.Duration
	// Git is the built-in sync; nil for none.
	Git *source.Options

	// WrapClient, where set, stands between the controllers and the hub. It is for
	// tests, which count writes and cut them off.
	WrapClient func(client.WithWatch) client.WithWatch
	// Unnamed lets several managers live in one process. It is for tests.
	Unnamed bool
}

// Scheme knows every type that the controllers read or write.
func Scheme() (*runtime.Scheme, error) {
	s := runtime.NewScheme()
	return s, errors.Join(clientgoscheme.AddToScheme(s), v1alpha1.AddToScheme(s), workv1.Install(s), inventory.AddToScheme(s), identity.AddToScheme(s))
}

// NewManager makes a manager that runs everything against the hub. It starts
// nothing.
func NewManager(config *rest.Config, o Options) (ctrl.Manager, error) {
	scheme, err := Scheme()
	if err != nil {
		return nil, fmt.Errorf("cannot register types: %w", err)
	}
	ours := cache.ByObject{Label: labels.SelectorFromSet(labels.Set{v1alpha1.ManagedByLabel: v1alpha1.ManagedByValue})}
	inNamespace := ours
	inNamespace.Namespaces = map[string]cache.Config{o.Namespace: {}}
	mgr, err := ctrl.NewManager(config, ctrl.Options{
		Scheme: scheme,
		Cache: cache.Options{
			DefaultTransform: cache.TransformStripManagedFields(),
			// Of what everybody has, only Sallyport's own is held.
			ByObject: map[client.Object]cache.ByObject{
				&rbacv1.ClusterRole{}: ours, &rbacv1.ClusterRoleBinding{}: ours, &corev1.ConfigMap{}: inNamespace,
			},
		},
		NewClient: func(config *rest.Config, co client.Options) (client.Client, error) {
			c, err := client.NewWithWatch(config, co)
			if err == nil && o.WrapClient != nil {
				c = o.WrapClient(c)
			}
			return c, err
		},
		Metrics:                       metricsserver.Options{BindAddress: o.MetricsAddr},
		HealthProbeBindAddress:        o.ProbeAddr,
		LeaderElection:                o.LeaderElect,
		LeaderElectionID:              "sallyport-controller",
		LeaderElectionNamespace:       o.Namespace,
		LeaderElectionReleaseOnCancel: true,
		Controller:                    ctrlconfig.Controller{SkipNameValidation: &o.Unnamed},
	})
	if err != nil {
		return nil, fmt.Errorf("cannot set up the controllers: %w", err)
	}
	if err := setup(mgr, o); err != nil {
		return nil, fmt.Errorf("cannot set up the controllers: %w", err)
	}
	return mgr, nil
}

func setup(mgr ctrl.Manager, o Options) error {
	kinds, err := served.New(mgr.GetConfig(), served.Options{Scheme: mgr.GetScheme()})
	if err != nil {
		return err
	}
	inventoryOptions := inventory.Options{Namespace: o.Namespace}
	if o.GatewayNamespace != "" {
		inventoryOptions.Impersonator, inventoryOptions.ExtraKeys = o.Impersonator, o.ExtraKeys
	}
	if err := kinds.Add(slices.Concat(inventory.Kinds(inventoryOptions), grant.CarrierKinds(), grant.SourceKinds(), audit.Kinds())...); err != nil {
		return err
	}
	if err := mgr.Add(kinds); err != nil {
		return err
	}
	// Several managers in one process would register the same metrics.
	var registry prometheus.Registerer
	if !o.Unnamed {
		registry = metrics.Registry
	}
	recorder, err := fluxevents.NewRecorder(mgr, mgr.GetLogger(), o.EventsAddr, "sallyport")
	if err != nil {
		return err
	}
	fleetInventory := inventory.New(kinds, inventoryOptions)
	auditor, err := audit.New(audit.Config{
		Client: mgr.GetClient(), Kinds: kinds, Reports: o.Reports, Legacy: o.LegacyReports, Metrics: registry, Every: o.ReportInterval,
	})
	if err != nil {
		return err
	}
	if err := mgr.Add(auditor); err != nil {
		return err
	}
	policy := snapshot.New(mgr.GetClient(), mgr.GetAPIReader(), o.Namespace, guardrail.Options{RequireCeiling: o.RequireCeiling})
	grants := &grant.Reconciler{
		Client: mgr.GetClient(), Live: mgr.GetAPIReader(), Kinds: kinds, Inventory: fleetInventory, Policy: policy,
		Carriers: map[fleet.Delivery]distribute.Carrier{
			fleet.ManifestWork: distribute.ManifestWorks{Executor: o.Executor},
			fleet.KarmadaWork:  distribute.KarmadaWorks{},
			fleet.Direct:       distribute.Direct{Namespace: o.Namespace},
		},
		Events: recorder, Now: time.Now, Writers: o.Writers, Grace: o.Grace, Audit: auditor.Publish,
	}
	if err := grants.SetupWithManager(mgr, kinds, inventoryOptions); err != nil {
		return err
	}
	descriptions := &member.Reconciler{Client: mgr.GetClient(), Inventory: fleetInventory, Namespace: o.Namespace}
	if err := descriptions.SetupWithManager(mgr, kinds, inventoryOptions); err != nil {
		return err
	}
	guardrails := &guardrailstatus.Reconciler{Client: mgr.GetClient(), Policy: policy, Events: recorder, Now: time.Now}
	if err := guardrails.SetupWithManager(mgr); err != nil {
		return err
	}
	bundles := &guardrailbundle.Reconciler{
		Client: mgr.GetClient(), Live: mgr.GetAPIReader(), Namespace: o.Namespace, Events: recorder, Now: time.Now, Metrics: registry,
	}
	if err := bundles.SetupWithManager(mgr); err != nil {
		return err
	}
	if o.WebhookAddr != "" && o.WebhookAddr != "0" {
		if err := admission.Setup(mgr, admission.Options{
			Addr: o.WebhookAddr, CertDir: o.WebhookCertDir, Namespace: o.Namespace,
			Policy: policy, Inventory: fleetInventory, Origin: grants.Origin, Metrics: registry,
		}); err != nil {
			return err
		}
	}
	agent := &direct.Reconciler{
		Client: mgr.GetClient(), Namespace: o.Namespace, Resync: o.Resync,
		Members: members{fleetInventory, transport.NewClients(kinds, o.Namespace)},
	}
	if err := agent.SetupWithManager(mgr); err != nil {
		return err
	}
	if o.GatewayNamespace != "" {
		if err := setupRoutes(mgr, o, kinds, fleetInventory, recorder, registry); err != nil {
			return err
		}
	}
	if o.Git != nil {
		if err := setupGit(mgr, o); err != nil {
			return err
		}
	}
	if err := mgr.AddHealthzCheck("ping", healthz.Ping); err != nil {
		return err
	}
	return mgr.AddReadyzCheck("caches", func(r *http.Request) error {
		ctx, cancel := context.WithTimeout(r.Context(), time.Second)
		defer cancel()
		if !mgr.GetCache().WaitForCacheSync(ctx) {
			return errors.New("the caches are not filled yet")
		}
		return nil
	})
}

// setupRoutes adds what the gateway needs to reach members.
func setupRoutes(mgr ctrl.Manager, o Options, kinds *served.Kinds, fleetInventory *inventory.Inventory, events record.EventRecorder, registry prometheus.Registerer) error {
	if o.Impersonator.Namespace == "" || o.Impersonator.Name == "" {
		return errors.New("a gateway needs an impersonator")
	}
	for _, key := range o.ExtraKeys {
		if err := rules.CheckExtraKey(key); err != nil {
			return err
		}
	}
	if o.GatewayNamespace == o.Namespace {
		return errors.New("the gateway needs a namespace of its own: it can read every Secret there")
	}
	if err := kinds.Add(identity.Kinds(o.Impersonator.Name)...); err != nil {
		return err
	}
	accounts := &identity.ManagedServiceAccounts{
		Inventory: fleetInventory, Client: mgr.GetClient(), Kinds: kinds, Secrets: mgr.GetAPIReader(), Now: time.Now,
	}
	routes := &route.Reconciler{
		Client: mgr.GetClient(), Live: mgr.GetAPIReader(), Inventory: fleetInventory, Accounts: accounts,
		Issuers: map[fleet.Issuer]identity.Issuer{
			fleet.KarmadaSecret:         &identity.KarmadaSecrets{Inventory: fleetInventory, Secrets: mgr.GetAPIReader(), Now: time.Now},
			fleet.ManagedServiceAccount: accounts,
			fleet.TokenRequest: &identity.TokenRequests{
				Secrets: kinds, Namespace: o.Namespace, Members: transport.NewAccountClients(kinds, o.Namespace), Now: time.Now,
			},
		},
		Namespace: o.GatewayNamespace, Impersonator: o.Impersonator.Name, Events: events, Now: time.Now, Metrics: registry,
	}
	return routes.SetupWithManager(mgr, kinds)
}

// setupGit adds the built-in sync. It reads past the cache, since it has to see
// its own writes.
func setupGit(mgr ctrl.Manager, o Options) error {
	live, err := client.NewWithWatch(mgr.GetConfig(), client.Options{Scheme: mgr.GetScheme(), Mapper: mgr.GetRESTMapper()})
	if err != nil {
		return err
	}
	if o.WrapClient != nil {
		live = o.WrapClient(live)
	}
	config := source.Config{Options: *o.Git, Client: live, Events: mgr.GetEventRecorder("sallyport-sync")}
	if !o.Unnamed {
		config.Metrics = metrics.Registry
	}
	syncer, err := source.New(config)
	if err != nil {
		return err
	}
	return mgr.Add(syncer)
}

// members finds the kubeconfig of a member by the fleet.
type members struct {
	inventory *inventory.Inventory
	clients   *transport.Clients
}

// Client implements direct.Members.
func (m members) Client(ctx context.Context, cluster string) (client.Client, error) {
	f, _, err := m.inventory.Fleet(ctx)
	if err != nil {
		return nil, err
	}
	member, ok := f.Get(cluster)
	if !ok || member.Secret == "" {
		return nil, fmt.Errorf("cluster %q has no kubeconfig Secret that can be used", cluster)
	}
	return m.clients.For(ctx, cluster, member.Secret)
}
