// Package inventory reads the fleet from what the hub knows of it: Open Cluster
// Management's ManagedClusters and Placements, Karmada's Clusters,
// ClusterProfiles, and kubeconfig Secrets in Sallyport's own namespace.
//
// Each inventory is used where the hub serves it; package served tells. An
// inventory that cannot be read is an error or a Problem, never an empty one,
// since a cluster that is missing from the fleet is revoked.
//
// Whose word is taken for what:
//   - ManagedCluster and Cluster are cluster-scoped, and written by whoever
//     administers the hub.
//   - A ClusterProfile is namespaced. Its labels decide which grants select it,
//     so only those in namespaces that Sallyport was told of are read.
//   - A Secret is a credential, and is read from Sallyport's own namespace only.
//   - A PlacementDecision decides which clusters a grant reaches. See Placements
//     for what it must have before it is believed.
package inventory
