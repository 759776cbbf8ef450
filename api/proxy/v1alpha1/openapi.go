package v1alpha1

const model = "dev.sallyport.proxy.v1alpha1."

// OpenAPIModelName is the name of the kind's schema.
func (Cluster) OpenAPIModelName() string { return model + "Cluster" }

// OpenAPIModelName is the name of the kind's schema.
func (ClusterList) OpenAPIModelName() string { return model + "ClusterList" }

// OpenAPIModelName is the name of the type's schema.
func (ClusterStatus) OpenAPIModelName() string { return model + "ClusterStatus" }

// OpenAPIModelName is the name of the type's schema.
func (ClusterGrant) OpenAPIModelName() string { return model + "ClusterGrant" }
