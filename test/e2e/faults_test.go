package e2e

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
)

// writes stands between a controller and the hub: it counts its writes, and can
// cut it off after any of them, as a kill would.
type writes struct {
	mu    sync.Mutex
	count map[string]int // by "verb Kind"
	total int
	// limit is after how many writes the controller is dead; 0 for never.
	limit int
	dead  chan struct{}
}

func newWrites(limit int) *writes {
	return &writes{count: map[string]int{}, limit: limit, dead: make(chan struct{})}
}

var errDead = errors.New("the controller is dead")

// allow a write, or refuse it because the controller is dead.
func (w *writes) allow(verb string, o any) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.limit > 0 && w.total >= w.limit {
		select {
		case <-w.dead:
		default:
			close(w.dead)
		}
		return errDead
	}
	w.total++
	w.count[fmt.Sprintf("%s %T", verb, o)]++
	return nil
}

// take what was counted, and begin anew.
func (w *writes) take() (int, map[string]int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	total, count := w.total, w.count
	w.total, w.count = 0, map[string]int{}
	return total, count
}

func (w *writes) wrap(c client.WithWatch) client.WithWatch {
	return interceptor.NewClient(c, interceptor.Funcs{
		Create: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.CreateOption) error {
			if err := w.allow("create", o); err != nil {
				return err
			}
			return c.Create(ctx, o, opts...)
		},
		Update: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.UpdateOption) error {
			if err := w.allow("update", o); err != nil {
				return err
			}
			return c.Update(ctx, o, opts...)
		},
		Delete: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.DeleteOption) error {
			if err := w.allow("delete", o); err != nil {
				return err
			}
			return c.Delete(ctx, o, opts...)
		},
		Patch: func(ctx context.Context, c client.WithWatch, o client.Object, p client.Patch, opts ...client.PatchOption) error {
			if err := w.allow("patch", o); err != nil {
				return err
			}
			return c.Patch(ctx, o, p, opts...)
		},
		Apply: func(ctx context.Context, c client.WithWatch, o runtime.ApplyConfiguration, opts ...client.ApplyOption) error {
			if err := w.allow("apply", o); err != nil {
				return err
			}
			return c.Apply(ctx, o, opts...)
		},
		SubResourcePatch: func(ctx context.Context, c client.Client, sub string, o client.Object, p client.Patch, opts ...client.SubResourcePatchOption) error {
			if err := w.allow("patch "+sub, o); err != nil {
				return err
			}
			return c.SubResource(sub).Patch(ctx, o, p, opts...)
		},
	})
}
