package audit

import (
	"k8s.io/apimachinery/pkg/types"

	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
)

// Audit is everything that stands, judged. It is not changed once published.
type Audit struct {
	// Grants that stand, each once, in any order.
	Grants []Grant
	// Guardrails in force, those that cannot be evaluated included.
	Guardrails []*guardrail.Guardrail
	// Bundles of guardrails.
	Bundles []Bundle
}

// Grant is one that stands, with what guardrails make of it.
type Grant struct {
	Namespace, Name string
	UID             types.UID
	// Revision is the commit that brought it, where that is known.
	Revision  string
	Judgement guardrail.Judgement
}

// Bundle is a GuardrailBundle.
type Bundle struct {
	Name string
	// Err says why there is none in force, or not the latest.
	Err error
}
