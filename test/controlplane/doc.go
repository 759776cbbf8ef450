// Package controlplane runs real Kubernetes control planes, and the real peers of Sallyport, as plain processes on one
// machine: etcd, a hub, any number of members, and on request the agents of Open Cluster Management, Karmada and Flux.
// The end-to-end tests and the demo share it. No container runtime, kubelet or network beyond loopback is needed.
//
// Trade-offs:
//   - One etcd serves all clusters, each under a key prefix of its own, and does not fsync. A hub and two members are
//     ready in a few seconds, and a power cut loses them. It asks nobody on this machine for a credential: put no secret
//     into these clusters.
//   - Everything else is separate for each cluster, as in life: certificate authorities, ServiceAccount keys, users.
//     A credential of one cluster is worth nothing on another.
//   - There is no node. Pods can be created and are never run. Where exec, logs and port-forward matter, StartKubelet brings
//     a stand-in for a kubelet: the one thing here that is not real, since no container can run.
//   - A member without a controller manager (the default) gives no default ServiceAccounts, collects no garbage and never
//     finishes the deletion of a namespace, but starts sooner and takes about 100 MB less.
//   - No registration agent runs: the harness writes the ManagedCluster, Cluster and credentials that registration would
//     have left behind, with the same, least, privileges.
//
// Processes die with their parent, also when that is killed, unless Options.Detach is set.
package controlplane
