package source

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/go-git/go-git/v5/plumbing/filemode"
	"github.com/go-git/go-git/v5/plumbing/object"
)

// tree is the file system of one commit. A symlink is opened as the regular file
// that it leads to within the commit; one that leads to a folder, out of the
// repository or nowhere cannot be opened.
type tree struct {
	root    *object.Tree
	maxFile int64
}

// Files of a commit, for somebody who looks at their own repository: see Read. Symlinks
// are followed to regular files within the commit, and nowhere else.
func Files(commit *object.Commit) (fs.FS, error) {
	root, err := commit.Tree()
	if err != nil {
		return nil, fmt.Errorf("cannot read commit %s: %w", commit.Hash, err)
	}
	return tree{root: root, maxFile: localLimits.file}, nil
}

var errSymlink = errors.New("symlinks may lead only to regular files in the repository")

// Open implements fs.FS.
func (t tree) Open(name string) (fs.File, error) {
	f, err := t.open(name)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	return f, nil
}

func (t tree) open(name string) (fs.File, error) {
	if !fs.ValidPath(name) {
		return nil, fs.ErrInvalid
	}
	if name == "." {
		return openDir(".", t.root)
	}
	entry, err := t.root.FindEntry(name)
	if err != nil {
		return nil, fs.ErrNotExist
	}
	switch entry.Mode {
	case filemode.Dir:
		dir, err := t.root.Tree(name)
		if err != nil {
			return nil, err
		}
		return openDir(path.Base(name), dir)
	case filemode.Symlink:
		if entry, err = t.follow(name, entry); err != nil {
			return nil, err
		}
	case filemode.Regular, filemode.Executable, filemode.Deprecated:
	default:
		return nil, errors.New("neither a file nor a folder; submodules are not followed")
	}
	return t.openBlob(path.Base(name), entry)
}

// follow returns the file behind a symlink. Five hops are more than people use.
func (t tree) follow(name string, entry *object.TreeEntry) (*object.TreeEntry, error) {
	for range 5 {
		target, err := t.readBlob(entry)
		if err != nil {
			return nil, err
		}
		if path.IsAbs(string(target)) {
			return nil, errSymlink
		}
		name = path.Join(path.Dir(name), string(target))
		if !fs.ValidPath(name) || name == "." {
			return nil, errSymlink
		}
		entry, err = t.root.FindEntry(name)
		if err != nil {
			return nil, errSymlink
		}
		switch entry.Mode {
		case filemode.Symlink:
		case filemode.Regular, filemode.Executable, filemode.Deprecated:
			return entry, nil
		default:
			return nil, errSymlink
		}
	}
	return nil, errSymlink
}

func (t tree) openBlob(name string, entry *object.TreeEntry) (fs.File, error) {
	data, err := t.readBlob(entry)
	if err != nil {
		return nil, err
	}
	return &blob{fileInfo: fileInfo{name: name, mode: 0o444, size: int64(len(data))}, Reader: bytes.NewReader(data)}, nil
}

func (t tree) readBlob(entry *object.TreeEntry) ([]byte, error) {
	f, err := t.root.TreeEntryFile(entry)
	if err != nil {
		return nil, err
	}
	if f.Size > t.maxFile {
		return nil, fmt.Errorf("%d bytes are more than the %d that a file may have", f.Size, t.maxFile)
	}
	r, err := f.Reader()
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(r, t.maxFile))
	return data, errors.Join(err, r.Close())
}

func openDir(name string, t *object.Tree) (fs.File, error) {
	d := &dir{fileInfo: fileInfo{name: name, mode: fs.ModeDir | 0o555}}
	for _, entry := range t.Entries {
		// Git itself never writes such names. They would make a path mean
		// another file than the one that was looked at.
		if !fs.ValidPath(entry.Name) || entry.Name == "." || strings.Contains(entry.Name, "/") {
			return nil, fmt.Errorf("tree entry %q has no valid name", entry.Name)
		}
		d.entries = append(d.entries, dirEntry{fileInfo{name: entry.Name, mode: modeOf(entry.Mode)}, t})
	}
	slices.SortFunc(d.entries, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return d, nil
}

func modeOf(m filemode.FileMode) fs.FileMode {
	switch m {
	case filemode.Dir:
		return fs.ModeDir | 0o555
	case filemode.Symlink:
		return fs.ModeSymlink | 0o444
	case filemode.Regular, filemode.Executable, filemode.Deprecated:
		return 0o444
	default:
		return fs.ModeIrregular
	}
}

type fileInfo struct {
	name string
	mode fs.FileMode
	size int64
}

func (i fileInfo) Name() string               { return i.name }
func (i fileInfo) Size() int64                { return i.size }
func (i fileInfo) Mode() fs.FileMode          { return i.mode }
func (i fileInfo) ModTime() time.Time         { return time.Time{} }
func (i fileInfo) IsDir() bool                { return i.mode.IsDir() }
func (i fileInfo) Sys() any                   { return nil }
func (i fileInfo) Stat() (fs.FileInfo, error) { return i, nil }
func (i fileInfo) Close() error               { return nil }

type blob struct {
	fileInfo
	*bytes.Reader
}

// Size is that of the file: both embedded types have one.
func (b *blob) Size() int64 { return b.fileInfo.Size() }

// dirEntry asks for the size of a file only when it is wanted.
type dirEntry struct {
	fileInfo
	parent *object.Tree
}

func (e dirEntry) Type() fs.FileMode { return e.mode.Type() }

func (e dirEntry) Info() (fs.FileInfo, error) {
	info := e.fileInfo
	if info.mode.IsRegular() {
		var err error
		if info.size, err = e.parent.Size(info.name); err != nil {
			return nil, err
		}
	}
	return info, nil
}

func (e dirEntry) String() string { return fs.FormatDirEntry(e) }

type dir struct {
	fileInfo
	entries []fs.DirEntry
}

func (d *dir) Read([]byte) (int, error) {
	return 0, &fs.PathError{Op: "read", Path: d.name, Err: errors.New("is a folder")}
}

// ReadDir implements fs.ReadDirFile.
func (d *dir) ReadDir(n int) ([]fs.DirEntry, error) {
	if n <= 0 {
		n = len(d.entries)
	} else if len(d.entries) == 0 {
		return nil, io.EOF
	}
	n = min(n, len(d.entries))
	head := d.entries[:n]
	d.entries = d.entries[n:]
	return slices.Clone(head), nil
}
