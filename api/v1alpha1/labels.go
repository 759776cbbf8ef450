package v1alpha1

// Labels and annotations on what Sallyport makes, and on grants.
const (
	// ManagedByLabel with ManagedByValue is on every object that Sallyport makes,
	// and nothing without it is ever changed or deleted.
	ManagedByLabel = "app.kubernetes.io/managed-by"
	// ManagedByValue is Sallyport's name in ManagedByLabel.
	ManagedByValue = "sallyport"

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
)
