package snapshot

import (
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
	"github.com/sallyport-dev/sallyport/internal/inventory"
	"github.com/sallyport-dev/sallyport/internal/inventory/served"
)

// Options of NewManager.
type Options struct {
	// Namespace is Sallyport's own, where the archives of bundles and the descriptions
	// of members are. No Secret in it is read.
	Namespace string
	// MetricsAddr and ProbeAddr are addresses to listen on; "0" for none.
	MetricsAddr, ProbeAddr string
	// RequireCeiling has namespaces without a ceiling grant nothing. It is to be as the
	// controller has it.
	RequireCeiling bool
	// MaxStaleness is for how long to decide by what is known while the hub does not
	// confirm it: DefaultMaxStaleness if zero, for ever if negative.
	MaxStaleness time.Duration
	// Metrics may be nil.
	Metrics prometheus.Registerer
	// Cached are further kinds to cache, and how much of them.
	Cached map[client.Object]cache.ByObject
	// Clock is the real one if nil.
	Clock clock.Clock
	// WrapClient, where set, stands between the Access and what it reads live. It is for
	// tests, which cut it off.
	WrapClient func(client.Reader) client.Reader
}

// Live reads are few, a handful for each build. The hub's own priority and fairness
// keeps them in bounds, and client-go's default of 20 a second would delay them.
const (
	qps   = 200
	burst = 400
)

// Scheme knows every type that an Access reads.
func Scheme() (*runtime.Scheme, error) {
	s := runtime.NewScheme()
	return s, errors.Join(clientgoscheme.AddToScheme(s), metav1.AddMetaToScheme(s), v1alpha1.AddToScheme(s), inventory.AddToScheme(s))
}

// NewManager makes a manager with an Access to the hub that config reaches, for who
// decides on requests. It elects no leader, needs rights to read only (see rbac.go),
// and is ready when the Access is. It starts nothing.
func NewManager(config *rest.Config, o Options) (ctrl.Manager, *Access, error) {
	scheme, err := Scheme()
	if err != nil {
		return nil, nil, fmt.Errorf("cannot register types: %w", err)
	}
	if config.QPS == 0 {
		config = rest.CopyConfig(config)
		config.QPS, config.Burst = qps, burst
	}
	// Of the hub's roles, only those that the controller made.
	cached := map[client.Object]cache.ByObject{
		&rbacv1.ClusterRole{}: {Label: labels.SelectorFromSet(labels.Set{v1alpha1.ManagedByLabel: v1alpha1.ManagedByValue})},
		namespaceMetadata():   {Transform: onlyLabels},
	}
	maps.Copy(cached, o.Cached)
	mgr, err := ctrl.NewManager(config, ctrl.Options{
		Scheme:                 scheme,
		Cache:                  cache.Options{DefaultTransform: cache.TransformStripManagedFields(), ByObject: cached},
		Metrics:                metricsserver.Options{BindAddress: o.MetricsAddr},
		HealthProbeBindAddress: o.ProbeAddr,
	})
	if err != nil {
		return nil, nil, fmt.Errorf("cannot set up what reads the hub: %w", err)
	}
	access, err := setup(mgr, o)
	if err != nil {
		return nil, nil, fmt.Errorf("cannot set up what reads the hub: %w", err)
	}
	return mgr, access, nil
}

func setup(mgr ctrl.Manager, o Options) (*Access, error) {
	kinds, err := served.New(mgr.GetConfig(), served.Options{Scheme: mgr.GetScheme()})
	if err != nil {
		return nil, err
	}
	inventoryOptions := inventory.Options{Namespace: o.Namespace}
	inventoryKinds := inventory.PublicKinds(inventoryOptions)
	if err := kinds.Add(inventoryKinds...); err != nil {
		return nil, err
	}
	if err := mgr.Add(kinds); err != nil {
		return nil, err
	}
	m, err := newMetrics(o.Metrics)
	if err != nil {
		return nil, err
	}
	live := mgr.GetAPIReader()
	if o.WrapClient != nil {
		live = o.WrapClient(live)
	}
	c := accessConfig{
		world: &world{
			cache: mgr.GetCache(), live: live, inventory: inventory.NewPublic(kinds, inventoryOptions),
			policy: New(mgr.GetCache(), live, o.Namespace, guardrail.Options{RequireCeiling: o.RequireCeiling}),
		},
		clock: o.Clock, staleness: o.MaxStaleness, metrics: m,
		watch: watchHub(mgr.GetCache(), kinds, inventoryKinds),
	}
	if c.clock == nil {
		c.clock = clock.RealClock{}
	}
	a := newAccess(c)
	return a, errors.Join(mgr.Add(a), mgr.AddHealthzCheck("ping", healthz.Ping), mgr.AddReadyzCheck("access", a.Ready))
}

// onlyLabels keeps of a namespace what guardrails match it by.
func onlyLabels(o any) (any, error) {
	if m, ok := o.(*metav1.PartialObjectMetadata); ok {
		m.Annotations, m.ManagedFields, m.OwnerReferences, m.Finalizers = nil, nil, nil, nil
	}
	return o, nil
}
