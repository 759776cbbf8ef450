package bundle

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
)

// Limits of a bundle. An archive is kept in a ConfigMap, of which 1 MiB is the most
// that there can be.
const (
	// MaxArchive is how many bytes the .tar.gz may have.
	MaxArchive = 700 << 10
	// MaxContent is how many bytes there may be in it, unpacked.
	MaxContent = 16 << 20
	// MaxFiles is how many entries it may have.
	MaxFiles = 2000
)

// Limits of the tree that a bundle is fetched in, such as a whole repository.
const (
	// MaxTree is how many bytes its .tar.gz may have.
	MaxTree = 64 << 20
	// maxTreeContent is how many bytes are unpacked while looking for the bundle.
	maxTreeContent = 512 << 20
	maxTreeFiles   = 200_000
)

type limits struct {
	content int64
	files   int
}

// unpack the regular files of a .tar.gz that are under a path, by their paths below
// it. Where the path is that of a file, it is the only one, with the path "".
func unpack(archive []byte, under string, l limits) (map[string][]byte, error) {
	compressed, err := gzip.NewReader(bytes.NewReader(archive))
	if err != nil {
		return nil, fmt.Errorf("is no .tar.gz: %w", err)
	}
	content := &io.LimitedReader{R: compressed, N: l.content + 1}
	files := map[string][]byte{}
	kept := int64(0)
	for entries, r := 0, tar.NewReader(content); ; {
		h, err := r.Next()
		switch {
		case content.N <= 0:
			return nil, fmt.Errorf("has more than %d bytes, unpacked", l.content)
		case errors.Is(err, io.EOF):
			return files, nil
		case err != nil:
			return nil, fmt.Errorf("cannot be unpacked: %w", err)
		}
		if entries++; entries > l.files {
			return nil, fmt.Errorf("has more than %d entries", l.files)
		}
		name, err := cleanPath(h.Name)
		if err != nil {
			return nil, err
		}
		name, ok := below(name, under)
		if !ok {
			continue
		}
		switch h.Typeflag {
		case tar.TypeReg:
		case tar.TypeDir, tar.TypeXGlobalHeader:
			continue
		default:
			return nil, fmt.Errorf("has %q, which is neither a file nor a folder", h.Name)
		}
		if _, ok := files[name]; ok {
			return nil, fmt.Errorf("has %q twice", h.Name)
		}
		files[name], err = io.ReadAll(io.LimitReader(r, MaxContent-kept+1))
		switch kept += int64(len(files[name])); {
		case kept > MaxContent || content.N <= 0:
			return nil, fmt.Errorf("has more than %d bytes, unpacked", min(MaxContent, l.content))
		case err != nil:
			return nil, fmt.Errorf("cannot be unpacked: %w", err)
		}
	}
}

// cleanPath is a path without the leading slash that OPA writes, or ./ that tar does.
func cleanPath(name string) (string, error) {
	if strings.ContainsAny(name, "\\\x00") || strings.HasPrefix(name, "//") || slices.Contains(strings.Split(name, "/"), "..") {
		return "", fmt.Errorf("has %q, which leads out of it", name)
	}
	return path.Clean(strings.TrimPrefix(name, "/")), nil
}

func below(name, under string) (string, bool) {
	switch {
	case under == ".":
		return name, true
	case name == under:
		return "", true
	}
	return strings.CutPrefix(name, under+"/")
}

// pack files into a .tar.gz. The same files give the same bytes.
func pack(files map[string][]byte) ([]byte, error) {
	var out bytes.Buffer
	compressed, err := gzip.NewWriterLevel(&out, gzip.BestCompression)
	if err != nil {
		return nil, err
	}
	w := tar.NewWriter(compressed)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(files[name])), Format: tar.FormatPAX}); err != nil {
			return nil, err
		}
		if _, err := w.Write(files[name]); err != nil {
			return nil, err
		}
	}
	if err := errors.Join(w.Close(), compressed.Close()); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// FromTree finds the archive of a bundle in the .tar.gz of a tree: the file of that
// path, or what the folder of that path makes when it is packed.
func FromTree(tree []byte, at string) ([]byte, error) {
	under, err := cleanPath(at)
	if err != nil {
		return nil, fmt.Errorf("path %q leads out of the artifact", at)
	}
	files, err := unpack(tree, under, limits{maxTreeContent, maxTreeFiles})
	if err != nil {
		return nil, fmt.Errorf("the artifact %w", err)
	}
	archive, ok := files[""]
	switch {
	case ok:
		return archive, nil
	case len(files) == 0:
		return nil, fmt.Errorf("there is nothing at %q in the artifact", at)
	}
	return packFolder(files)
}

// FromFolder packs the bundle that a folder holds.
func FromFolder(folder fs.FS) ([]byte, error) {
	files := map[string][]byte{}
	size := 0
	err := fs.WalkDir(folder, ".", func(name string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil || entry.IsDir():
			return err
		case !entry.Type().IsRegular():
			return fmt.Errorf("%q is neither a file nor a folder", name)
		case len(files) == MaxFiles:
			return fmt.Errorf("there are more than %d files", MaxFiles)
		}
		f, err := folder.Open(name)
		if err != nil {
			return err
		}
		files[name], err = io.ReadAll(io.LimitReader(f, int64(MaxContent-size+1)))
		if err := errors.Join(err, f.Close()); err != nil {
			return err
		}
		if size += len(files[name]); size > MaxContent {
			return fmt.Errorf("the files have more than %d bytes", MaxContent)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return packFolder(files)
}

// packFolder says what is missing where a folder is not that of a bundle, and would
// only fail later for a reason that nobody understands.
func packFolder(files map[string][]byte) ([]byte, error) {
	if _, ok := files[manifestFile]; !ok {
		return nil, fmt.Errorf("the folder has no %s, so that it is no bundle", manifestFile)
	}
	return pack(files)
}
