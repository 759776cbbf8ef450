package manifest

import (
	"testing"
)

const text = `# a comment
apiVersion: v1
metadata:
  labels: {a.b/c: d, "e": f}
base: &base
  x: 1
merged:
  <<: *base
  y: 2
alias: *base
list:
- one
- two: 2
block: |
  first
    second
folded: >
  first
  second
quoted: "text"
`

func TestPlace(t *testing.T) {
	d, err := One("f.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	for field, want := range map[string]string{
		"":                        "f.yaml:2:1",
		"apiVersion":              "f.yaml:2:1",
		"metadata.labels[a.b/c]":  "f.yaml:4:12",
		"metadata.labels[\"e\"]":  "f.yaml:4:22",
		"metadata.labels.missing": "f.yaml:4:3",
		"merged.x":                "f.yaml:6:3",
		"merged.y":                "f.yaml:9:3",
		"alias.x":                 "f.yaml:6:3",
		"list[1].two":             "f.yaml:13:3",
		"list[7].two":             "f.yaml:11:1",
		"list.x":                  "f.yaml:11:1",
		"[":                       "f.yaml:2:1",
		"missing.too":             "f.yaml:2:1",
	} {
		if got := d.Place(field).String(); got != want {
			t.Errorf("%q: %s, want %s", field, got, want)
		}
	}
	for _, tc := range []struct {
		field        string
		line, column int
		want         string
	}{
		{"block", 1, 1, "f.yaml:15:3"},
		{"block", 2, 3, "f.yaml:16:5"},
		{"block", 99, 1, "f.yaml:14:1"},
		{"folded", 2, 1, "f.yaml:17:1"},
		{"quoted", 1, 3, "f.yaml:20:12"},
		{"apiVersion", 1, 2, "f.yaml:2:14"},
		{"list", 1, 2, "f.yaml:11:1"},
	} {
		if got := d.Within(tc.field, tc.line, tc.column).String(); got != tc.want {
			t.Errorf("%s %d:%d: %s, want %s", tc.field, tc.line, tc.column, got, tc.want)
		}
	}
}

// FuzzPlace: no file and no field make it panic, and every document has a place.
func FuzzPlace(f *testing.F) {
	f.Add(text, "metadata.labels[a.b/c]", 1, 1)
	f.Add("a: &a [*a]", "a[0][0].a", -1, 7)
	f.Add("a: &a {<<: *a}", "a.b", 2, 2)
	f.Add("a: |", "a", 1, 1)
	f.Fuzz(func(t *testing.T, text, field string, line, column int) {
		docs, err := Documents("f", []byte(text))
		if err != nil {
			return
		}
		for _, d := range docs {
			if p := d.Place(field); p.Line < 1 {
				t.Errorf("%q has place %v", field, p)
			}
			d.Within(field, line, column)
		}
	})
}
