package authz

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	kjson "sigs.k8s.io/json"

	"github.com/sallyport-dev/sallyport/internal/core/effective"
	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
)

const (
	group = "authorization.k8s.io/"
	kind  = "SubjectAccessReview"
)

// review is a SubjectAccessReview of either version, as much of it as decides: the two
// differ in the name of one field.
type review struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Spec       struct {
		Resource    *authorizationv1.ResourceAttributes    `json:"resourceAttributes"`
		NonResource *authorizationv1.NonResourceAttributes `json:"nonResourceAttributes"`
		User        string                                 `json:"user"`
		UID         string                                 `json:"uid"`
		Groups      []string                               `json:"groups"` // v1
		Group       []string                               `json:"group"`  // v1beta1
		Extra       map[string][]string                    `json:"extra"`
	} `json:"spec"`
}

// decode a review. An error is for the caller, and quotes nothing that was sent.
func decode(raw []byte) (*review, error) {
	var r review
	if err := kjson.UnmarshalCaseSensitivePreserveInts(raw, &r); err != nil {
		return nil, errors.New("the body is no SubjectAccessReview in JSON")
	}
	switch {
	case r.Kind != kind:
		return nil, errors.New("the body is of another kind than " + kind)
	case r.APIVersion != group+"v1" && r.APIVersion != group+"v1beta1":
		return nil, errors.New("the version of the SubjectAccessReview is neither v1 nor v1beta1")
	case (r.Spec.Resource == nil) == (r.Spec.NonResource == nil):
		return nil, errors.New("spec has to have one of resourceAttributes and nonResourceAttributes")
	case r.Spec.User == "":
		return nil, errors.New("spec.user is empty")
	}
	return &r, nil
}

// groups of the user, of whichever version.
func (r *review) groups() []string {
	if r.APIVersion == group+"v1" {
		return r.Spec.Groups
	}
	return r.Spec.Group
}

// request that is reviewed, as one to a cluster.
func (r *review) request(cluster string, at time.Time) *effective.Request {
	q := &effective.Request{
		User:    guardrail.User{Name: r.Spec.User, UID: r.Spec.UID, Groups: r.groups(), Extra: r.Spec.Extra},
		Cluster: cluster, At: at,
	}
	if a := r.Spec.Resource; a != nil {
		q.ResourceRequest, q.Verb = true, a.Verb
		q.APIGroup, q.APIVersion, q.Resource, q.Subresource = a.Group, a.Version, a.Resource, a.Subresource
		q.Namespace, q.Name = a.Namespace, a.Name
		return q
	}
	q.Verb, q.Path = r.Spec.NonResource.Verb, r.Spec.NonResource.Path
	return q
}

// answer to a review, in its own version. The zero answer has no opinion.
type answer struct {
	Allowed bool   `json:"allowed"`
	Denied  bool   `json:"denied,omitempty"`
	Reason  string `json:"reason,omitempty"`
}

// encode the answer to a review. Both denied and allowed is not to be had.
func (a answer) encode(to *review) ([]byte, error) {
	a.Allowed = a.Allowed && !a.Denied
	raw, err := json.Marshal(struct {
		APIVersion string `json:"apiVersion"`
		Kind       string `json:"kind"`
		Status     answer `json:"status"`
	}{to.APIVersion, kind, a})
	if err != nil {
		return nil, fmt.Errorf("cannot encode the answer: %w", err)
	}
	return raw, nil
}
