package distribute

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"github.com/sallyport-dev/sallyport/internal/core/compile"
)

const (
	// DirectLabel marks the ConfigMaps that carry works to members with a
	// kubeconfig; its value is "true".
	DirectLabel = "access.sallyport.dev/direct"
	// DirectClusterAnnotation names the member that such a ConfigMap is for.
	DirectClusterAnnotation = "access.sallyport.dev/cluster-name"
	// DirectFinalizer keeps the ConfigMap until the member holds nothing of it.
	DirectFinalizer = "access.sallyport.dev/member"
)

// Keys of a Direct carrier's data.
const (
	directManifests = "manifests" // wanted: a JSON list of objects
	directApplied   = "applied"   // a JSON list of ObjectRef: what may stand on the member
	directConfirmed = "confirmed" // digest of the manifests that the member holds
	directFailures  = "failures"  // a JSON list of DirectFailure
)

// Direct delivers with a kubeconfig. The namespace is Sallyport's own.
type Direct struct{ Namespace string }

var _ Carrier = Direct{}

// Empty implements Carrier.
func (Direct) Empty() (client.Object, client.ObjectList) {
	return &corev1.ConfigMap{}, &corev1.ConfigMapList{}
}

// Owns implements Carrier.
func (Direct) Owns(o client.Object) bool { return o.GetLabels()[DirectLabel] != "" }

// Parcels implements Carrier: one per work.
func (Direct) Parcels(cluster string, works []*compile.Work) []Parcel {
	return parcelPerWork(cluster, works)
}

// Key implements Carrier.
func (c Direct) Key(p Parcel) client.ObjectKey {
	return client.ObjectKey{Namespace: c.Namespace, Name: p.Name + "." + compile.Digest(p.Cluster)}
}

var directLabels = map[string]string{DirectLabel: "true"}

// Wrap implements Carrier.
func (c Direct) Wrap(p Parcel, live client.Object) (client.Object, error) {
	key := c.Key(p)
	cm := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name}}
	var before *Standing
	if live != nil {
		cm = live.(*corev1.ConfigMap).DeepCopy()
		s := c.Standing(live)
		before = &s
	}
	controllerutil.AddFinalizer(cm, DirectFinalizer)
	describe(cm, p, before, directLabels)
	cm.Annotations[DirectClusterAnnotation] = p.Cluster
	if cm.Data == nil {
		cm.Data = map[string]string{}
	}
	manifests, err := directJSON(p)
	if err != nil {
		return nil, err
	}
	if cm.Data[directManifests] != manifests {
		// What was confirmed once may have been left since, without a report.
		delete(cm.Data, directConfirmed)
	}
	cm.Data[directManifests] = manifests
	return cm, nil
}

func directJSON(p Parcel) (string, error) {
	list := make([]json.RawMessage, 0, len(p.Objects))
	for _, o := range p.Objects {
		list = append(list, o.JSON)
	}
	raw, err := json.Marshal(list)
	if err != nil {
		return "", fmt.Errorf("cannot write the manifests for cluster %q: %w", p.Cluster, err)
	}
	return string(raw), nil
}

// Carries implements Carrier.
func (c Direct) Carries(live client.Object, p Parcel) bool {
	cm := live.(*corev1.ConfigMap)
	manifests, err := directJSON(p)
	return err == nil && described(cm, p, directLabels) && controllerutil.ContainsFinalizer(cm, DirectFinalizer) &&
		cm.Annotations[DirectClusterAnnotation] == p.Cluster && cm.Data[directManifests] == manifests
}

// Standing implements Carrier.
func (Direct) Standing(live client.Object) Standing {
	cm := live.(*corev1.ConfigMap)
	s := Standing{
		Cluster: cm.Annotations[DirectClusterAnnotation], Grants: LabelsOf(cm.Labels), Residual: residualOf(cm.Annotations),
		Deleting: !cm.DeletionTimestamp.IsZero(),
	}
	current := cm.Data[directConfirmed] == manifestsDigest(cm)
	var failures []DirectFailure
	if raw := cm.Data[directFailures]; raw != "" && json.Unmarshal([]byte(raw), &failures) != nil {
		failures = []DirectFailure{{Message: "the report of the member cannot be read"}}
	}
	for _, f := range failures {
		grants := s.Grants
		if len(f.Labels) > 0 {
			grants = LabelsOf(f.Labels)
		}
		s.Failures = append(s.Failures, Failure{Grants: grants, Object: f.Object, Message: f.Message})
	}
	s.Confirmed = current && !s.Deleting && len(failures) == 0
	s.Before = !current && !s.Deleting && len(failures) == 0 && cm.Data[directApplied] != ""
	if s.Confirmed {
		s.Residual = Labels{}
	}
	return s
}

func manifestsDigest(cm *corev1.ConfigMap) string {
	sum := sha256.Sum256([]byte(cm.Data[directManifests]))
	return hex.EncodeToString(sum[:])
}

// ObjectRef names an RBAC object on a member.
type ObjectRef struct {
	Kind      string `json:"kind"`
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name"`
}

// String is kind namespace/name.
func (r ObjectRef) String() string { return objectString(r.Kind, r.Namespace, r.Name) }

// DirectFailure is one failure as the agent writes it down.
type DirectFailure struct {
	Object  string            `json:"object,omitempty"`
	Message string            `json:"message"`
	Labels  map[string]string `json:"labels,omitempty"`
}

// DirectOrder is a Direct carrier as its agent reads it.
type DirectOrder struct {
	Cluster   string
	Manifests []json.RawMessage
	// Applied is what may stand on the member.
	Applied []ObjectRef
}

// ReadOrder reads a Direct carrier.
func ReadOrder(cm *corev1.ConfigMap) (DirectOrder, error) {
	o := DirectOrder{Cluster: cm.Annotations[DirectClusterAnnotation]}
	for key, to := range map[string]any{directManifests: &o.Manifests, directApplied: &o.Applied} {
		if raw := cm.Data[key]; raw != "" {
			if err := json.Unmarshal([]byte(raw), to); err != nil {
				return DirectOrder{}, fmt.Errorf("cannot read %s of ConfigMap %q: %w", key, cm.Name, err)
			}
		}
	}
	return o, nil
}

// Report writes down, in the carrier, what the agent knows of the member. With
// confirmed the manifests now in the carrier are what the member holds.
func Report(cm *corev1.ConfigMap, applied []ObjectRef, failures []DirectFailure, confirmed bool) error {
	if cm.Data == nil {
		cm.Data = map[string]string{}
	}
	for key, from := range map[string]any{directApplied: applied, directFailures: failures} {
		raw, err := json.Marshal(from)
		if err != nil {
			return fmt.Errorf("cannot write %s of ConfigMap %q: %w", key, cm.Name, err)
		}
		cm.Data[key] = string(raw)
	}
	delete(cm.Data, directConfirmed)
	if confirmed {
		cm.Data[directConfirmed] = manifestsDigest(cm)
	}
	return nil
}
