package source

import (
	"context"
	"fmt"
	"maps"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
)

// Reason says how the last pass ended, in the ConfigMap, events and metrics.
type Reason string

// The reasons of a state.
const (
	// ReasonApplied: the cluster is what the commit says.
	ReasonApplied Reason = "Applied"
	// ReasonWaiting: it will be, once objects that are being deleted are gone.
	ReasonWaiting Reason = "Waiting"
	// ReasonFetchFailed: Git could not be read. The last commit is upheld.
	ReasonFetchFailed Reason = "FetchFailed"
	// ReasonBuildFailed: the commit cannot be built. Nothing was changed.
	ReasonBuildFailed Reason = "BuildFailed"
	// ReasonRefused: the API server would refuse an object, or it belongs to
	// another sync. Nothing was changed.
	ReasonRefused Reason = "Refused"
	// ReasonApplyFailed: some objects were applied, and one could not be.
	ReasonApplyFailed Reason = "ApplyFailed"
	// ReasonPruneFailed: all objects were applied, and one could not be deleted.
	ReasonPruneFailed Reason = "PruneFailed"
	// ReasonClusterFailed: the API server could not be read.
	ReasonClusterFailed Reason = "ClusterFailed"
)

// status is what people are told. It is equal whenever the same happened.
type status struct {
	ready     bool
	reason    Reason
	message   string
	source    string // URL, branch and path
	attempted string // revision
	applied   string // revision that the cluster holds
	author    string // of the applied revision
	subject   string // of the applied revision
	appliedAt string // when the applied revision last changed
}

func (s status) data() map[string]string {
	return map[string]string{
		"ready":             strconv.FormatBool(s.ready),
		"reason":            string(s.reason),
		"message":           s.message,
		"source":            s.source,
		"attemptedRevision": s.attempted,
		"appliedRevision":   s.applied,
		"appliedAuthor":     s.author,
		"appliedMessage":    s.subject,
		"appliedAt":         s.appliedAt,
	}
}

func readStatus(data map[string]string) status {
	return status{
		ready:     data["ready"] == "true",
		reason:    Reason(data["reason"]),
		message:   data["message"],
		source:    data["source"],
		attempted: data["attemptedRevision"],
		applied:   data["appliedRevision"],
		author:    data["appliedAuthor"],
		subject:   data["appliedMessage"],
		appliedAt: data["appliedAt"],
	}
}

// succeeded records that the cluster holds a commit.
func (s status) succeeded(c Commit, now time.Time) status {
	if s.applied != c.Revision {
		s.appliedAt = now.UTC().Format(time.RFC3339)
	}
	s.applied, s.author, s.subject = c.Revision, c.Author, c.Message
	return s
}

const (
	inventoryKey = "inventory"
	packedKey    = "inventory.gz"
)

// store is the ConfigMap as it was last read or written. Writes fail when somebody
// else has written since: another leader, perhaps.
type store struct {
	client    client.Client
	configMap *corev1.ConfigMap
	inventory Inventory
	status    status
}

// load reads the state. A ConfigMap of that name that is not the sync's own is an
// error, and so is an inventory that cannot be read: without it, nothing can be
// pruned, and access would silently stay.
func load(ctx context.Context, c client.Client, key types.NamespacedName) (*store, error) {
	s := &store{client: c, configMap: &corev1.ConfigMap{}, inventory: Inventory{}}
	err := c.Get(ctx, key, s.configMap)
	if apierrors.IsNotFound(err) {
		s.configMap = &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{
			Namespace: key.Namespace,
			Name:      key.Name,
			Labels:    map[string]string{v1alpha1.ManagedByLabel: v1alpha1.SyncManagedByValue},
		}}
		return s, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot get state %q: %w", key, err)
	}
	if s.configMap.Labels[v1alpha1.ManagedByLabel] != v1alpha1.SyncManagedByValue {
		return nil, fmt.Errorf("cannot use ConfigMap %q for the state: it has not the label %s=%s", key, v1alpha1.ManagedByLabel, v1alpha1.SyncManagedByValue)
	}
	s.status = readStatus(s.configMap.Data)
	s.inventory, err = decodeInventory(s.configMap.Data[inventoryKey], s.configMap.BinaryData[packedKey])
	if err != nil {
		return nil, fmt.Errorf("cannot use state %q: %w", key, err)
	}
	return s, nil
}

// save writes the state if it differs from what is there.
func (s *store) save(ctx context.Context, st status, inv Inventory) error {
	plain, packed, err := inv.encode()
	if err != nil {
		return err
	}
	next := s.configMap.DeepCopy()
	next.Data, next.BinaryData = st.data(), nil
	if packed != nil {
		next.BinaryData = map[string][]byte{packedKey: packed}
	} else {
		next.Data[inventoryKey] = plain
	}
	exists := next.ResourceVersion != ""
	if exists && maps.Equal(next.Data, s.configMap.Data) && equality.Semantic.DeepEqual(next.BinaryData, s.configMap.BinaryData) {
		return nil
	}
	if exists {
		err = s.client.Update(ctx, next, client.FieldOwner(FieldManager))
	} else {
		err = s.client.Create(ctx, next, client.FieldOwner(FieldManager))
	}
	if err != nil {
		return fmt.Errorf("cannot write state %q: %w", client.ObjectKeyFromObject(next), err)
	}
	s.configMap, s.inventory, s.status = next, inv, st
	return nil
}
