package offline

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/object"

	"github.com/sallyport-dev/sallyport/internal/source"
)

// ReadCommit adds what is in a folder of a Git repository as of a commit, which may be
// named in any way that Git knows, and as grants and decisions name it:
// main@sha1:9b1e…. The working tree is neither read nor changed. It returns the commit.
func (r *Repository) ReadCommit(folder, revision string) (string, error) {
	repository, err := git.PlainOpenWithOptions(folder, &git.PlainOpenOptions{DetectDotGit: true, EnableDotGitCommonDir: true})
	if errors.Is(err, git.ErrRepositoryNotExists) { // unless it is bare
		repository, err = git.PlainOpen(folder)
	}
	if err != nil {
		return "", fmt.Errorf("there is no Git repository: %w", err)
	}
	commit, err := commitOf(repository, revision)
	if err != nil {
		return "", err
	}
	at, err := within(repository, folder)
	if err != nil {
		return "", err
	}
	files, err := source.Files(commit)
	if err != nil {
		return "", err
	}
	hash := commit.Hash.String()
	r.read(&tree{FS: files, at: at, prefix: hash[:12] + ":"}, nil)
	return hash, nil
}

func commitOf(repository *git.Repository, revision string) (*object.Commit, error) {
	name := revision
	if _, digest, found := strings.Cut(revision, "@sha1:"); found {
		name = digest
	}
	hash, err := repository.ResolveRevision(plumbing.Revision(name))
	if err != nil {
		return nil, fmt.Errorf("there is no commit %q: %w", revision, err)
	}
	return repository.CommitObject(*hash)
}

// within is where in the repository a folder is; a bare one is itself the folder.
func within(repository *git.Repository, folder string) (string, error) {
	work, err := repository.Worktree()
	if errors.Is(err, git.ErrIsBareRepository) {
		return ".", nil
	}
	if err != nil {
		return "", err
	}
	absolute, err := filepath.Abs(folder)
	if err == nil {
		absolute, err = filepath.EvalSymlinks(absolute)
	}
	if err != nil {
		return "", err
	}
	root, err := filepath.EvalSymlinks(work.Filesystem.Root())
	if err != nil {
		return "", err
	}
	at, err := filepath.Rel(root, absolute)
	return filepath.ToSlash(at), err
}
