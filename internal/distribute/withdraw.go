package distribute

import "sigs.k8s.io/controller-runtime/pkg/client"

// Withdrawer is a Carrier whose agent confirms without saying what. Else an update
// would count as confirmed by the word that was given for what it replaces.
type Withdrawer interface {
	// Withdraw returns live as its status is to be before live becomes want, or nil
	// if there is nothing to withdraw.
	Withdraw(live, want client.Object) client.Object
}
