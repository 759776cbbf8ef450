package source

import (
	"maps"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
)

// live is what the cluster has: the metadata of all objects of the kinds at hand.
type live map[Ref]metav1.ObjectMeta

// change is an object to apply, stamped, and its entry once that is done.
type change struct {
	Object
	entry Entry
	// was is the metadata of the object that is there, nil if there is none.
	was *metav1.ObjectMeta
}

// removal is an object to delete, if it is still the one that was looked at.
type removal struct {
	Ref
	uid types.UID
}

// plan is what one pass is to do. It is a pure function of a commit, the
// inventory and the cluster.
type plan struct {
	namespaces []Object  // to create where missing
	create     []change  // not there
	update     []change  // there, with other content in Git
	repair     []change  // there, with the content in Git, but changed since
	prune      []removal // no longer in Git; last applied first
	inventory  Inventory // to be written before anything is applied
	gone       []Ref     // no longer in Git nor in the cluster
	// Reported, and left alone:
	waiting   []Ref // being deleted; to be created afterwards
	conflicts []Ref // belong to another sync
	detached  []Ref // no longer in Git, and the label or annotation taken off
	unlisted  []Ref // carry the label and annotation, but are not in the inventory
}

// changes returns all that is to be applied, in the order of applying.
func (p plan) changes() []change {
	return slices.SortedFunc(slices.Values(slices.Concat(p.create, p.update, p.repair)), func(a, b change) int {
		return compareRefs(a.entry.Ref, b.entry.Ref)
	})
}

// makePlan compares the objects of a commit with what the inventory lists and
// what the cluster has. Objects are sorted as Build returns them.
func makePlan(sync string, commit Commit, objects []Object, inv Inventory, cluster live) (plan, error) {
	p := plan{inventory: inv.with()}
	wanted := map[Ref]bool{}
	for _, o := range objects {
		if o.isNamespace() {
			p.namespaces = append(p.namespaces, o)
			continue
		}
		wanted[o.Ref()] = true
		if err := p.want(sync, commit, o, inv, cluster); err != nil {
			return plan{}, err
		}
	}
	for _, ref := range slices.Backward(inv.refs()) {
		if !wanted[ref] {
			p.drop(sync, ref, cluster)
		}
	}
	for _, ref := range slices.SortedFunc(maps.Keys(cluster), compareRefs) {
		m := cluster[ref]
		if _, listed := inv[ref]; !listed && !wanted[ref] && owner(m) == sync && m.DeletionTimestamp == nil {
			p.unlisted = append(p.unlisted, ref)
		}
	}
	return p, nil
}

// want decides what to do about an object of the commit.
func (p *plan) want(sync string, commit Commit, o Object, inv Inventory, cluster live) error {
	hash, err := o.hash()
	if err != nil {
		return err
	}
	ref := o.Ref()
	known := inv[ref]
	entry := Entry{Ref: ref, Hash: hash, Revision: commit.Revision, Author: commit.Author}
	if known.Hash == hash {
		entry.Revision, entry.Author = known.Revision, known.Author
	}
	m, there := cluster[ref]
	if there && owner(m) != "" && owner(m) != sync {
		p.conflicts = append(p.conflicts, ref)
		return nil
	}
	c := change{Object: stamp(o, sync, entry), entry: entry}
	if there {
		c.was = &m
	}
	switch {
	case there && m.DeletionTimestamp != nil:
		p.waiting = append(p.waiting, ref)
		return nil
	case !there:
		p.create = append(p.create, c)
	case known.Hash != hash:
		p.update = append(p.update, c)
	case known.UID != m.UID || known.Generation != m.Generation || !holds(m, c.Object):
		p.repair = append(p.repair, c)
	default:
		return nil
	}
	p.inventory[ref] = entry // the plan's own copy
	return nil
}

// drop decides what to do about an object that the inventory lists and the commit
// does not have.
func (p *plan) drop(sync string, ref Ref, cluster live) {
	m, there := cluster[ref]
	switch {
	case ref.rank() < 0:
		// Applied by another version of Sallyport, which knows the kind.
		p.detached = append(p.detached, ref)
	case !there || m.DeletionTimestamp != nil:
		p.gone = append(p.gone, ref)
	case owner(m) != sync:
		p.detached = append(p.detached, ref)
	default:
		p.prune = append(p.prune, removal{Ref: ref, uid: m.UID})
	}
}

// owner returns the sync that an object says it belongs to, if any.
func owner(m metav1.ObjectMeta) string {
	if m.Labels[v1alpha1.ManagedByLabel] != v1alpha1.SyncManagedByValue {
		return ""
	}
	return m.Annotations[v1alpha1.SyncAnnotation]
}

// stamp returns a copy of an object that says to which sync it belongs and where
// it comes from. What the commit itself says of that is overwritten.
func stamp(o Object, sync string, e Entry) Object {
	u := o.DeepCopy()
	u.SetLabels(merged(u.GetLabels(), map[string]string{v1alpha1.ManagedByLabel: v1alpha1.SyncManagedByValue}))
	u.SetAnnotations(merged(u.GetAnnotations(), map[string]string{
		v1alpha1.SyncAnnotation:     sync,
		v1alpha1.RevisionAnnotation: e.Revision,
		v1alpha1.AuthorAnnotation:   e.Author,
	}))
	return Object{Unstructured: u, From: o.From}
}

func merged(a, b map[string]string) map[string]string {
	all := map[string]string{}
	maps.Copy(all, a)
	maps.Copy(all, b)
	return all
}

// holds tells whether an object still has the labels and annotations that were
// applied. Others are somebody else's.
func holds(m metav1.ObjectMeta, o Object) bool {
	return contains(m.Labels, o.GetLabels()) && contains(m.Annotations, o.GetAnnotations())
}

func contains(all, some map[string]string) bool {
	for k, v := range some {
		if got, ok := all[k]; !ok || got != v {
			return false
		}
	}
	return true
}
