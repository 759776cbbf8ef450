package authz

import (
	"errors"
	"fmt"
	"strings"

	"github.com/sallyport-dev/sallyport/internal/core/effective"
)

// version of SubjectAccessReviews in authorization.k8s.io. The zero version is none.
type version uint8

const (
	_ version = iota
	v1
	v1beta1
)

const (
	kind  = "SubjectAccessReview"
	group = "authorization.k8s.io/"
)

// review is a SubjectAccessReview as it is read. Fields that are not read here decide
// nothing: selectors of fields and labels narrow what is asked for, and neither grants
// nor guardrails know them.
type review struct {
	apiVersion, kind text
	user, uid        text
	groups           list // of v1
	group            list // the same of v1beta1
	extra            map[string]list
	resource         resourceAttributes
	path             pathAttributes
	spec, extraSet   bool
}

type resourceAttributes struct {
	set, present                                                 bool
	namespace, verb, group, version, resource, subresource, name text
}

type pathAttributes struct {
	set, present bool
	path, verb   text
}

// decode what a review asks into a request, of which cluster and instant are left as they
// are. An error says what is wrong, in words for the log of the API server.
func decode(body string, q *effective.Request) (version, error) {
	var r review
	s := &scanner{text: body}
	object, err := s.object(func(name string) error {
		switch name {
		case "apiVersion":
			return r.apiVersion.read(s, name)
		case "kind":
			return r.kind.read(s, name)
		case "spec":
			return r.readSpec(s)
		}
		return s.skip(0)
	})
	if err == nil {
		err = s.end()
	}
	switch {
	case err != nil:
		return 0, err
	case !object || r.kind.value != kind:
		return 0, fmt.Errorf("a %s is expected", kind)
	}
	var v version
	groups := r.groups
	switch r.apiVersion.value {
	case group + "v1":
		v = v1
	case group + "v1beta1":
		v, groups = v1beta1, r.group
	default:
		return 0, fmt.Errorf("a %s of %sv1 or %sv1beta1 is expected", kind, group, group)
	}
	if r.resource.present == r.path.present {
		return 0, errors.New("exactly one of spec.resourceAttributes and spec.nonResourceAttributes is expected")
	}
	r.request(q, groups.values)
	return v, nil
}

func (r *review) readSpec(s *scanner) error {
	if r.spec {
		return twice("spec")
	}
	r.spec = true
	_, err := s.object(func(name string) error {
		switch name {
		case "user":
			return r.user.read(s, name)
		case "uid":
			return r.uid.read(s, name)
		case "groups":
			return r.groups.read(s, name)
		case "group":
			return r.group.read(s, name)
		case "extra":
			return r.readExtra(s)
		case "resourceAttributes":
			return r.resource.read(s)
		case "nonResourceAttributes":
			return r.path.read(s)
		}
		return s.skip(0)
	})
	return err
}

func (r *review) readExtra(s *scanner) error {
	if r.extraSet {
		return twice("extra")
	}
	r.extraSet = true
	_, err := s.object(func(name string) error {
		if r.extra == nil {
			r.extra = map[string]list{}
		}
		values := r.extra[name]
		err := values.read(s, "a key of extra")
		r.extra[name] = values
		return err
	})
	return err
}

func (a *resourceAttributes) read(s *scanner) (err error) {
	if a.set {
		return twice("resourceAttributes")
	}
	a.set = true
	a.present, err = s.object(func(name string) error {
		switch name {
		case "namespace":
			return a.namespace.read(s, name)
		case "verb":
			return a.verb.read(s, name)
		case "group":
			return a.group.read(s, name)
		case "version":
			return a.version.read(s, name)
		case "resource":
			return a.resource.read(s, name)
		case "subresource":
			return a.subresource.read(s, name)
		case "name":
			return a.name.read(s, name)
		}
		return s.skip(0)
	})
	return err
}

func (a *pathAttributes) read(s *scanner) (err error) {
	if a.set {
		return twice("nonResourceAttributes")
	}
	a.set = true
	a.present, err = s.object(func(name string) error {
		switch name {
		case "path":
			return a.path.read(s, name)
		case "verb":
			return a.verb.read(s, name)
		}
		return s.skip(0)
	})
	return err
}

// request that is asked about.
func (r *review) request(q *effective.Request, groups []string) {
	q.User.Name, q.User.UID, q.User.Groups = r.user.value, r.uid.value, groups
	if len(r.extra) > 0 {
		q.User.Extra = make(map[string][]string, len(r.extra))
		for k, v := range r.extra {
			q.User.Extra[k] = v.values
		}
	}
	if r.path.present {
		q.Verb, q.Path = r.path.verb.value, r.path.path.value
		return
	}
	a := &r.resource
	q.ResourceRequest = true
	q.Verb, q.APIGroup, q.APIVersion = a.verb.value, a.group.value, a.version.value
	q.Resource, q.Subresource, q.Namespace, q.Name = a.resource.value, a.subresource.value, a.namespace.value, a.name.value
	if q.Subresource == "" {
		// RBAC takes pods/exec for both, and guardrails look at both.
		q.Resource, q.Subresource, _ = strings.Cut(q.Resource, "/")
	}
	q.Path = pathOf(q)
}

// pathOf a request for a resource, which a review does not have, as clients write it: so
// that guardrails see what they see at the gateway (S15).
func pathOf(q *effective.Request) string {
	var b strings.Builder
	b.Grow(128)
	write := func(parts ...string) {
		for _, p := range parts {
			b.WriteString(p)
		}
	}
	if q.APIGroup == "" {
		write("/api/", q.APIVersion)
	} else {
		write("/apis/", q.APIGroup, "/", q.APIVersion)
	}
	// The namespace of a namespace is itself.
	if q.Namespace != "" && (q.APIGroup != "" || q.Resource != "namespaces") {
		write("/namespaces/", q.Namespace)
	}
	write("/", q.Resource)
	if q.Name != "" {
		write("/", q.Name)
	}
	if q.Subresource != "" {
		write("/", q.Subresource)
	}
	return b.String()
}
