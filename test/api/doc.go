// Package api tests the CRDs against a real API server: what people get wrong is
// refused there, with an error that names the field.
package api
