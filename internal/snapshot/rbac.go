package snapshot

// What an Access reads on the hub, and why: the rights of gateway and authorizer. It
// writes nothing, and reads no Secret. controller-gen makes a ClusterRole and, in
// Sallyport's own namespace, a Role of this.

// Who may do what, and the guardrails that judge it. Beside watching them, they are
// listed live: guardrails after each change, and grants and roles every few minutes to
// find out whether a watch has been silent.
// +kubebuilder:rbac:groups=access.sallyport.dev,resources=accessgrants;accessroles,verbs=get;list;watch
// +kubebuilder:rbac:groups=access.sallyport.dev,resources=guardrails;guardrailbundles;guardrailexceptions,verbs=get;list;watch

// Guardrails are for namespaces by their labels, of which nothing else is kept.
// +kubebuilder:rbac:groups="",resources=namespaces,verbs=get;list;watch

// Where a suspended grant, or one that cannot be judged, stands. Of all ClusterRoles
// only those with Sallyport's label are asked for.
// +kubebuilder:rbac:groups=rbac.authorization.k8s.io,resources=clusterroles,verbs=get;list;watch

// The fleet, and the clusters that Placements have decided on.
// +kubebuilder:rbac:groups=cluster.open-cluster-management.io,resources=managedclusters;managedclustersets;managedclustersetbindings;placements;placementdecisions,verbs=get;list;watch
// +kubebuilder:rbac:groups=addon.open-cluster-management.io,resources=managedclusteraddons,verbs=get;list;watch
// +kubebuilder:rbac:groups=cluster.karmada.io,resources=clusters,verbs=get;list;watch
// +kubebuilder:rbac:groups=multicluster.x-k8s.io,resources=clusterprofiles,verbs=get;list;watch

// Which of these kinds the hub serves.
// +kubebuilder:rbac:groups=apiextensions.k8s.io,resources=customresourcedefinitions,verbs=get;list;watch
// +kubebuilder:rbac:groups=apiregistration.k8s.io,resources=apiservices,verbs=get;list;watch

// The archives of bundles that were accepted, and the descriptions of members that only
// a kubeconfig tells of.
// +kubebuilder:rbac:groups="",namespace=sallyport-system,resources=configmaps,verbs=get;list;watch
