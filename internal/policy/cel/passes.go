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

// pass of a request. A cluster is immutable, and this one until it is forgotten.
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

// rememberable reports whether an input is one of a request and nothing else, which
// passes take for granted.
func rememberable(in *guardrail.Input) bool {
	return in.Request != nil && in.Grant == nil && in.Namespace == nil && in.Roles == nil && in.Access == nil &&
		in.Clusters == nil && in.Source == nil && in.Version == guardrail.InputVersion
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
	if len(key) > longestPass {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.all) >= mostPasses {
		clear(p.all) // what is asked over and over is soon there again
	}
	p.all[pass{p.cluster(r), string(key)}] = struct{}{}
}
