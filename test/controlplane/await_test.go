package controlplane

import (
	"context"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
)

// eventually polls until the condition holds, and fails the test if it returns an error or does not hold in a minute.
func eventually(t *testing.T, what string, condition func(context.Context) (bool, error)) {
	t.Helper()
	began := time.Now()
	err := wait.PollUntilContextTimeout(t.Context(), 20*time.Millisecond, time.Minute, true, condition)
	if err != nil {
		t.Fatalf("waiting until %s: %v", what, err)
	}
	t.Logf("%s after %s", what, time.Since(began).Round(time.Millisecond))
}

// exists returns a condition for eventually: get finds the object.
func exists[T any](get func(context.Context, string, metav1.GetOptions) (T, error), name string) func(context.Context) (bool, error) {
	return func(ctx context.Context) (bool, error) {
		_, err := get(ctx, name, metav1.GetOptions{})
		return err == nil, ignoreNotFound(err)
	}
}

// gone returns a condition for eventually: get finds no object.
func gone[T any](get func(context.Context, string, metav1.GetOptions) (T, error), name string) func(context.Context) (bool, error) {
	return func(ctx context.Context) (bool, error) {
		_, err := get(ctx, name, metav1.GetOptions{})
		return apierrors.IsNotFound(err), ignoreNotFound(err)
	}
}

func ignoreNotFound(err error) error {
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}
