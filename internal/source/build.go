package source

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// ErrNoPath is returned when a commit does not have the path that is synced.
var ErrNoPath = errors.New("the commit has no such folder; if it is meant to be empty, leave a .gitkeep in it")

// Build returns the objects that a folder of a commit stands for, sorted in the
// order of applying: what its kustomization builds, or else what is in all of its
// YAML and JSON files. It reads nothing but files. Every error names the file,
// and the line where there is one.
func Build(files fs.FS, folder string) ([]Object, error) {
	return build(&reader{FS: files, limits: defaultLimits}, folder)
}

func build(files *reader, folder string) ([]Object, error) {
	folder, err := cleanPath(folder)
	if err != nil {
		return nil, err
	}
	info, err := fs.Stat(files, folder)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("cannot build path %q: %w", folder, ErrNoPath)
	}
	if err == nil && !info.IsDir() {
		err = errors.New("not a folder")
	}
	if err != nil {
		return nil, fmt.Errorf("cannot build path %q: %w", folder, err)
	}
	kustomization, err := kustomizationIn(files, folder)
	if err != nil {
		return nil, err
	}
	var found []placed
	if kustomization != "" {
		found, err = runKustomize(files, folder)
	} else {
		found, err = readFolder(files, folder)
	}
	if err != nil {
		return nil, err
	}
	return admitAll(found)
}

// readFolder reads all YAML and JSON files below a folder. Names that begin with
// a dot belong to tools, such as .github/workflows.
func readFolder(files *reader, folder string) ([]placed, error) {
	var found []placed
	err := fs.WalkDir(files, folder, func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if name != folder && strings.HasPrefix(entry.Name(), ".") {
			if entry.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		if !isManifest(name) && entry.Type()&fs.ModeSymlink == 0 || entry.IsDir() {
			return nil
		}
		// A symlink to a folder would hide what is in it, or not: say so.
		if _, err := fs.Stat(files, name); err != nil {
			return err
		}
		if !isManifest(name) {
			return nil
		}
		data, err := files.readFile(name)
		if err != nil {
			return err
		}
		content, err := decodeFile(name, data)
		if err != nil {
			return err
		}
		if found = append(found, content...); len(found) > files.objects {
			return fmt.Errorf("%s: one object more than the %d that a commit may have", name, files.objects)
		}
		return nil
	})
	return found, err
}

func isManifest(name string) bool {
	return slices.Contains([]string{".yaml", ".yml", ".json"}, path.Ext(name))
}

// admitAll says everything that is wrong with the objects, up to ten errors.
func admitAll(found []placed) ([]Object, error) {
	var (
		objects []Object
		errs    []error
		first   = map[Ref]string{}
	)
	for _, p := range found {
		o, err := admit(p.content, p.at)
		if err == nil {
			if other, twice := first[o.Ref()]; twice {
				err = fmt.Errorf("%s: %s is already in %s", p.at, o.Ref(), other)
			}
		}
		if err != nil {
			if errs = append(errs, err); len(errs) == 10 {
				break
			}
			continue
		}
		first[o.Ref()] = p.at
		objects = append(objects, o)
	}
	slices.SortFunc(objects, func(a, b Object) int { return compareRefs(a.Ref(), b.Ref()) })
	return objects, errors.Join(errs...)
}
