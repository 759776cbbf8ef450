package source

import (
	"errors"
	"fmt"
	"net/url"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/go-git/go-git/v5/plumbing"
	"k8s.io/apimachinery/pkg/util/validation"
)

// DefaultName is the name of a sync, and of the ConfigMap that holds its state.
const DefaultName = "sallyport-sync"

// minInterval keeps a typing error from becoming a load on the Git server.
const minInterval = time.Second

// Options say what to sync. The zero value is not valid.
type Options struct {
	// URL of the repository: https://, ssh:// or file://. It carries no
	// credentials, because URLs are logged.
	URL string
	// Branch to follow.
	Branch string
	// Path of the folder within the repository; empty for its root.
	Path string
	// AuthDir is a folder with the files of a Flux Git Secret: username and
	// password, or bearerToken, and ca.crt for https; identity, known_hosts and
	// password for ssh. They are read anew at each fetch, so that they rotate.
	AuthDir string
	// Interval between two passes.
	Interval time.Duration
	// Timeout of one fetch.
	Timeout time.Duration
	// AllowEmpty makes a missing path an empty folder, so that everything is
	// pruned, instead of an error.
	AllowEmpty bool
	// Namespace of the state, Sallyport's own.
	Namespace string
	// Name of the sync and of its state.
	Name string
}

// Validate says everything that is wrong with the options. Its errors hold no
// part of a URL that may be a secret.
func (o Options) Validate() error {
	_, err := parseURL(o.URL)
	errs := []error{err}
	if o.Branch == "" {
		errs = append(errs, errors.New("cannot sync without a branch"))
	} else if err := plumbing.NewBranchReferenceName(o.Branch).Validate(); err != nil {
		errs = append(errs, fmt.Errorf("cannot use branch %q: %w", o.Branch, err))
	}
	if _, err := cleanPath(o.Path); err != nil {
		errs = append(errs, err)
	}
	if o.Interval < minInterval {
		errs = append(errs, fmt.Errorf("cannot sync every %s: the shortest interval is %s", o.Interval, minInterval))
	}
	if o.Timeout <= 0 {
		errs = append(errs, fmt.Errorf("cannot fetch within %s: the timeout must be positive", o.Timeout))
	}
	for what, name := range map[string]string{"namespace": o.Namespace, "name": o.Name} {
		if len(validation.IsDNS1123Label(name)) > 0 {
			errs = append(errs, fmt.Errorf("cannot use %q as the %s of the sync: not a DNS label", name, what))
		}
	}
	return errors.Join(errs...)
}

// id is what the annotation on applied objects says.
func (o Options) id() string { return o.Namespace + "/" + o.Name }

// parseURL accepts the URLs that can be fetched without telling anyone a secret.
// What it refuses is never quoted: it may hold one.
func parseURL(raw string) (*url.URL, error) {
	if raw == "" {
		return nil, errors.New("cannot sync without a Git URL")
	}
	if filepath.IsAbs(raw) {
		return &url.URL{Scheme: "file", Path: filepath.Clean(raw)}, nil
	}
	u, err := url.Parse(raw)
	if err != nil || !slices.Contains([]string{"https", "ssh", "file"}, u.Scheme) {
		return nil, errors.New("cannot use the Git URL: it must begin with https://, ssh:// or file://, " +
			"such as https://host/owner/repo or ssh://git@host/owner/repo")
	}
	_, password := u.User.Password()
	switch {
	case password, u.User != nil && u.Scheme != "ssh":
		return nil, fmt.Errorf("cannot use the Git URL for host %q: it holds credentials, which belong into the auth folder", u.Hostname())
	case u.RawQuery != "" || u.Fragment != "":
		return nil, fmt.Errorf("cannot use the Git URL for host %q: it has a query or a fragment", u.Hostname())
	case u.Scheme == "file" && u.Host != "":
		return nil, errors.New("cannot use the Git URL: a file URL has no host, as in file:///srv/grants.git")
	case u.Scheme != "file" && u.Hostname() == "":
		return nil, errors.New("cannot use the Git URL: it has no host")
	case strings.Trim(u.Path, "/") == "":
		return nil, errors.New("cannot use the Git URL: it names no repository")
	}
	return u, nil
}

// cleanPath returns p as an fs.FS wants it. It is refused, not cleaned, when it
// leads upwards, even if it came down again.
func cleanPath(p string) (string, error) {
	if path.IsAbs(p) || strings.Contains(p, `\`) || slices.Contains(strings.Split(p, "/"), "..") {
		return "", fmt.Errorf("cannot use path %q: it must lead from the root of the repository downwards", p)
	}
	return path.Clean("./" + p), nil
}
