package rego

import (
	_ "embed"
	"maps"
)

//go:embed lib/rbac.rego
var rbac string

// reserved is the first part of the package names of the library. Policies and
// their data have others.
const reserved = "sallyport"

// Library is the source of the modules that each policy may import, by file name.
// Bundles ship it, so that opa can run their policies too.
func Library() map[string]string { return maps.Clone(library) }

var library = map[string]string{"sallyport/rbac.rego": rbac}
