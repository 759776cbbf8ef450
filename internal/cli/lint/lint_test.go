package lint

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"encoding/xml"
	"io"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/internal/bundle"
	"github.com/sallyport-dev/sallyport/internal/cli/offline"
)

const (
	grantYAML = `apiVersion: access.sallyport.dev/v1alpha1
kind: AccessGrant
metadata: {name: NAME, namespace: payments}
spec:
  reason: PAY-1
  subjects: [{kind: Group, name: oncall}]
  clusters: {names: [a]}
  access:
  - rules: [{apiGroups: [""], resources: [pods], verbs: [VERB]}]
`
	guardrailYAML = `apiVersion: access.sallyport.dev/v1alpha1
kind: Guardrail
metadata: {name: no-delete}
spec:
  cel:
    validations:
    - expression: '!input.access.exists(a, a.rules.exists(r, rbac.allows(r, "delete", "", "pods")))'
      messageExpression: '"delete <is>\n" + input.grant.metadata.name + " refused\u001b[2J\u202e"'
      field: spec.access
`
)

func write(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		name = filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func grant(name, verb string) string {
	return strings.NewReplacer("NAME", name, "VERB", verb).Replace(grantYAML)
}

// TestJUnit: what CI reads has a case for each grant.
func TestJUnit(t *testing.T) {
	dir := write(t, map[string]string{"a.yaml": grant("reads", "get"), "b.yaml": grant("deletes", "delete"), "g.yaml": guardrailYAML})
	var out bytes.Buffer
	if err := run(&out, dir, options{output: "junit", now: "2026-01-05T10:00:00Z"}); err == nil {
		t.Error("no error")
	}
	var got struct {
		Suites []struct {
			Tests    int `xml:"tests,attr"`
			Failures int `xml:"failures,attr"`
			Cases    []struct {
				Name    string `xml:"name,attr"`
				Line    int    `xml:"line,attr"`
				Failure []struct {
					Message string `xml:"message,attr"`
				} `xml:"failure"`
			} `xml:"testcase"`
		} `xml:"testsuite"`
	}
	if err := xml.Unmarshal(out.Bytes(), &got); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	if len(got.Suites) != 1 || got.Suites[0].Tests != 3 || got.Suites[0].Failures != 1 {
		t.Fatalf("got %+v", got)
	}
	failed := map[string]string{}
	for _, c := range got.Suites[0].Cases {
		text := ""
		for _, f := range c.Failure {
			text += strings.TrimPrefix(f.Message, dir)
		}
		failed[c.Name] = text
	}
	want := map[string]string{
		"AccessGrant payments/reads": "", "repository": "",
		"AccessGrant payments/deletes": `/b.yaml:8:3: guardrail "no-delete": delete <is> deletes refused[2J (spec.access)`,
	}
	if diff := cmp.Diff(want, failed); diff != "" {
		t.Errorf("cases (-want +got):\n%s", diff)
	}
}

// TestTextIsSafe: S25. What tenants write, in messages, in names and in names of
// files, reaches the terminal as text, on one line.
func TestTextIsSafe(t *testing.T) {
	dir := write(t, map[string]string{
		"b.yaml": grant("deletes", "delete"), "g.yaml": guardrailYAML,
		"c\n\u001b[2J.yaml":    grant(`"a\n\u001b[2J\u202e"`, "delete"),
		"d/kustomization.yaml": `{resources: [d.yaml], "a\u001b[2J\u202e\nb": x}`,
		"e.yaml":               strings.Replace(grant("e", "get"), "spec:", `spec: {"x\n\u001b[2J\u202e": y}`+"\nspec2:", 1),
	})
	for _, output := range []string{"text", "junit"} {
		var out bytes.Buffer
		if err := run(&out, dir, options{output: output}); err == nil {
			t.Error("no error")
		}
		for line := range strings.Lines(strings.TrimSuffix(out.String(), "\n")) {
			if text := strings.TrimSuffix(line, "\n"); strings.ContainsAny(text, "\u001b\u202e") || output == "text" && !strings.HasPrefix(text, dir) && !strings.HasPrefix(text, "warning: ") {
				t.Errorf("%q", line)
			}
		}
	}
}

// TestPoint: lint asks at the point Plan, and at no other.
func TestPoint(t *testing.T) {
	for points, want := range map[string]bool{"Plan": true, "Admission": false, "Compile": false, "Plan, Compile": true} {
		dir := write(t, map[string]string{
			"a.yaml": grant("deletes", "delete"), "g.yaml": strings.Replace(guardrailYAML, "spec:\n", "spec:\n  points: ["+points+"]\n", 1),
		})
		if refused := run(io.Discard, dir, options{output: "text"}) != nil; refused != want {
			t.Errorf("%s: refused %t", points, refused)
		}
	}
}

// TestBundle: guardrails of a bundle judge under the name of the bundle, and one
// that does not verify as the repository says judges nothing, and is an error.
func TestBundle(t *testing.T) {
	const bundleYAML = `apiVersion: access.sallyport.dev/v1alpha1
kind: GuardrailBundle
metadata: {name: library}
spec:
  source: {directory: {path: library.tar.gz}}
`
	var g v1alpha1.Guardrail
	if err := yaml.UnmarshalStrict([]byte(guardrailYAML), &g); err != nil {
		t.Fatal(err)
	}
	revision, err := bundle.ParseRevision("1")
	if err != nil {
		t.Fatal(err)
	}
	archive, err := bundle.Build(bundle.Manifest{Name: "library", Revision: revision, Guardrails: map[string]v1alpha1.GuardrailSpec{g.Name: g.Spec}})
	if err != nil {
		t.Fatal(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := bundle.Sign(archive, bundle.Signer{
		Key: string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})), KeyID: "k", Algorithm: "ES256",
	})
	if err != nil {
		t.Fatal(err)
	}
	archives := write(t, map[string]string{"library.tar.gz": string(archive), "signed.tar.gz": string(sealed)})
	file, signedFile := filepath.Join(archives, "library.tar.gz"), filepath.Join(archives, "signed.tar.gz")
	files := map[string]string{"a.yaml": grant("deletes", "delete")}
	lint := func(files map[string]string, bundles ...string) string {
		dir := write(t, files)
		var out bytes.Buffer
		err := run(&out, dir, options{output: "text", beside: offline.Beside{Bundles: bundles}})
		text := strings.ReplaceAll(out.String(), dir+"/", "")
		if err != nil {
			text += "error: " + err.Error()
		}
		return text
	}
	with := maps.Clone(files)
	with["b.yaml"] = bundleYAML + "  unsigned: Allowed\n"
	signed := maps.Clone(files)
	signed["b.yaml"] = bundleYAML + "  verification: {keys: [{id: k, algorithm: ES256, publicKey: x}]}\n"
	for name, tc := range map[string]struct {
		got, want string
	}{
		"Named":       {lint(files, "library="+file), `guardrail "library/no-delete": `},
		"InTheRepo":   {lint(with, "library="+file), `guardrail "library/no-delete": `},
		"Missing":     {lint(with), "without --bundle library=FILE they are not asked"},
		"NotVerified": {lint(signed, "library="+file), "GuardrailBundle library  is not signed"},
		"NoKey":       {lint(with, "library="+signedFile), "GuardrailBundle library  is signed, and there is no key"},
		"NoBundle":    {lint(files, "library="+file+".sig"), "cannot read --bundle"},
	} {
		if !strings.Contains(tc.got, tc.want) {
			t.Errorf("%s: no %q in:\n%s", name, tc.want, tc.got)
		}
	}
}
