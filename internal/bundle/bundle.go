package bundle

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"

	opa "github.com/open-policy-agent/opa/v1/bundle"
	"github.com/open-policy-agent/opa/v1/loader/filter"

	"github.com/sallyport-dev/sallyport/internal/policy/rego"
)

// The files of a bundle that mean something to OPA.
const (
	manifestFile   = ".manifest"
	signaturesFile = ".signatures.json"
)

// Bundle is an archive that was unpacked. It is immutable, and need not be what it
// says: see Verify.
type Bundle struct {
	// Digest is sha256: and the digest of the archive.
	Digest string
	// Name and Description of the bundle, where its manifest has them.
	Name, Description string

	revision string // which Revision reads
	roots    []string
	files    map[string][]byte
}

// Digest of an archive, as Bundle has it.
func Digest(archive []byte) string {
	sum := sha256.Sum256(archive)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// Open unpacks a bundle. Errors are worded to follow the name of the bundle.
func Open(archive []byte) (*Bundle, error) {
	if len(archive) > MaxArchive {
		return nil, fmt.Errorf("has %d bytes; the most is %d", len(archive), MaxArchive)
	}
	files, err := unpack(archive, ".", limits{MaxContent, MaxFiles})
	if err != nil {
		return nil, err
	}
	b := &Bundle{Digest: Digest(archive), files: files}
	for name := range files {
		if err := supported(name); err != nil {
			return nil, err
		}
	}
	return b, b.readManifest()
}

// supported refuses what cannot be signed, or cannot be judged as Rego is.
func supported(name string) error {
	base := path.Base(name)
	switch {
	case base == "patch.json":
		return errors.New("is a delta bundle, which cannot be signed")
	case path.Ext(name) == ".wasm", base == opa.PlanFile, base == opa.PlanProtoFile:
		return fmt.Errorf("has %q: policies in WebAssembly or as plans are not read", name)
	case base == opa.ManifestProtoExt:
		return fmt.Errorf("has %q: the manifest has to be JSON", name)
	case path.Ext(name) == manifestFile && name != manifestFile, base == signaturesFile && name != signaturesFile:
		return fmt.Errorf("has %q, which belongs at its root", name)
	}
	return nil
}

func (b *Bundle) readManifest() error {
	raw, ok := b.files[manifestFile]
	if !ok {
		return fmt.Errorf("has no %s", manifestFile)
	}
	// What is hashed to be verified is the value, and in the value a later field of a
	// name wins. Written again, there is no other to read.
	var value map[string]any
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	if err := d.Decode(&value); err != nil || d.Decode(new(any)) != io.EOF {
		return fmt.Errorf("has a %s that is no JSON object", manifestFile)
	}
	canonical, err := json.Marshal(value)
	if err != nil {
		return err
	}
	var m opa.Manifest
	if err := json.Unmarshal(canonical, &m); err != nil {
		return fmt.Errorf("has a %s that cannot be read: %w", manifestFile, err)
	}
	m.Init()
	if m.RegoVersion != nil && *m.RegoVersion != 1 {
		return fmt.Errorf("is in Rego v%d: only v1 is read", *m.RegoVersion)
	}
	for name, v := range m.FileRegoVersions {
		if v != 1 {
			return fmt.Errorf("is in Rego v%d in %q: only v1 is read", v, name)
		}
	}
	b.files[manifestFile], b.revision, b.roots = canonical, m.Revision, *m.Roots
	b.Name, _ = m.Metadata["name"].(string)
	b.Description, _ = m.Metadata["description"].(string)
	return nil
}

// Revision of the bundle.
func (b *Bundle) Revision() (Revision, error) { return ParseRevision(b.revision) }

// Roots below data that the bundle is for.
func (b *Bundle) Roots() []string { return slices.Clone(b.roots) }

// modules of the bundle by file name. Sallyport's library in it is for others: here it
// is always the one that is compiled in. opa build puts folders before the names.
func (b *Bundle) modules() map[string]string {
	out := map[string]string{}
	for name, content := range b.files {
		if path.Ext(name) == opa.RegoExt {
			out[name] = string(content)
		}
	}
	for library := range rego.Library() {
		maps.DeleteFunc(out, func(name, _ string) bool { return name == library || strings.HasSuffix(name, "/"+library) })
	}
	return out
}

// load reads the data as OPA does, and checks it against the roots. The modules are
// not for OPA's reader, which would parse whatever there is.
func (b *Bundle) load() (*opa.Bundle, error) {
	names := slices.DeleteFunc(slices.Sorted(maps.Keys(b.files)), func(name string) bool { return path.Ext(name) == opa.RegoExt })
	out, err := opa.NewCustomReader(&loader{files: b.files, names: names}).
		WithSkipBundleVerification(true).WithLazyLoadingMode(false).Read()
	if err != nil {
		return nil, err
	}
	return &out, nil
}

// loader hands the files to OPA's reader.
type loader struct {
	files map[string][]byte
	names []string
}

// NextFile implements opa.DirectoryLoader.
func (l *loader) NextFile() (*opa.Descriptor, error) {
	if len(l.names) == 0 {
		return nil, io.EOF
	}
	name := l.names[0]
	l.names = l.names[1:]
	return opa.NewDescriptor(name, name, bytes.NewBuffer(l.files[name])), nil
}

// WithFilter and the others implement opa.DirectoryLoader; none of it is for what
// has been unpacked.
func (l *loader) WithFilter(filter.LoaderFilter) opa.DirectoryLoader { return l }

// WithPathFormat implements opa.DirectoryLoader.
func (l *loader) WithPathFormat(opa.PathFormat) opa.DirectoryLoader { return l }

// WithSizeLimitBytes implements opa.DirectoryLoader.
func (l *loader) WithSizeLimitBytes(int64) opa.DirectoryLoader { return l }

// WithFollowSymlinks implements opa.DirectoryLoader.
func (l *loader) WithFollowSymlinks(bool) opa.DirectoryLoader { return l }
