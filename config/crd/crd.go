// Package crd holds the CustomResourceDefinitions, for programs that read objects
// where there is no API server.
package crd

import "embed"

// Bases are the definitions, one a file, in the folder bases.
//
//go:embed bases/*.yaml
var Bases embed.FS
