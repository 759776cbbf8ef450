package served

import (
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/runtime/schema"
)

// answer is what the hub said of one group version.
type answer struct {
	// resources that it serves; nil where it has no such group version.
	resources map[string]bool
	// failed says why there was no answer.
	failed error
}

// facts about a kind at one instant.
type facts struct {
	// answers for the kind's versions, in order of preference.
	answers []answer
	// defined: there is a CustomResourceDefinition of the kind's name.
	defined bool
	// aggregated is the name of an APIService that sends one of the versions to
	// another API server; "" where there is none.
	aggregated string
}

// verdict on a kind: the version in which it is served, or that it is absent,
// or a doubt.
type verdict struct {
	served schema.GroupVersion
	absent bool
	doubt  string
}

// decide is where silence is told from absence. A version in use is kept while
// it is served, so that a new one on the hub does not relist everything.
func decide(k Kind, inUse schema.GroupVersion, f facts) verdict {
	var first schema.GroupVersion
	var failed error
	answered := false
	for i, gv := range k.versions() {
		a := f.answers[i]
		switch {
		case a.failed != nil:
			failed = a.failed
		case a.resources[k.Resource]:
			if gv == inUse {
				return verdict{served: gv}
			}
			if first.Empty() {
				first = gv
			}
		case a.resources != nil:
			answered = true
		}
	}
	switch {
	case failed != nil && (first.Empty() || !inUse.Empty()):
		// The version in use may be the one that did not answer.
		return verdict{doubt: fmt.Sprintf("its API does not answer: %v", failed)}
	case !first.Empty():
		return verdict{served: first}
	case f.defined:
		return verdict{doubt: fmt.Sprintf("its CustomResourceDefinition exists, but version %s is not served", versionNames(k))}
	case f.aggregated != "" && !answered:
		return verdict{doubt: fmt.Sprintf("APIService %q exists, but does not answer", f.aggregated)}
	}
	return verdict{absent: true}
}

func versionNames(k Kind) string {
	var names []string
	for _, gv := range k.versions() {
		names = append(names, gv.Version)
	}
	return strings.Join(names, " or ")
}
