package source

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestDecodeFile(t *testing.T) {
	for name, tc := range map[string]struct {
		reason  string
		file    string
		content string
		want    []placed
		err     string
	}{
		"Several": {
			reason:  "Each document is an object at its own line.",
			content: "# head\na: 1\n---\n\n# second\nb: 2\n--- # third\nc: 3\n",
			want: []placed{
				{map[string]any{"a": int64(1)}, "f.yaml:2"},
				{map[string]any{"b": int64(2)}, "f.yaml:6"},
				{map[string]any{"c": int64(3)}, "f.yaml:7"},
			},
		},
		"Empty": {
			reason:  "Comments and separators are no objects.",
			content: "# nothing\n---\n---\n# here\n",
		},
		"DocumentEnd": {
			reason:  "What follows ... is read, not lost.",
			content: "a: 1\n...\nb: 2\n",
			want: []placed{
				{map[string]any{"a": int64(1)}, "f.yaml:1"},
				{map[string]any{"b": int64(2)}, "f.yaml:3"},
			},
		},
		"Directive": {
			reason:  "A directive belongs to the document after it.",
			content: "%YAML 1.1\n---\na: 1\n",
			want:    []placed{{map[string]any{"a": int64(1)}, "f.yaml:1"}},
		},
		"CRLF": {
			reason:  "Windows editors end lines in two characters.",
			content: "a: 1\r\n---\r\nb: 2\r\n",
			want: []placed{
				{map[string]any{"a": int64(1)}, "f.yaml:1"},
				{map[string]any{"b": int64(2)}, "f.yaml:3"},
			},
		},
		"Indented": {
			reason:  "Dashes within a text do not divide it.",
			content: "a: |\n  x\n  ---\n  y\n",
			want:    []placed{{map[string]any{"a": "x\n---\ny\n"}, "f.yaml:1"}},
		},
		"JSON": {
			reason:  "JSON may be indented by tabs, which YAML forbids.",
			file:    "f.json",
			content: "{\n\t\"a\": 1\n}\n",
			want:    []placed{{map[string]any{"a": int64(1)}, "f.json:1"}},
		},
		"SyntaxError": {
			reason:  "The line is counted in the file, not in the document.",
			content: "a: 1\n---\nb: 2\nc: [\n",
			err:     "f.yaml:4: ",
		},
		"DuplicateKey": {
			reason:  "One of two equal keys would be ignored.",
			content: "a: 1\n---\nb: 2\nb: 3\n",
			err:     `f.yaml:4: key "b" already set in map`,
		},
		"NoObject": {
			reason:  "A list is no object.",
			content: "\n- a\n",
			err:     "f.yaml:2: a Kubernetes object is expected",
		},
		"JSONError": {
			reason:  "JSON has lines as well.",
			file:    "f.json",
			content: "{\n\"a\": 1,\n}\n",
			err:     "f.json:3: ",
		},
		"JSONDuplicate": {
			reason:  "JSON's readers disagree on which of two wins.",
			file:    "f.json",
			content: `{"a": 1, "a": 2}`,
			err:     "duplicate field",
		},
		"Bomb": {
			reason:  "Aliases that multiply are refused before they are expanded.",
			content: bomb(),
			err:     "excessive aliasing",
		},
	} {
		t.Run(name, func(t *testing.T) {
			file := tc.file
			if file == "" {
				file = "f.yaml"
			}
			got, err := decodeFile(file, []byte(tc.content))
			if (err == nil) != (tc.err == "") || err != nil && !strings.Contains(err.Error(), tc.err) {
				t.Fatalf("%s\ngot error %v, want %q", tc.reason, err, tc.err)
			}
			if diff := cmp.Diff(tc.want, got, cmp.AllowUnexported(placed{})); diff != "" {
				t.Errorf("%s\n-want +got\n%s", tc.reason, diff)
			}
		})
	}
}

// bomb is a few hundred bytes that would be ten to the ninth strings.
func bomb() string {
	var b strings.Builder
	b.WriteString("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n")
	for i := range 9 {
		from, to := string(rune('0'+i)), string(rune('1'+i))
		b.WriteString("a" + to + ": &a" + to + " [" + strings.TrimSuffix(strings.Repeat("*a"+from+", ", 10), ", ") + "]\n")
	}
	return b.String()
}

// FuzzDecodeFile: no file makes the reader panic, no byte of it is dropped between
// two documents, and every error names the file.
func FuzzDecodeFile(f *testing.F) {
	for _, seed := range []string{"a: 1\n---\nb: 2\n", "...\n---\n%YAML 1.1\n", "--- {a: 1}\n...", "{\"a\":1}", grant("a", "b", "c"), "? [a]\n: b", "\xff\xfe"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var whole []byte
		for _, d := range documents(data) {
			whole = append(whole, d.text...)
		}
		if want := bytes.TrimSpace(data); !bytes.Equal(squeeze(whole), squeeze(want)) {
			t.Errorf("documents drop text: %q became %q", data, whole)
		}
		for _, file := range []string{"f.yaml", "f.json"} {
			if _, err := decodeFile(file, data); err != nil && !strings.HasPrefix(err.Error(), file+":") {
				t.Errorf("error does not name the place: %v", err)
			}
		}
	})
}

// squeeze leaves out space, which may stand between documents.
func squeeze(b []byte) []byte { return bytes.Join(bytes.Fields(b), nil) }
