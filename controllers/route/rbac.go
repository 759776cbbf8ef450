package route

// What Sallyport may do on the hub so that the gateway has routes, and why. Rights on
// Secrets in the gateway's namespace are in config/gateway/routes, and those on Karmada's
// Secrets in config/components/karmada-routes: each is of one namespace.

// Open Cluster Management's add-on makes the impersonator and brings its token. That
// one account, and that one Secret, by their name.
// +kubebuilder:rbac:groups=authentication.open-cluster-management.io,resources=managedserviceaccounts,verbs=create
// +kubebuilder:rbac:groups=authentication.open-cluster-management.io,resources=managedserviceaccounts,resourceNames=sallyport-impersonator,verbs=get;list;watch;update;delete
// +kubebuilder:rbac:groups="",resources=secrets,resourceNames=sallyport-impersonator,verbs=get

// Events about routes, in the gateway's namespace.
// +kubebuilder:rbac:groups="";events.k8s.io,resources=events,verbs=create;patch
