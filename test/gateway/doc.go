// Package gateway tests Sallyport's gateway as what it is: a process beside a real hub,
// as config/ has it, with its rights and no others, in front of two real members. People
// come with plain kubectl, through the hub and directly.
//
// Only the kubelet is played: see test/tools/kubelet.
package gateway
