package bundle

import (
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"

	"github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/plumbing/object"
)

// commit is the revision of what was read: the time of the commit that is checked
// out, and its beginning. What was read has to be as it was committed, since two
// contents of one revision cannot be told which is newer.
func (b *builder) commit(near string) (string, error) {
	repository, err := git.PlainOpenWithOptions(near, &git.PlainOpenOptions{DetectDotGit: true, EnableDotGitCommonDir: true})
	if err != nil {
		return "", fmt.Errorf("there is no Git repository: %w", err)
	}
	work, err := repository.Worktree()
	if err != nil {
		return "", err
	}
	head, err := repository.Head()
	if err != nil {
		return "", fmt.Errorf("there is no commit: %w", err)
	}
	commit, err := repository.CommitObject(head.Hash())
	if err != nil {
		return "", err
	}
	tree, err := commit.Tree()
	if err != nil {
		return "", err
	}
	for _, name := range slices.Sorted(maps.Keys(b.read)) {
		if err := committed(tree, work.Filesystem.Root(), name, string(b.read[name])); err != nil {
			return "", err
		}
	}
	return fmt.Sprintf("%d+%s", commit.Committer.When.Unix(), head.Hash().String()[:12]), nil
}

func committed(tree *object.Tree, root, name, content string) error {
	absolute, err := filepath.Abs(name)
	if err == nil {
		absolute, err = filepath.EvalSymlinks(absolute)
	}
	if err != nil {
		return err
	}
	if root, err = filepath.EvalSymlinks(root); err != nil {
		return err
	}
	in, err := filepath.Rel(root, absolute)
	if err != nil {
		return err
	}
	file, err := tree.File(filepath.ToSlash(in))
	if errors.Is(err, object.ErrFileNotFound) {
		return fmt.Errorf("%s is not in the commit", name)
	}
	if err != nil {
		return err
	}
	was, err := file.Contents()
	if err != nil {
		return err
	}
	if was != content {
		return fmt.Errorf("%s is not as in the commit", name)
	}
	return nil
}
