// Package transport makes the clients that reach members directly.
//
// FromSecret is the only constructor of their configuration. It takes from a
// kubeconfig an address, a CA and a credential, and refuses everything else that
// a kubeconfig can ask of the program that loads it: to run a command, to read a
// file, to skip verification, to be somebody else. Nothing falls back to another
// credential, least of all to Sallyport's own.
package transport
