package compile

import (
	"k8s.io/apimachinery/pkg/types"

	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
)

var karmadaImpersonator = types.NamespacedName{Namespace: "karmada-cluster", Name: "karmada-impersonator"}

// unguarded is a policy that lets everything pass.
var unguarded = guardrail.NewSet(nil, nil, guardrail.Options{})
