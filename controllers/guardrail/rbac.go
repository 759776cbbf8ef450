package guardrail

// What the policy is made of is read, and only its status is written: who may judge
// is not to be changed by what is judged.
// +kubebuilder:rbac:groups=access.sallyport.dev,resources=guardrails;guardrailexceptions,verbs=get;list;watch
// +kubebuilder:rbac:groups=access.sallyport.dev,resources=guardrails/status;guardrailexceptions/status,verbs=get;update;patch
