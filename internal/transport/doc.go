// Package transport is how members are reached: by the controller, and by people through
// the gateway.
//
// The two share nothing. FromSecret is the only constructor of the controller's clients.
// It takes from a kubeconfig an address, a CA and a credential, and refuses everything
// else that a kubeconfig can ask of the program that loads it: to run a command, to read a
// file, to skip verification, to be somebody else.
//
// Members hold the routes of the gateway, each made of one route Secret. What goes by them
// is on behalf of exactly one person, with the credential of the member's impersonator.
// Each member has connections of its own and a breaker of its own: one that is down is
// answered for at once, and harms no other. A member that nobody but its agent can reach
// is dialled by ClusterProxy.
//
// Nothing falls back to another credential, least of all to Sallyport's own.
package transport
