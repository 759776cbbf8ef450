package decisionlog

import (
	"bytes"
	"cmp"
	"encoding/json"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
)

var update = flag.Bool("update", false, "write docs/reference/decision-log.md anew")

const reference = "../../docs/reference/decision-log.md"

// TestReference: docs/reference/decision-log.md is what the comments of the types say.
// "make generate" writes it, by -update.
func TestReference(t *testing.T) {
	docs := documentation(t)
	var b strings.Builder
	b.WriteString(`# The decision log

Written by ` + "`make generate`" + `. Version ` + "`" + Version + "`" + `. Fields are added to it; none is renamed, and a change of what one means makes another version.

Gateway and authorizer write one line of JSON for each decision. Where to, the flags ` + "`--decision-log…`" + ` of the [command line](cli.md) say.
There is neither a body, nor a header, nor a query in a line, and so no token. Characters that end a line, turn the direction of writing or
are obeyed by a terminal are escaped: an entry is one line to everything that reads lines.

No request waits for the log. What does not fit into the queue of a sink is dropped and counted, and the log has a line that says so.
A line is written ten milliseconds after its decision at most, or when a collector's batch goes, where the sink keeps up: that much is lost of a server that is killed.
To see what other guardrails or grants would have made of the same requests, [replay](../how-to/replay-decisions.md) the log.

A collector gets lines by POST as ` + "`application/x-ndjson`" + `, at most a second later, and answers with a status of 200 to 299. What it answers with 400,
413, 415 or 422 is given up; all else is sent again until it is taken. So a line may come twice: ` + "`id`, `event` and `time`" + ` tell.

## A decision

`)
	fields(t, &b, docs, reflect.TypeFor[Entry]())
	b.WriteString("\n## A hole\n\n")
	fields(t, &b, docs, reflect.TypeFor[Dropped]())
	b.WriteString(`
| reason | meaning |
|---|---|
| ` + "`queue-full`" + ` | more was decided than the sink could take |
| ` + "`write-failed`" + ` | the disk was full, or the like; of the last of these entries a part may be there |
| ` + "`rejected`" + ` | the collector will never take it |
| ` + "`closed`" + ` | it was decided after the server began to end, or could not be written before it did; only the metric tells |

## An example

`)
	fmt.Fprintf(&b, "```json\n%s\n```\n\nA hole is one line, such as\n\n```json\n%s```\n", indented(t, appendEntry(nil, example())), appendDropped(nil, &Dropped{
		Version: Version, Time: at, Event: EventDropped, Count: 12, Reasons: map[string]uint64{reasonNames[queueFull]: 12},
	}))
	b.WriteString("\n## Metrics\n\n| metric | labels | meaning |\n|---|---|---|\n")
	metrics(t, &b)
	got := b.String()
	if *update {
		if err := os.WriteFile(reference, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(reference)
	if err != nil {
		t.Fatal(err)
	}
	if diff := gocmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s is not what the comments say; run make generate (-file +comments):\n%s", reference, diff)
	}
}

// fields of a type, and of those in it, as a table.
func fields(t *testing.T, b *strings.Builder, docs map[string]string, of reflect.Type) {
	b.WriteString("| field | in JSON | present | meaning |\n|---|---|---|---|\n")
	var walk func(prefix string, of reflect.Type)
	walk = func(prefix string, of reflect.Type) {
		for f := range of.Fields() {
			name, option, _ := strings.Cut(f.Tag.Get("json"), ",")
			doc := docs[of.Name()+"."+f.Name]
			if doc == "" {
				t.Errorf("%s.%s has no documentation", of.Name(), f.Name)
			}
			present := "always"
			if option != "" {
				present = "if not empty"
			}
			fmt.Fprintf(b, "| `%s` | %s | %s | %s |\n", prefix+name, inJSON(f.Type), present, doc)
			switch inner := f.Type; {
			case inner.Kind() == reflect.Struct && inner != reflect.TypeFor[time.Time]():
				walk(prefix+name+".", inner)
			case inner.Kind() == reflect.Slice && inner.Elem().Kind() == reflect.Struct:
				walk(prefix+name+"[].", inner.Elem())
			}
		}
	}
	walk("", of)
}

func inJSON(t reflect.Type) string {
	switch {
	case t == reflect.TypeFor[time.Time]():
		return "string, RFC 3339"
	case t.Kind() == reflect.Struct:
		return "object"
	case t.Kind() == reflect.Map && t.Elem().Kind() == reflect.Slice:
		return "object of arrays"
	case t.Kind() == reflect.Map:
		return "object of numbers"
	case t.Kind() == reflect.Slice:
		return "array"
	case t.Kind() == reflect.Bool:
		return "boolean"
	case t.Kind() == reflect.String:
		return "string"
	}
	return "number"
}

// documentation of fields, by type and name.
func documentation(t *testing.T) map[string]string {
	file, err := parser.ParseFile(token.NewFileSet(), "entry.go", nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	docs := map[string]string{}
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.TypeSpec)
		if !ok {
			return true
		}
		if of, ok := spec.Type.(*ast.StructType); ok {
			for _, f := range of.Fields.List {
				for _, name := range f.Names {
					docs[spec.Name.Name+"."+name.Name] = strings.Join(strings.Fields(f.Doc.Text()), " ")
				}
			}
		}
		return false
	})
	return docs
}

func example() *Entry {
	e := typical()
	e.Request.Verb, e.Request.Subresource, e.Request.Path, e.Request.Method = "create", "exec", e.Request.Path+"/exec", "GET"
	e.Verdict, e.Layer, e.Status = Deny, LayerGuardrail, 403
	e.Reasons = []Reason{{Guardrail: "no-exec-in-prod", Enforcement: "Deny", Message: "no shells in production without a ticket"}}
	return e
}

func indented(t *testing.T, line []byte) string {
	var out bytes.Buffer
	if err := json.Indent(&out, bytes.TrimSpace(line), "", "  "); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func metrics(t *testing.T, b *strings.Builder) {
	registry := prometheus.NewRegistry()
	closed10s(t, newLog(t, func(o *Options) { o.Metrics = registry }))
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		var labels []string
		for _, l := range f.GetMetric()[0].GetLabel() {
			labels = append(labels, "`"+l.GetName()+"`")
		}
		slices.SortFunc(labels, cmp.Compare[string])
		fmt.Fprintf(b, "| `%s` | %s | %s |\n", f.GetName(), strings.Join(labels, ", "), f.GetHelp())
	}
}
