package grant

// What Sallyport may do on the hub, and why. "make generate" makes config/rbac/role.yaml
// of this. Rights in Sallyport's own namespace are in config/rbac/namespaced.yaml;
// those that only the built-in Git sync needs are in config/components/git-sync.
//
// It must never hold escalate, bind, impersonate or a star, nor read Secrets
// outside its own namespace, but for one name (controllers/route): test/config asks
// the API server.

// Grants and roles are read; of a grant only the finalizer, by which a deleted
// one stays in sight until it is revoked everywhere, and the status are written.
// +kubebuilder:rbac:groups=access.sallyport.dev,resources=accessgrants,verbs=get;list;watch;update;patch
// +kubebuilder:rbac:groups=access.sallyport.dev,resources=accessgrants/status,verbs=get;update;patch
// +kubebuilder:rbac:groups=access.sallyport.dev,resources=accessgrants/finalizers,verbs=update
// +kubebuilder:rbac:groups=access.sallyport.dev,resources=accessroles,verbs=get;list;watch

// Guardrails judge grants, by the labels of their namespaces among other things. Only
// the labels are held.
// +kubebuilder:rbac:groups=access.sallyport.dev,resources=guardrails;guardrailbundles;guardrailexceptions,verbs=get;list;watch
// +kubebuilder:rbac:groups="",resources=namespaces,verbs=get;list;watch

// The hub side of a grant: ClusterRoles on clusters/proxy and their bindings.
// +kubebuilder:rbac:groups=rbac.authorization.k8s.io,resources=clusterroles;clusterrolebindings,verbs=get;list;watch;create;update;patch;delete

// The API server refuses a role that gives more than its author holds. So
// Sallyport holds what it hands out, every verb that a request through the proxy
// can have, and with it can make no role that gives anything else.
// +kubebuilder:rbac:groups=proxy.sallyport.dev;cluster.karmada.io,resources=clusters/proxy,verbs=get;create;update;patch;delete

// The fleet: Open Cluster Management, Karmada, ClusterProfile.
// +kubebuilder:rbac:groups=cluster.open-cluster-management.io,resources=managedclusters;managedclustersets;managedclustersetbindings;placements;placementdecisions,verbs=get;list;watch
// +kubebuilder:rbac:groups=addon.open-cluster-management.io,resources=managedclusteraddons,verbs=get;list;watch
// +kubebuilder:rbac:groups=cluster.karmada.io,resources=clusters,verbs=get;list;watch
// +kubebuilder:rbac:groups=multicluster.x-k8s.io,resources=clusterprofiles,verbs=get;list;watch

// The member side of a grant, carried by the fleet's own agents. execute-as is
// asked for by the OCM webhook where works name an executor.
// +kubebuilder:rbac:groups=work.open-cluster-management.io,resources=manifestworks,verbs=get;list;watch;create;update;patch;delete;execute-as
// +kubebuilder:rbac:groups=work.karmada.io,resources=works,verbs=get;list;watch;create;update;patch;delete
// The status of Karmada's Work does not say of which generation it is, so that its
// condition is withdrawn before a Work is changed.
// +kubebuilder:rbac:groups=work.karmada.io,resources=works/status,verbs=patch

// Where a grant came from: the object of Flux or Argo CD that applied it.
// +kubebuilder:rbac:groups=kustomize.toolkit.fluxcd.io,resources=kustomizations,verbs=get;list;watch
// +kubebuilder:rbac:groups=helm.toolkit.fluxcd.io,resources=helmreleases,verbs=get;list;watch
// +kubebuilder:rbac:groups=argoproj.io,resources=applications,verbs=get;list;watch

// Which of the above the hub serves: a CRD or an aggregated API that appears
// later is picked up without a restart.
// +kubebuilder:rbac:groups=apiextensions.k8s.io,resources=customresourcedefinitions,verbs=get;list;watch
// +kubebuilder:rbac:groups=apiregistration.k8s.io,resources=apiservices,verbs=get;list;watch

// Events about grants, in the namespaces of the grants.
// +kubebuilder:rbac:groups="";events.k8s.io,resources=events,verbs=create;patch
