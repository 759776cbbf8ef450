// Package direct is the agent of members that have neither Open Cluster
// Management's work agent nor Karmada's: it does with a kubeconfig what these do
// with theirs. It reads orders, the ConfigMaps of distribute.Direct, applies them
// to the member by server-side apply, takes away what is no longer ordered, and
// reports on the same ConfigMap.
//
// What may stand on a member is written down before it is applied, and struck out
// after it is gone, so that nothing is orphaned whatever is killed when. Drift is
// looked for at an interval, since no watch is kept on the members.
package direct
