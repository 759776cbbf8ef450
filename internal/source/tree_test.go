package source

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/filemode"
	"github.com/go-git/go-git/v5/plumbing/object"
	"github.com/go-git/go-git/v5/storage/memory"
)

func checkout(t *testing.T, r *repository) *Checkout {
	t.Helper()
	remote, err := NewRemote(r.options())
	r.must(err)
	c, err := remote.Checkout(t.Context())
	r.must(err)
	return c
}

func TestTreeIsAFileSystem(t *testing.T) {
	r := newRepository(t)
	r.commit("all", map[string]any{"a.yaml": "a", "b/c.yaml": "c", "b/d/e": "", "z/link": link("../b/c.yaml")})
	if err := fstest.TestFS(checkout(t, r).Files, "a.yaml", "b/c.yaml", "b/d/e", "z/link"); err != nil {
		t.Error(err)
	}
}

func TestTreeSymlinks(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("hunter22"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := newRepository(t)
	r.commit("links", map[string]any{
		"real/file.yaml": "content",
		"inside":         link("real/file.yaml"),
		"chain":          link("inside"),
		"folder":         link("real"),
		"absolute":       link(secret),
		"upwards":        link("../../../../../../../../../../" + secret),
		"git":            link(".git/config"),
		"loop":           link("loop"),
		"nowhere":        link("gone"),
	})
	files := checkout(t, r).Files
	for name, want := range map[string]string{
		"inside": "content", "chain": "content",
		"folder": "", "absolute": "", "upwards": "", "git": "", "loop": "", "nowhere": "", "folder/file.yaml": "",
	} {
		t.Run(name, func(t *testing.T) {
			got, err := fs.ReadFile(files, name)
			if string(got) != want || (err == nil) != (want != "") {
				t.Errorf("got %q and error %v, want %q", got, err, want)
			}
		})
	}
}

// TestBuildSymlinks: a symlink in a plain folder is the file that it leads to, or
// an error that names it.
func TestBuildSymlinks(t *testing.T) {
	for name, tc := range map[string]struct {
		reason string
		files  map[string]any
		want   string
	}{
		"Inside": {"A file may be shared.", map[string]any{"grants/a.yaml": link("../shared/a.yaml"), "shared/a.yaml": grant("a", "one", "x")}, ""},
		"Escape": {"No file of the controller is read.", map[string]any{"grants/a.yaml": link("../../etc/passwd")}, "grants/a.yaml: symlinks may lead only to regular files"},
		"Folder": {"What is behind would be there for some tools only.", map[string]any{"grants/a": link("../shared"), "shared/a.yaml": ""}, "grants/a: symlinks may lead only to regular files"},
		"Path":   {"The path itself is no symlink.", map[string]any{"grants": link("shared"), "shared/a.yaml": ""}, "symlinks may lead only to regular files"},
		"Overlay": {"Kustomize is given no symlinks.", map[string]any{
			"grants/kustomization.yaml": "resources: [a.yaml]\n", "grants/a.yaml": link("/etc/passwd"),
		}, "symlinks may lead only to regular files"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRepository(t)
			r.commit("c", tc.files)
			_, err := Build(checkout(t, r).Files, "grants")
			if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%s\ngot error %v, want one with %q", tc.reason, err, tc.want)
			}
		})
	}
}

// TestTreeNames: Git refuses to make such trees, but a server can send them.
func TestTreeNames(t *testing.T) {
	for _, name := range []string{"..", ".", "a/b", "../x"} {
		store := memory.NewStorage()
		encoded := store.NewEncodedObject()
		encoded.SetType(plumbing.TreeObject)
		w, err := encoded.Writer()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte("100644 " + name + "\x00" + strings.Repeat("\x01", 20))); err != nil {
			t.Fatal(err)
		}
		hash, err := store.SetEncodedObject(encoded)
		if err != nil {
			t.Fatal(err)
		}
		root, err := object.GetTree(store, hash)
		if err != nil {
			continue // refused even earlier
		}
		if _, err := fs.ReadDir(tree{root: root, maxFile: 10}, "."); err == nil {
			t.Errorf("entry %q is listed", name)
		}
	}
}

func TestTreeSubmodule(t *testing.T) {
	store := memory.NewStorage()
	root := &object.Tree{Entries: []object.TreeEntry{{Name: "sub", Mode: filemode.Submodule, Hash: plumbing.NewHash(strings.Repeat("1", 40))}}}
	encoded := store.NewEncodedObject()
	if err := root.Encode(encoded); err != nil {
		t.Fatal(err)
	}
	hash, err := store.SetEncodedObject(encoded)
	if err != nil {
		t.Fatal(err)
	}
	if root, err = object.GetTree(store, hash); err != nil {
		t.Fatal(err)
	}
	if _, err := (tree{root: root, maxFile: 10}).Open("sub"); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got error %v, want one that says why", err)
	}
}
