package inventory

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/internal/core/fleet"
	"github.com/sallyport-dev/sallyport/internal/core/subject"
	"github.com/sallyport-dev/sallyport/internal/transport"
)

// secretSource names a Secret in a Problem.
func secretSource(namespace, name string) string { return "Secret " + namespace + "/" + name }

// fromSecret is the member that a kubeconfig Secret makes, whether it is in the
// fleet, and what is wrong with it. Refusal says why the kubeconfig is not used;
// nil if it is.
//
// A Secret that is refused keeps its member in the fleet, unavailable: nothing
// can be delivered there, since transport refuses the Secret too, and a slip in
// an edit of it must not look like the cluster's removal, which would revoke.
func fromSecret(s *corev1.Secret, refusal error) (fleet.Member, bool, []string) {
	name := s.Labels[v1alpha1.ClusterLabel]
	if !s.DeletionTimestamp.IsZero() {
		return fleet.Member{}, false, nil
	}
	if wrong := validation.IsDNS1123Subdomain(name); len(wrong) > 0 {
		return fleet.Member{}, false, []string{fmt.Sprintf("label %s: %q is no name of a cluster", v1alpha1.ClusterLabel, name)}
	}
	m := fleet.Member{
		Name: name, Accepted: true, Delivery: fleet.Direct, Paths: subject.Gateway, Secret: s.Name,
	}
	var problems []string
	m.Labels, problems = memberLabels(s)
	if refusal != nil {
		m.Availability = fleet.Unavailable
		problems = append(problems, "not used: "+refusal.Error())
	}
	return m, true, problems
}

// memberLabels are the labels that a Secret gives its member: those of the
// annotation first, then those with the prefix.
func memberLabels(s *corev1.Secret) (map[string]string, []string) {
	var labels map[string]string
	var problems []string
	add := func(where, key, value string) {
		if len(validation.IsQualifiedName(key)) > 0 || len(validation.IsValidLabelValue(value)) > 0 {
			problems = append(problems, fmt.Sprintf("%s: %q is no label", where, key+"="+value))
			return
		}
		if labels == nil {
			labels = map[string]string{}
		}
		labels[key] = value
	}
	for pair := range strings.SplitSeq(s.Annotations[v1alpha1.FleetLabelsAnnotation], ",") {
		if pair = strings.TrimSpace(pair); pair != "" {
			key, value, _ := strings.Cut(pair, "=")
			add("annotation "+v1alpha1.FleetLabelsAnnotation, key, value)
		}
	}
	for name, value := range s.Labels {
		if key, ok := strings.CutPrefix(name, v1alpha1.FleetLabelPrefix); ok {
			add("label "+name, key, value)
		}
	}
	slices.Sort(problems)
	return labels, problems
}

// checks remembers which kubeconfigs are refused, and why. Parsing them and
// their certificates takes a millisecond each, and they rarely change. The zero
// value is ready.
type checks struct {
	mu   sync.Mutex
	done map[types.UID]check
}

type check struct {
	resourceVersion string
	refusal         error
}

// kubeconfig says why the Secret's kubeconfig is refused; nil if it is not.
func (c *checks) kubeconfig(s *corev1.Secret) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if seen, ok := c.done[s.UID]; ok && s.UID != "" && seen.resourceVersion == s.ResourceVersion {
		return seen.refusal
	}
	_, err := transport.FromSecret(s)
	if refused := (*transport.Refusal)(nil); errors.As(err, &refused) {
		err = errors.New(refused.Why()) // the Problem names the Secret
	}
	if c.done == nil {
		c.done = map[types.UID]check{}
	}
	c.done[s.UID] = check{resourceVersion: s.ResourceVersion, refusal: err}
	return err
}

// forgetOthers drops what is not among those.
func (c *checks) forgetOthers(those []corev1.Secret) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.done) <= len(those) {
		return
	}
	there := make(map[types.UID]bool, len(those))
	for i := range those {
		there[those[i].UID] = true
	}
	for uid := range c.done {
		if !there[uid] {
			delete(c.done, uid)
		}
	}
}
