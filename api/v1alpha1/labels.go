package v1alpha1

// Labels and annotations on what Sallyport makes, and on grants.
const (
	// ManagedByLabel with ManagedByValue is on every object that Sallyport makes,
	// and nothing without it is ever changed or deleted.
	ManagedByLabel = "app.kubernetes.io/managed-by"
	// ManagedByValue is Sallyport's name in ManagedByLabel.
	ManagedByValue = "sallyport"

	// SyncManagedByValue is the built-in Git sync's name in ManagedByLabel, on what
	// it applied.
	SyncManagedByValue = "sallyport-sync"

	// GrantLabelPrefix begins the labels that name the grants behind an object:
	// one label per grant, GrantLabelPrefix + the first 20 hexadecimal digits of
	// the SHA-256 of namespace/name, with the grant's namespace as the value.
	// GrantsAnnotation spells the grants out.
	GrantLabelPrefix = "grant.access.sallyport.dev/"

	// MoreGrantsLabel is on an object that has more grants behind it than it has
	// labels for.
	MoreGrantsLabel = "access.sallyport.dev/more-grants"

	// GrantsAnnotation lists the grants behind an object as namespace/name,
	// sorted, divided by commas. A list
	// that is too long for an annotation ends with "…".
	GrantsAnnotation = "access.sallyport.dev/grants"

	// SourcesAnnotation lists the commits behind an object, sorted, divided by
	// commas.
	SourcesAnnotation = "access.sallyport.dev/sources"

	// RevisionAnnotation and AuthorAnnotation on a grant name the commit that
	// last changed it and that commit's author. The built-in sync sets them.
	RevisionAnnotation = "access.sallyport.dev/revision"
	AuthorAnnotation   = "access.sallyport.dev/author"

	// SyncAnnotation names the built-in sync that applied an object, as the
	// namespace/name of the ConfigMap that has its state.
	SyncAnnotation = "access.sallyport.dev/sync"

	// ClusterLabel on a Secret in Sallyport's own namespace names the member of the
	// fleet that the kubeconfig in it reaches.
	ClusterLabel = "access.sallyport.dev/cluster"

	// FleetLabelPrefix begins the labels of such a Secret that are labels of the
	// member: fleet.access.sallyport.dev/env=prod gives the member env=prod.
	FleetLabelPrefix = "fleet.access.sallyport.dev/"

	// FleetLabelsAnnotation on such a Secret gives the member further labels, for
	// keys that have a prefix of their own: key=value, divided by commas.
	FleetLabelsAnnotation = "fleet.access.sallyport.dev/labels"
)

// What a route Secret in the gateway's namespace has: how the gateway reaches one
// member, and nothing by which anything could be delivered there. The controller
// writes it, with ManagedByLabel and ClusterLabel; the gateway reads no others.
const (
	// RouteNamePrefix begins its name; the rest is the cluster's.
	RouteNamePrefix = "route-"

	// RouteSecretType is its type.
	RouteSecretType = "access.sallyport.dev/route"

	// RouteServer is the key of the member's address: an https URL with a host, and
	// perhaps a path.
	RouteServer = "server"

	// RouteCA is the key of the CA bundle, in PEM, that the member's certificate is
	// verified by.
	RouteCA = "ca.crt"

	// RouteServerName is the optional key of the name that the certificate is for, if
	// it is not the host.
	RouteServerName = "tls-server-name"

	// RouteToken is the key of the token of the impersonator on the member.
	RouteToken = "token"

	// RouteVia is the optional key of how the host is dialled: RouteViaClusterProxy,
	// or directly where it is absent.
	RouteVia = "via"

	// RouteViaClusterProxy: by the konnectivity tunnels of Open Cluster Management's
	// cluster-proxy, in which the host is the cluster's name.
	RouteViaClusterProxy = "ClusterProxy"

	// RouteExpiresAnnotation is when the token expires, in RFC 3339. It is absent for
	// one that does not.
	RouteExpiresAnnotation = "access.sallyport.dev/expires"

	// RouteRenewAnnotation is when the controller replaces the token, in RFC 3339.
	RouteRenewAnnotation = "access.sallyport.dev/renew"

	// RouteImpersonatorAnnotation is the service account on the member that the token
	// is of, as namespace/name and, where it is known, "@" and its UID.
	RouteImpersonatorAnnotation = "access.sallyport.dev/impersonator"

	// RouteIssuerAnnotation is where the token is from: TokenRequest,
	// ManagedServiceAccount or KarmadaSecret.
	RouteIssuerAnnotation = "access.sallyport.dev/issuer"
)
