// Package clusters serves clusters.proxy.sallyport.dev: the members of the fleet that
// the person who asks has an active grant on, and no others. A cluster that they may
// not reach is one that does not exist.
//
// Nothing is stored. A list is made of the index of the moment. A watch makes it anew
// with each index, and tells what differs for that one person.
//
// Resource versions are this process's own: they count up from the nanosecond in which it
// began, so that no two replicas give out the same. A watch goes on from a version that
// this process gave to the same person a little while ago. Of any other, another
// replica's first of all, it says that it has expired (410), and clients list again.
package clusters
