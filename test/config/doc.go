// Package config tests the install manifests against a real API server: that it
// takes them, and that Sallyport's own account may do what it must and no more.
package config
