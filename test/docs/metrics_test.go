package docs

import (
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write docs/reference/metrics.md anew")

// metric as it is declared.
type metric struct{ name, kind, help, labels string }

// TestMetrics: docs/reference/metrics.md is what the sources declare, and they declare
// nothing that it has not. "make generate" writes it, by -update.
func TestMetrics(t *testing.T) {
	var all []metric
	literals := 0
	for _, folder := range []string{"controllers", "internal"} {
		err := filepath.WalkDir(filepath.Join(root, folder), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			file, err := parser.ParseFile(token.NewFileSet(), path, text, 0)
			if err != nil {
				return err
			}
			ast.Inspect(file, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.BasicLit:
					if v, err := strconv.Unquote(n.Value); err == nil && strings.HasPrefix(v, "sallyport_") {
						literals++
					}
				case *ast.CallExpr:
					if m, ok := declared(n); ok {
						all = append(all, m)
					}
				}
				return true
			})
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if len(all) != literals || literals == 0 {
		t.Errorf("%d names of metrics are in the sources, and %d of them are declared in a way that this test reads", literals, len(all))
	}
	slices.SortFunc(all, func(a, b metric) int { return strings.Compare(a.name, b.name) })
	all = slices.Compact(all)
	var b strings.Builder
	b.WriteString("# Metrics\n\nWritten by `make generate`, of what the sources declare. The controller, the gateway and the authorizer each serve theirs, and those of\n" +
		"the Go runtime, at `/metrics` of `--metrics-addr`, without authentication: keep that address within the cluster.\n\n" +
		"| metric | kind | labels | meaning |\n|---|---|---|---|\n")
	for _, m := range all {
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", m.name, m.kind, m.labels, strings.ReplaceAll(m.help, "|", `\|`))
	}
	page := filepath.Join(root, "docs", "reference", "metrics.md")
	if *update {
		if err := os.WriteFile(page, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(b.String(), string(got)); diff != "" {
		t.Errorf("%s is not what the sources declare; run make generate (-sources +page):\n%s", page, diff)
	}
}

// declared is a metric that a call makes: its options come first, or second to a
// function of ours, and then its labels.
func declared(call *ast.CallExpr) (metric, bool) {
	if len(call.Args) > 2 && strings.HasPrefix(text(call.Args[0]), "sallyport_") {
		// NAME, HELP, then labels: prometheus.NewDesc, or a function named after the kind.
		m := metric{name: text(call.Args[0]), help: text(call.Args[1]), kind: "gauge"}
		if f, ok := call.Fun.(*ast.Ident); ok {
			m.kind = f.Name
		}
		m.labels = labels(call.Args[2:])
		return m, true
	}
	for i, arg := range call.Args {
		options, ok := arg.(*ast.CompositeLit)
		if !ok {
			continue
		}
		selector, ok := options.Type.(*ast.SelectorExpr)
		if !ok || !strings.HasSuffix(selector.Sel.Name, "Opts") {
			continue
		}
		m := metric{kind: strings.ToLower(strings.TrimSuffix(selector.Sel.Name, "Opts"))}
		for _, e := range options.Elts {
			pair, ok := e.(*ast.KeyValueExpr)
			if !ok {
				continue
			}
			switch key, _ := pair.Key.(*ast.Ident); key.Name {
			case "Name":
				m.name = text(pair.Value)
			case "Help":
				m.help = text(pair.Value)
			}
		}
		m.labels = labels(call.Args[i+1:])
		return m, strings.HasPrefix(m.name, "sallyport_")
	}
	return metric{}, false
}

// labels in a list of strings, or in a map from them.
func labels(args []ast.Expr) string {
	var names []string
	for _, arg := range args {
		list, ok := arg.(*ast.CompositeLit)
		if !ok {
			continue
		}
		for _, e := range list.Elts {
			if pair, ok := e.(*ast.KeyValueExpr); ok {
				e = pair.Key
			}
			if name := text(e); name != "" {
				names = append(names, "`"+name+"`")
			}
		}
	}
	return strings.Join(names, ", ")
}

// text of a string, also one that is put together of several.
func text(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.BasicLit:
		s, _ := strconv.Unquote(e.Value) // it was parsed
		return s
	case *ast.BinaryExpr:
		return text(e.X) + text(e.Y)
	}
	return ""
}
