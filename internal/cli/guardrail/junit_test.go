package guardrail

import (
	"bytes"
	"encoding/xml"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestJUnit: what CI reads are well-formed suites with counts that add up.
func TestJUnit(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "policy")
	if err := os.CopyFS(dir, os.DirFS("../../policy/examples/testdata/no-exec")); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "examples.yaml")
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	// Two examples more: one wrong, and one with a name that has to be escaped.
	data = append(data, []byte("- name: a < b & \"c\"\n  request: *shell\n  grants: [{namespace: payments, name: a, reason: PAY-1}]\n  expect: allowed\n"+
		"- name: wrong\n  request: *shell\n  grants: [{namespace: payments, name: a, reason: PAY-1}]\n  expect: failed\n")...)
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := test(&out, io.Discard, []string{dir}, testOptions{output: "junit", coverage: true}); err == nil {
		t.Error("no error")
	}
	var got struct {
		Suites []struct {
			Tests    int `xml:"tests,attr"`
			Failures int `xml:"failures,attr"`
			Cases    []struct {
				Name    string `xml:"name,attr"`
				Failure []struct {
					Message string `xml:"message,attr"`
				} `xml:"failure"`
			} `xml:"testcase"`
		} `xml:"testsuite"`
	}
	if err := xml.Unmarshal(out.Bytes(), &got); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	if len(got.Suites) != 1 || got.Suites[0].Tests != 8 || got.Suites[0].Failures != 1 {
		t.Fatalf("got %+v", got)
	}
	last := got.Suites[0].Cases[6:]
	if last[0].Name != `a < b & "c"` {
		t.Errorf("name %q", last[0].Name)
	}
	if diff := cmp.Diff("expected failed, was allowed", last[1].Failure[0].Message); diff != "" {
		t.Error(diff)
	}
}
