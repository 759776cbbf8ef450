// Package lint tests the linter's configuration: that the direction of imports and
// the purity of the core are enforced, not only written down.
package lint
