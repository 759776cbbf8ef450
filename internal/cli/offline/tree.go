package offline

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/sallyport-dev/sallyport/internal/policy/manifest"
	"github.com/sallyport-dev/sallyport/internal/source"
)

// tree is a file or folder, seen from the root of its repository, so that what it
// refers to is found, and nothing outside of the repository is.
type tree struct {
	fs.FS
	// at is the file or folder, from the root.
	at string
	// prefix leads from the working directory to the root, or is COMMIT:.
	prefix string
	close  func()
}

// open finds the repository of a path: the innermost folder above it that is a Git
// work tree, else the path itself.
func open(name string) (*tree, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	absolute, err := filepath.Abs(name)
	if err != nil {
		return nil, err
	}
	root := absolute
	if !info.IsDir() {
		root = filepath.Dir(absolute)
	}
	for dir := root; ; dir = filepath.Dir(dir) {
		if _, err := os.Lstat(filepath.Join(dir, ".git")); err == nil {
			root = dir
			break
		}
		if dir == filepath.Dir(dir) {
			break
		}
	}
	at, err := filepath.Rel(root, absolute)
	if err != nil {
		return nil, err
	}
	prefix := root
	if working, err := os.Getwd(); err == nil && !filepath.IsAbs(name) {
		if relative, err := filepath.Rel(working, root); err == nil {
			prefix = relative
		}
	}
	opened, err := os.OpenRoot(root)
	if err != nil {
		return nil, err
	}
	return &tree{FS: opened.FS(), at: filepath.ToSlash(at), prefix: filepath.ToSlash(prefix), close: func() { _ = opened.Close() }}, nil
}

// called is a file of the tree as messages name it.
func (t *tree) called(name string) string {
	if strings.HasSuffix(t.prefix, ":") {
		return t.prefix + name
	}
	return path.Join(t.prefix, name)
}

// placeIn takes the place from an error of the reader: file:line: message.
func placeIn(t *tree, err error) manifest.Place {
	file, rest, _ := strings.Cut(err.Error(), ":")
	p := manifest.Place{}
	var pathError *fs.PathError
	if errors.As(err, &pathError) {
		p.File = t.called(pathError.Path)
		return p
	}
	p.File = t.called(file)
	if line, _, found := strings.Cut(rest, ":"); found {
		_, _ = fmt.Sscanf(line, "%d", &p.Line)
	}
	return p
}

// messageOf is the error without its place.
func messageOf(err error) string {
	var pathError *fs.PathError
	if errors.As(err, &pathError) {
		return pathError.Err.Error()
	}
	_, message, found := strings.Cut(err.Error(), ": ")
	if !found {
		return err.Error()
	}
	return message
}

// documents of files, each file read once.
type documents struct {
	tree *tree
	read map[string][]*manifest.Document
}

// of an object, nil if there is none to be found: for one that a kustomization
// brings, the document that it began as, whose name may have been another.
func (d *documents) of(f *source.Found, u *unstructured.Unstructured) *manifest.Document {
	docs, known := d.read[f.File]
	if !known {
		if data, err := fs.ReadFile(d.tree, f.File); err == nil {
			docs, _ = manifest.Documents(d.tree.called(f.File), data)
		}
		d.read[f.File] = docs
	}
	var similar *manifest.Document
	for _, doc := range docs {
		switch {
		case f.Line != 0:
			if doc.Place("").Line == f.Line {
				return doc
			}
		case doc.Value("kind") != u.GetKind():
		case doc.Value("metadata.name") == u.GetName():
			return doc
		case doc.Value("metadata.name") != "" && strings.Contains(u.GetName(), doc.Value("metadata.name")):
			similar = doc
		}
	}
	return similar
}
