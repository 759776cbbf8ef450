package compile

import "k8s.io/apimachinery/pkg/types"

var karmadaImpersonator = types.NamespacedName{Namespace: "karmada-cluster", Name: "karmada-impersonator"}
