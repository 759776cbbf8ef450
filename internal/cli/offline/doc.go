// Package offline reads from files what a hub would hold: grants, roles, guardrails,
// exceptions, bundles and the fleet, for commands that judge without one. What the hub
// would not take is told as findings.
package offline
