package policies_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sallyport-dev/sallyport/internal/policy/rego"
	"github.com/sallyport-dev/sallyport/test/controlplane"
)

// TestOPA: OPA's own command checks and tests the Rego of the library, with the
// library module that comes with Sallyport beside it.
func TestOPA(t *testing.T) {
	bin, err := controlplane.Binaries(t.Context(), testWriter{t}, controlplane.OPA)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write := func(name string, content []byte) {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for name, module := range rego.Library() {
		write(name, []byte(module))
	}
	modules, err := filepath.Glob("*/*.rego")
	if err != nil {
		t.Fatal(err)
	}
	if len(modules) < 10 {
		t.Fatalf("there are %d modules: %q", len(modules), modules)
	}
	for _, name := range modules {
		content, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		write(name, content)
	}
	for _, args := range [][]string{{"check", "--strict", dir}, {"test", dir}, {"fmt", "--diff", "--fail", dir}} {
		out, err := exec.CommandContext(t.Context(), bin[controlplane.OPA], args...).CombinedOutput()
		if err != nil {
			t.Errorf("opa %s: %v\n%s", strings.Join(args, " "), err, out)
		}
		if args[0] == "test" && !strings.Contains(string(out), "PASS") {
			t.Errorf("opa test ran nothing: %s", out)
		}
	}
}

// testWriter writes to the log of a test.
type testWriter struct{ *testing.T }

func (w testWriter) Write(p []byte) (int, error) {
	w.Log(strings.TrimSpace(string(p)))
	return len(p), nil
}
