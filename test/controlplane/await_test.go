package controlplane

import (
	"context"
	"testing"
	"time"

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
