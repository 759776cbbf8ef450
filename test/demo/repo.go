package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/config"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/format/diff"
	"github.com/go-git/go-git/v5/plumbing/object"
)

// example is the repository that the demo's is a copy of.
const example = "gitops-examples/plain"

// The grant that the story is about is in the example, but not in the first
// commit.
const oncall = "teams/payments/oncall.yaml"

// repository is the one that is synced, with its work tree. No git is needed to
// play the story, and git works in it as anywhere.
type repository struct {
	dir  string
	repo *git.Repository
	work *git.Worktree
}

// newRepository makes it from the example, without the grant of the story.
func newRepository(dir string) (*repository, error) {
	r := &repository{dir: dir}
	if err := os.CopyFS(dir, os.DirFS(example)); err != nil {
		return nil, err
	}
	if err := os.Remove(r.path(oncall)); err != nil {
		return nil, err
	}
	if err := r.unlist(oncall); err != nil {
		return nil, err
	}
	var err error
	main := plumbing.NewBranchReferenceName("main")
	if r.repo, err = git.PlainInitWithOptions(dir, &git.PlainInitOptions{InitOptions: git.InitOptions{DefaultBranch: main}}); err != nil {
		return nil, err
	}
	if r.work, err = r.repo.Worktree(); err != nil {
		return nil, err
	}
	if err := r.introduce(); err != nil {
		return nil, err
	}
	_, err = r.commit("Pods on development clusters for bob, PAY-1200")
	return r, err
}

func (r *repository) path(file string) string { return filepath.Join(r.dir, filepath.FromSlash(file)) }

func (r *repository) url() string { return "file://" + filepath.ToSlash(r.dir) }

// author of the story's commits.
var author = object.Signature{Name: "Carol", Email: "carol@example.com"}

// introduce gives the repository an author, unless the person at the keyboard has
// told git who they are: without one "git commit" refuses.
func (r *repository) introduce() error {
	everywhere, err := config.LoadConfig(config.GlobalScope)
	if err == nil && everywhere.User.Name != "" && everywhere.User.Email != "" {
		return nil
	}
	c, err := r.repo.Config()
	if err != nil {
		return err
	}
	c.User.Name, c.User.Email = author.Name, author.Email
	return r.repo.SetConfig(c)
}

// add commits a new file that the kustomization lists.
func (r *repository) add(file, content, message string) (plumbing.Hash, error) {
	if err := r.write(file, content); err != nil {
		return plumbing.ZeroHash, err
	}
	return r.commit(message)
}

// write a new file that the kustomization lists.
func (r *repository) write(file, content string) error {
	if err := os.MkdirAll(filepath.Dir(r.path(file)), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(r.path(file), []byte(content), 0o644); err != nil {
		return err
	}
	list, err := os.OpenFile(r.path("kustomization.yaml"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = list.WriteString(entry(file)) // resources are the last of its keys
	return errors.Join(err, list.Close())
}

func (r *repository) commit(message string) (plumbing.Hash, error) {
	if err := r.work.AddWithOptions(&git.AddOptions{All: true}); err != nil {
		return plumbing.ZeroHash, err
	}
	who := author
	who.When = time.Now()
	return r.work.Commit(message+"\n", &git.CommitOptions{Author: &who, Committer: &who})
}

// revert does what "git revert" does, for a commit that only adds.
func (r *repository) revert(hash plumbing.Hash) (plumbing.Hash, error) {
	undone, err := r.repo.CommitObject(hash)
	if err != nil {
		return plumbing.ZeroHash, err
	}
	parent, err := undone.Parent(0)
	if err != nil {
		return plumbing.ZeroHash, err
	}
	patch, err := parent.Patch(undone)
	if err != nil {
		return plumbing.ZeroHash, err
	}
	for _, file := range patch.FilePatches() {
		if err := r.undo(file); err != nil {
			return plumbing.ZeroHash, fmt.Errorf("cannot revert %s: %w", hash, err)
		}
	}
	subject, _, _ := strings.Cut(undone.Message, "\n")
	return r.commit(fmt.Sprintf("Revert %q\n\nThis reverts commit %s.", subject, hash))
}

func (r *repository) undo(file diff.FilePatch) error {
	before, after := file.Files()
	if before == nil {
		return os.Remove(r.path(after.Path()))
	}
	for _, chunk := range file.Chunks() {
		if chunk.Type() == diff.Add {
			if err := r.cut(before.Path(), chunk.Content()); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *repository) unlist(file string) error { return r.cut("kustomization.yaml", entry(file)) }

// cut removes lines that are there.
func (r *repository) cut(file, lines string) error {
	content, err := os.ReadFile(r.path(file))
	if err != nil {
		return err
	}
	before, after, found := strings.Cut(string(content), lines)
	if !found {
		return fmt.Errorf("%s has no %q: %w", file, lines, fs.ErrNotExist)
	}
	return os.WriteFile(r.path(file), []byte(before+after), 0o644)
}

func entry(file string) string { return "- " + file + "\n" }

// abbreviated is a commit as people say it.
func abbreviated(hash plumbing.Hash) string { return hash.String()[:7] }
