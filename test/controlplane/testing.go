package controlplane

import (
	"os"
	"path/filepath"
	"testing"
)

// ForTest starts a fleet that lives as long as the test, and fails the test if it cannot. When the test fails, the ends
// of the agents' logs follow its own output. In -short mode the test is skipped: control planes take seconds.
func ForTest(t testing.TB, options Options) *Fleet {
	t.Helper()
	if testing.Short() {
		t.Skip("starts control planes")
	}
	if options.Log == nil {
		options.Log = os.Stderr // not the test's log, which shows only when a build of minutes is over
	}
	fleet, err := Start(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			fleet.logTails(t)
		}
		if err := fleet.Stop(); err != nil {
			t.Error(err)
		}
	})
	return fleet
}

func (f *Fleet) logTails(t testing.TB) {
	logs, _ := filepath.Glob(filepath.Join(f.Dir(), "logs", "*.log"))
	for _, log := range logs {
		t.Logf("%s:\n%s", filepath.Base(log), tail(log, 10))
	}
}
