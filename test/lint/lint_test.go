package lint_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
)

// TestImports lints a small module of the same name under the project's own
// configuration, and compares what is refused with the comments in the module.
func TestImports(t *testing.T) {
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	linter := filepath.Join(root, "bin/tools/golangci-lint")
	if _, err := os.Stat(linter); err != nil {
		t.Skip("the linter is not built: \"make lint\" builds it")
	}
	module, err := txtar.ParseFile("testdata/imports.txtar")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	var want []string
	for _, file := range module.Files {
		path := filepath.Join(dir, file.Name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, file.Data, 0o600); err != nil {
			t.Fatal(err)
		}
		for i, line := range strings.Split(string(file.Data), "\n") {
			if _, by, found := strings.Cut(line, "// want "); found {
				want = append(want, fmt.Sprintf("%s:%d %s", file.Name, i+1, by))
			}
		}
	}
	config, err := os.ReadFile(filepath.Join(root, ".golangci.yml"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, ".golangci.yml"), config, 0o600); err != nil {
		t.Fatal(err)
	}

	run := exec.CommandContext(t.Context(), linter, "run", "--enable-only=depguard,forbidigo", "--issues-exit-code=0", "--output.json.path=stdout")
	run.Dir = dir
	run.Env = append(os.Environ(), "GOLANGCI_LINT_CACHE="+t.TempDir(), "GOFLAGS=-mod=mod", "GOPROXY=off", "PWD="+dir)
	var stderr bytes.Buffer
	run.Stderr = &stderr
	out, err := run.Output()
	if err != nil {
		t.Fatalf("%v\n%s%s", err, out, stderr.String())
	}
	var report struct {
		Issues []struct {
			FromLinter, Text string
			Pos              struct {
				Filename string
				Line     int
			}
		}
	}
	if err := json.NewDecoder(bytes.NewReader(out)).Decode(&report); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var got []string
	for _, issue := range report.Issues {
		got = append(got, fmt.Sprintf("%s:%d %s", issue.Pos.Filename, issue.Pos.Line, issue.FromLinter))
	}
	slices.Sort(want)
	slices.Sort(got)
	if diff := cmp.Diff(want, slices.Compact(got)); diff != "" {
		t.Errorf("refused (-want +got):\n%s", diff)
		for _, issue := range report.Issues {
			t.Logf("%s:%d %s: %s", issue.Pos.Filename, issue.Pos.Line, issue.FromLinter, issue.Text)
		}
	}
}
