package cel

import (
	"sync"

	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
)

// mostPasses is how many requests a policy remembers that it let pass, and longestPass
// how much of one.
const (
	mostPasses  = 1024
	longestPass = 512
)

// passes are requests that a policy let pass, each by all that it can look at. Most
// policies look at verb and resource, of which a fleet has few, and are evaluated a few
// times rather than for each request. Only what was passed is remembered, and only where
// neither the instant nor the grants were looked at on the way: the evaluation is a
// function of the rest, and would be the same again.
type passes struct {
	reads reads
	mu    sync.RWMutex
	all   map[pass]struct{}
}

// pass of a request. A cluster is immutable, and its place is that of no other as long as
// the pass is remembered.
type pass struct {
	cluster *guardrail.Cluster
	key     string
}

// newPasses is nil for a policy that may look at anything.
func newPasses(of reads) *passes {
	if of.anything {
		return nil
	}
	return &passes{reads: of, all: map[pass]struct{}{}}
}

// rememberable reports whether an input is of a request and has nothing of a grant, which
// passes take for granted. A cluster of which nobody knows what it is has a place of its
// own for each request, which would fill the memory and be found by none.
func (p *passes) rememberable(in *guardrail.Input) bool {
	return p != nil && in.Request != nil &&
		in.Grant == nil && in.Namespace == nil && in.Roles == nil && in.Access == nil && in.Clusters == nil && in.Source == nil &&
		(!p.reads.cluster || in.Request.Cluster != nil && in.Request.Cluster.Labels != nil)
}

func (p *passes) cluster(r *guardrail.RequestInfo) *guardrail.Cluster {
	if p.reads.cluster {
		return r.Cluster
	}
	return nil
}

// has reports whether a request with that key has been passed.
func (p *passes) has(r *guardrail.RequestInfo, key []byte) bool {
	cluster := p.cluster(r)
	p.mu.RLock()
	defer p.mu.RUnlock()
	_, ok := p.all[pass{cluster, string(key)}]
	return ok
}

func (p *passes) add(r *guardrail.RequestInfo, key []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.all) >= mostPasses {
		clear(p.all) // what is asked over and over is soon there again
	}
	p.all[pass{p.cluster(r), string(key)}] = struct{}{}
}
