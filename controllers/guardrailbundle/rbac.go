package guardrailbundle

// What it takes beside the rights in Sallyport's own namespace, where the archives
// are. A ConfigMap of another namespace is read only where somebody gives Sallyport
// a Role there.

// Of a bundle only the status is written.
// +kubebuilder:rbac:groups=access.sallyport.dev,resources=guardrailbundles,verbs=get;list;watch
// +kubebuilder:rbac:groups=access.sallyport.dev,resources=guardrailbundles/status,verbs=get;update;patch

// Where the artifact of a Flux source is.
// +kubebuilder:rbac:groups=source.toolkit.fluxcd.io,resources=ocirepositories;gitrepositories;buckets,verbs=get

// Events about bundles.
// +kubebuilder:rbac:groups="";events.k8s.io,resources=events,verbs=create;patch
