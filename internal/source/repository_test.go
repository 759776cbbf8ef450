package source

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/object"
)

// repository is a real Git repository in a temporary folder.
type repository struct {
	t    *testing.T
	dir  string
	repo *git.Repository
}

// link is the content of a file that is a symlink.
type link string

func newRepository(t *testing.T) *repository {
	t.Helper()
	dir := t.TempDir()
	repo, err := git.PlainInitWithOptions(dir, &git.PlainInitOptions{
		InitOptions: git.InitOptions{DefaultBranch: plumbing.NewBranchReferenceName("main")},
	})
	if err != nil {
		t.Fatal(err)
	}
	return &repository{t: t, dir: dir, repo: repo}
}

// commit writes files, of which nil deletes one, and returns the SHA.
func (r *repository) commit(message string, files map[string]any) string {
	r.t.Helper()
	tree, err := r.repo.Worktree()
	r.must(err)
	for name, content := range files {
		path := filepath.Join(r.dir, name)
		r.must(os.MkdirAll(filepath.Dir(path), 0o755))
		r.must(os.RemoveAll(path))
		switch content := content.(type) {
		case nil:
			_, err = tree.Remove(name)
			r.must(err)
			continue
		case link:
			r.must(os.Symlink(string(content), path))
		case string:
			r.must(os.WriteFile(path, []byte(content), 0o644))
		}
		_, err = tree.Add(name)
		r.must(err)
	}
	hash, err := tree.Commit(message, &git.CommitOptions{
		AllowEmptyCommits: true,
		Author:            &object.Signature{Name: "Ada Lovelace", Email: "ada@example.org", When: time.Unix(1_700_000_000, 0)},
	})
	r.must(err)
	return hash.String()
}

// force puts the branch back to a commit, as a forced push does.
func (r *repository) force(sha string) {
	r.t.Helper()
	tree, err := r.repo.Worktree()
	r.must(err)
	r.must(tree.Reset(&git.ResetOptions{Commit: plumbing.NewHash(sha), Mode: git.HardReset}))
}

func (r *repository) options() Options {
	return Options{
		URL:       "file://" + r.dir,
		Branch:    "main",
		Path:      "grants",
		Interval:  time.Minute,
		Timeout:   time.Minute,
		Namespace: "sallyport-system",
		Name:      DefaultName,
	}
}

func (r *repository) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

func grant(namespace, name, reason string) string {
	return `apiVersion: access.sallyport.dev/v1alpha1
kind: AccessGrant
metadata:
  name: ` + name + `
  namespace: ` + namespace + `
spec:
  reason: ` + reason + `
  subjects:
  - {kind: Group, name: oncall}
  clusters:
    names: [prod-eu-1]
  access:
  - roleRef: {kind: ClusterRole, name: view}
`
}
