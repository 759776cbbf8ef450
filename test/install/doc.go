// Package install puts Sallyport on a hub of the harness as config/ has it. There is
// no kubelet, so that a Deployment brings no pods: each of its programs is a process
// of the binary that is built here, as the service account of config/, with its rights
// and no others, and Services lead to this machine. Demo, benchmarks and end-to-end
// tests share it.
package install
