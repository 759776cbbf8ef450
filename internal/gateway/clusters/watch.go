package clusters

import (
	"context"
	"slices"
	"time"

	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/sallyport-dev/sallyport/api/proxy/v1alpha1"
	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
)

// lookAgain is how often a watch looks where no index tells of a change: a route comes
// and goes by itself, and so does the end of a grant.
const lookAgain = 5 * time.Second

// Watch what the caller may reach. From no version, or from 0, it begins with all that
// there is; from the version of a list, or of an earlier watch, with what has changed since.
func (s *Storage) Watch(ctx context.Context, o *internalversion.ListOptions) (watch.Interface, error) {
	u, err := who(ctx)
	if err != nil {
		return nil, err
	}
	w := &watcher{storage: s, user: u, selects: selectsBy(o), events: make(chan watch.Event)}
	if w.seen, err = s.since(u, o); err != nil {
		return nil, err
	}
	w.initial = o.SendInitialEvents != nil && *o.SendInitialEvents && o.AllowWatchBookmarks
	changed := s.changed() // before the first look, so that no change falls between
	if w.first, err = s.view(u); err != nil {
		return nil, err
	}
	ctx, w.cancel = context.WithCancel(ctx)
	stop := context.AfterFunc(s.ended, w.cancel)
	go func() {
		defer stop()
		w.run(ctx, changed)
	}()
	return w, nil
}

// since is what the person has been told already.
func (s *Storage) since(u *guardrail.User, o *internalversion.ListOptions) (view, error) {
	if o.SendInitialEvents != nil && *o.SendInitialEvents || o.ResourceVersion == "" || o.ResourceVersion == "0" {
		return nil, nil
	}
	version, err := parsed(o.ResourceVersion)
	if err != nil {
		return nil, err
	}
	v, ok := s.given.recall(u, version)
	if !ok {
		return nil, expired()
	}
	return v, nil
}

// watcher of one person. It remembers what it has told them, and tells the difference.
type watcher struct {
	storage *Storage
	user    *guardrail.User
	selects func(*v1alpha1.Cluster) bool
	events  chan watch.Event
	cancel  context.CancelFunc

	// What follows is of the one goroutine of run.
	seen, first view
	initial     bool // whether to say when all there is has been told
}

// Stop the watch.
func (w *watcher) Stop() { w.cancel() }

// ResultChan has the events.
func (w *watcher) ResultChan() <-chan watch.Event { return w.events }

func (w *watcher) run(ctx context.Context, changed <-chan struct{}) {
	defer close(w.events)
	ticker := w.storage.clock.NewTicker(lookAgain)
	defer ticker.Stop()
	if !w.tell(ctx, w.first) || !w.mark(ctx) {
		return
	}
	w.first = nil
	for {
		select {
		case <-ctx.Done():
			return
		case <-changed:
		case <-ticker.C():
		}
		changed = w.storage.changed()
		now, err := w.storage.view(w.user)
		if err != nil { // there is no index any more: the client is to list again
			w.send(ctx, watch.Error, &expired().ErrStatus)
			return
		}
		if !w.tell(ctx, now) {
			return
		}
	}
}

// tell what is different now, what went first. It is false when nobody listens any more.
func (w *watcher) tell(ctx context.Context, now view) bool {
	version := uint64(0)
	send := func(t watch.EventType, c *v1alpha1.Cluster) bool {
		version = w.storage.version.Add(1)
		return w.send(ctx, t, at(*c, version))
	}
	for i := range w.seen {
		before := &w.seen[i]
		if after := now.get(before.Name); w.selects(before) && (after == nil || !w.selects(after)) && !send(watch.Deleted, before) {
			return false
		}
	}
	for i := range now {
		after := &now[i]
		if !w.selects(after) {
			continue
		}
		before := w.seen.get(after.Name)
		switch {
		case before == nil || !w.selects(before):
			if !send(watch.Added, after) {
				return false
			}
		case !apiequality.Semantic.DeepEqual(before, after):
			if !send(watch.Modified, after) {
				return false
			}
		}
	}
	w.seen = slices.Clip(now)
	if version != 0 { // of the last event: from there a client may go on
		w.storage.given.keep(w.user, version, now)
	}
	return true
}

// mark that all there was at first has been told, where a client asked for that.
func (w *watcher) mark(ctx context.Context) bool {
	if !w.initial {
		return true
	}
	version := w.storage.version.Add(1)
	w.storage.given.keep(w.user, version, w.seen)
	return w.send(ctx, watch.Bookmark, &v1alpha1.Cluster{
		TypeMeta: metav1.TypeMeta{APIVersion: v1alpha1.GroupVersion.String(), Kind: v1alpha1.ClusterKind},
		ObjectMeta: metav1.ObjectMeta{
			ResourceVersion: written(version), Annotations: map[string]string{metav1.InitialEventsAnnotationKey: "true"},
		},
	})
}

func (w *watcher) send(ctx context.Context, t watch.EventType, o runtime.Object) bool {
	select {
	case w.events <- watch.Event{Type: t, Object: o}:
		return true
	case <-ctx.Done():
		return false
	}
}
