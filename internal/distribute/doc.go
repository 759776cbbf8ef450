// Package distribute carries compiled objects to members.
//
// Every way of delivery is the same shape: an object on the hub, the carrier,
// holds what a member should hold; an agent near the member makes it so and
// reports on the carrier; deleting the carrier takes everything away, and a
// finalizer keeps it in sight until the agent has confirmed. So the hub always
// knows what may stand on a member, whatever was killed when, and no state is
// kept anywhere else.
//
//   - ManifestWork: Open Cluster Management's work agent, one carrier per work.
//   - Work: Karmada's execution controller, one carrier per object, since that
//     controller never deletes a manifest which an update takes out of a Work.
//   - Direct: a ConfigMap in Sallyport's namespace, with Sallyport's own
//     controllers/direct as the agent.
//
// The functions here are pure; controllers do the reading and writing.
package distribute
