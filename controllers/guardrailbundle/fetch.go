package guardrailbundle

import (
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/fluxcd/pkg/apis/meta"
	sourcev1 "github.com/fluxcd/source-controller/api/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/internal/bundle"
)

// fetch the archive of a bundle. Errors are stable, so that a condition does not
// flap.
func (r *Reconciler) fetch(ctx context.Context, from *v1alpha1.BundleSource) ([]byte, error) {
	timeout := r.Timeout
	if timeout == 0 {
		timeout = 30 * time.Second
	}
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, fmt.Errorf("it took longer than %s", timeout))
	defer cancel()
	switch {
	case from.Artifact != nil:
		return r.fetchArtifact(ctx, from.Artifact)
	case from.ConfigMap != nil:
		return r.fetchConfigMap(ctx, from.ConfigMap)
	case from.Directory != nil:
		return fetchDirectory(from.Directory.Path)
	}
	return nil, errors.New("the bundle has no source")
}

func (r *Reconciler) fetchArtifact(ctx context.Context, from *v1alpha1.ArtifactSource) ([]byte, error) {
	source := &unstructured.Unstructured{}
	source.SetGroupVersionKind(sourcev1.GroupVersion.WithKind(from.Kind))
	name := fmt.Sprintf("%s %s/%s", from.Kind, from.Namespace, from.Name)
	if err := r.Live.Get(ctx, client.ObjectKey{Namespace: string(from.Namespace), Name: from.Name}, source); err != nil {
		return nil, fmt.Errorf("cannot read %s: %w", name, err)
	}
	raw, ok, err := unstructured.NestedMap(source.Object, "status", "artifact")
	if err != nil || !ok {
		return nil, fmt.Errorf("%s has no artifact", name)
	}
	var artifact meta.Artifact
	text, err := json.Marshal(raw)
	if err == nil {
		err = json.Unmarshal(text, &artifact)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read the artifact of %s: %w", name, err)
	}
	most := int64(bundle.MaxArchive)
	if from.Path != "" {
		most = bundle.MaxTree
	}
	content, err := download(ctx, artifact.URL, most)
	if err == nil {
		err = checkDigest(artifact.Digest, content)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot fetch the artifact of %s: %w", name, err)
	}
	if from.Path == "" {
		return content, nil
	}
	archive, err := bundle.FromTree(content, from.Path)
	if err != nil {
		return nil, fmt.Errorf("cannot find the bundle in %s: %w", name, err)
	}
	return archive, nil
}

// errMoved: the server names another one.
var errMoved = errors.New("redirected to another server")

// download what is at a URL, and not elsewhere.
func download(ctx context.Context, address string, most int64) ([]byte, error) {
	at, err := url.Parse(address)
	if err != nil || at.Scheme != "http" && at.Scheme != "https" || at.Host == "" {
		return nil, errors.New("its URL is neither http nor https")
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	c := http.Client{CheckRedirect: func(to *http.Request, via []*http.Request) error {
		if to.URL.Host != at.Host || to.URL.Scheme != at.Scheme || len(via) > 3 {
			return errMoved
		}
		return nil
	}}
	response, err := c.Do(request)
	if err != nil {
		return nil, steady(ctx, err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the server says %s", response.Status)
	}
	content, err := io.ReadAll(io.LimitReader(response.Body, most+1))
	if err != nil {
		return nil, steady(ctx, err)
	}
	if int64(len(content)) > most {
		return nil, fmt.Errorf("it has more than %d bytes", most)
	}
	return content, nil
}

// steady is an error without what differs from one try to the next, such as ports,
// which is for the log.
func steady(ctx context.Context, err error) error {
	ctrl.LoggerFrom(ctx).Info("An artifact cannot be downloaded", "error", err.Error())
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.Is(err, errMoved):
		return errMoved
	case errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("it ends too early")
	}
	return errors.New("the server cannot be reached")
}

// checkDigest of an artifact as Flux writes it: algorithm and hexadecimal.
func checkDigest(want string, content []byte) error {
	algorithm, digest, _ := strings.Cut(want, ":")
	var sum []byte
	switch algorithm {
	case "sha256":
		s := sha256.Sum256(content)
		sum = s[:]
	case "sha384":
		s := sha512.Sum384(content)
		sum = s[:]
	case "sha512":
		s := sha512.Sum512(content)
		sum = s[:]
	default:
		return fmt.Errorf("its digest %q is none of sha256, sha384 and sha512", want)
	}
	if subtle.ConstantTimeCompare([]byte(digest), []byte(hex.EncodeToString(sum))) != 1 {
		return fmt.Errorf("its digest is %s:%x, and has to be %s", algorithm, sum, want)
	}
	return nil
}

func (r *Reconciler) fetchConfigMap(ctx context.Context, from *v1alpha1.ConfigMapSource) ([]byte, error) {
	key := from.Key
	if key == "" {
		key = bundle.ArchiveKey
	}
	var cm corev1.ConfigMap
	if err := r.Live.Get(ctx, client.ObjectKey{Namespace: string(from.Namespace), Name: from.Name}, &cm); err != nil {
		return nil, fmt.Errorf("cannot read ConfigMap %s/%s: %w", from.Namespace, from.Name, err)
	}
	archive, ok := cm.BinaryData[key]
	if !ok {
		return nil, fmt.Errorf("ConfigMap %s/%s has no binaryData %q", from.Namespace, from.Name, key)
	}
	return archive, nil
}

func fetchDirectory(path string) ([]byte, error) {
	if !filepath.IsAbs(path) {
		return nil, fmt.Errorf("path %q is not absolute", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		archive, err := bundle.FromFolder(os.DirFS(path))
		if err != nil {
			return nil, fmt.Errorf("cannot pack %q: %w", path, err)
		}
		return archive, nil
	}
	// One byte more than may be is enough for it to be refused.
	return io.ReadAll(io.LimitReader(f, bundle.MaxArchive+1))
}
