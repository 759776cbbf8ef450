package offline

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/plumbing/object"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
)

const grantYAML = `apiVersion: access.sallyport.dev/v1alpha1
kind: AccessGrant
metadata: {name: NAME, namespace: payments}
spec:
  reason: PAY-1
  subjects: [{kind: Group, name: oncall}]
  clusters: {names: [a]}
  access: [{rules: [{apiGroups: [""], resources: [pods], verbs: [get]}]}]
`

// TestReadCommit: a commit is read as it is, from its repository, a folder of that, a
// linked name of it and a bare clone, whatever is in the working tree.
func TestReadCommit(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		name = filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("work/teams/kustomization.yaml", "resources: [../base]\nnamePrefix: web-\n")
	write("work/base/kustomization.yaml", "resources: [grant.yaml]\n")
	write("work/base/grant.yaml", strings.Replace(grantYAML, "NAME", "one", 1))
	write("outside.yaml", strings.Replace(grantYAML, "NAME", "outside", 1))
	if err := os.Symlink("../../outside.yaml", filepath.Join(dir, "work/teams/outside.yaml")); err != nil {
		t.Fatal(err)
	}
	repository, err := git.PlainInit(filepath.Join(dir, "work"), false)
	if err != nil {
		t.Fatal(err)
	}
	work, err := repository.Worktree()
	if err != nil {
		t.Fatal(err)
	}
	if err := work.AddWithOptions(&git.AddOptions{All: true}); err != nil {
		t.Fatal(err)
	}
	author := &object.Signature{Name: "Ann", Email: "ann@example.com", When: time.Unix(1767600000, 0)}
	hash, err := work.Commit("first", &git.CommitOptions{Author: author})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := git.PlainClone(filepath.Join(dir, "bare.git"), true, &git.CloneOptions{URL: filepath.Join(dir, "work")}); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("work", filepath.Join(dir, "linked")); err != nil {
		t.Fatal(err)
	}
	write("work/base/grant.yaml", strings.Replace(grantYAML, "NAME", "changed", 1))

	for name, tc := range map[string]struct{ folder, revision string }{
		"Root":   {"work", "HEAD"},
		"Folder": {"work/teams", hash.String()},
		"Linked": {"linked/teams", "master"},
		"Source": {"work", "master@sha1:" + hash.String()},
		"Bare":   {"bare.git", "HEAD"},
	} {
		r, err := New()
		if err != nil {
			t.Fatal(err)
		}
		got, err := r.ReadCommit(filepath.Join(dir, tc.folder), tc.revision)
		if err != nil || got != hash.String() {
			t.Errorf("%s: %s, %v", name, got, err)
			continue
		}
		// The link leads out of the repository, which is an error, and no grant.
		grants := r.Of(v1alpha1.AccessGrantKind)
		if len(grants) != 1 || grants[0].Label() != "AccessGrant payments/web-one" || len(r.Findings) != 1 || !strings.Contains(r.Findings[0].Text(), "symlinks") {
			t.Errorf("%s: %d grants; %+v", name, len(grants), r.Findings)
		}
		if want := hash.String()[:12] + ":teams/outside.yaml"; len(r.Findings) == 1 && r.Findings[0].Place.File != want {
			t.Errorf("%s: the place is %q", name, r.Findings[0].Place.File)
		}
	}
	r, err := New()
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct{ folder, revision, want string }{
		"NoRepository": {".", "HEAD", "there is no Git repository"},
		"NoCommit":     {"work", "nowhere", `there is no commit "nowhere"`},
	} {
		if _, err := r.ReadCommit(filepath.Join(dir, tc.folder), tc.revision); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
