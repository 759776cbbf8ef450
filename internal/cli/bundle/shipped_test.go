package bundle

import (
	"os"
	"path/filepath"
	"testing"

	packed "github.com/sallyport-dev/sallyport/internal/bundle"
)

// TestShipped: every bundle that the repository describes can be built, and stays
// well below what a ConfigMap holds.
func TestShipped(t *testing.T) {
	const root = "../../.."
	recipes, err := filepath.Glob(root + "/bundles/*.yaml")
	if err != nil || len(recipes) == 0 {
		t.Fatalf("%d bundles, error %v", len(recipes), err)
	}
	for _, file := range recipes {
		archive, err := build(file, root+"/policies", "1")
		if err != nil {
			t.Error(err)
			continue
		}
		if len(archive) > packed.MaxArchive/4 {
			t.Errorf("%s makes %d bytes", file, len(archive))
		}
	}
	// All policies make one bundle: no two are of one package.
	everything := filepath.Join(t.TempDir(), "everything.yaml")
	if err := os.WriteFile(everything, []byte(`{name: everything, engine: rego, policies: ["*"]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := build(everything, root+"/policies", "1"); err != nil {
		t.Error(err)
	}
}
