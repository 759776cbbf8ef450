package examples

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	kjson "sigs.k8s.io/json"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
	"github.com/sallyport-dev/sallyport/internal/policy/manifest"
)

// File is an examples.yaml.
type File struct {
	// Now is the instant of judging, for examples that have none of their own.
	Now time.Time `json:"now"`
	// Roles are the AccessRoles, by name.
	Roles map[string][]v1alpha1.PolicyRule `json:"roles,omitempty"`
	// Fleet that grants select from.
	Fleet []Cluster `json:"fleet,omitempty"`
	// Namespaces of the hub, by name. One that is not here has no labels.
	Namespaces map[string]Namespace `json:"namespaces,omitempty"`
	Examples   []Example            `json:"-"`

	doc *manifest.Document
}

// Cluster is a member of the fleet.
type Cluster struct {
	Name   string            `json:"name"`
	Labels map[string]string `json:"labels,omitempty"`
	Claims map[string]string `json:"claims,omitempty"`
}

// Namespace of the hub.
type Namespace struct {
	Labels map[string]string `json:"labels,omitempty"`
}

// Example is a grant or a request, and what a guardrail makes of it.
type Example struct {
	Name string `json:"name"`
	// Why the guardrail should do so, in a sentence.
	Why string    `json:"why"`
	Now time.Time `json:"now,omitzero"`

	// Grant that is judged, and the source that it comes from.
	Grant  *v1alpha1.AccessGrant `json:"grant,omitempty"`
	Source *guardrail.Source     `json:"source,omitempty"`

	// Request that is judged, and the grants that would allow it.
	Request *Request              `json:"request,omitempty"`
	Grants  []guardrail.GrantInfo `json:"grants,omitempty"`

	// Parameters instead of those of the guardrail.
	Parameters *apiextensionsv1.JSON `json:"parameters,omitempty"`

	Expect Expectation `json:"expect"`
	// Messages are everything that a guardrail that refuses says, in any order.
	Messages []Message `json:"messages,omitempty"`

	field   string         // of the example in its file
	content map[string]any // of the grant
}

// Request to a member. The path is made of the rest where it is left out, the
// version is v1.
type Request struct {
	User        guardrail.User `json:"user"`
	Cluster     string         `json:"cluster"`
	Verb        string         `json:"verb"`
	APIGroup    string         `json:"apiGroup,omitempty"`
	APIVersion  string         `json:"apiVersion,omitempty"`
	Resource    string         `json:"resource,omitempty"`
	Subresource string         `json:"subresource,omitempty"`
	Namespace   string         `json:"namespace,omitempty"`
	Name        string         `json:"name,omitempty"`
	Path        string         `json:"path,omitempty"`
}

// Expectation is what a guardrail should make of an example.
type Expectation string

// The expectations.
const (
	// Allowed: the guardrail is asked and has nothing to say.
	Allowed Expectation = "allowed"
	// Refused: it objects, whatever its enforcement.
	Refused Expectation = "refused"
	// Failed: it cannot be evaluated.
	Failed Expectation = "failed"
	// Unasked: it is not asked, by its match or its points.
	Unasked Expectation = "unasked"
)

// Message of a violation. In YAML it is a string, or an object where the field
// counts as well.
type Message struct {
	Message string
	// Field that the violation has to be about; any if it is empty.
	Field string
}

// UnmarshalJSON reads a string or an object.
func (m *Message) UnmarshalJSON(raw []byte) error {
	if bytes.HasPrefix(bytes.TrimSpace(raw), []byte(`"`)) {
		*m = Message{}
		return json.Unmarshal(raw, &m.Message)
	}
	var object struct {
		Message string `json:"message"`
		Field   string `json:"field"`
	}
	strict, err := kjson.UnmarshalStrict(raw, &object)
	if err := errors.Join(append(strict, err)...); err != nil {
		return fmt.Errorf("messages: %w", err)
	}
	*m = Message(object)
	return nil
}

// Read an examples.yaml. Every error names file, line and field.
func Read(file string, data []byte) (*File, error) {
	doc, err := manifest.One(file, data)
	if err != nil {
		return nil, err
	}
	var in struct {
		File     `json:",inline"`
		Examples []json.RawMessage `json:"examples"`
	}
	if err := doc.Decode(&in); err != nil {
		return nil, err
	}
	f := &in.File
	f.doc = doc
	var errs []error
	// One by one, so that an error is at least in the right example.
	for i, raw := range in.Examples {
		e := Example{field: fmt.Sprintf("examples[%d]", i)}
		if err := doc.DecodeJSON(e.field, raw, &e); err != nil {
			errs = append(errs, err)
			continue
		}
		var content struct {
			Grant map[string]any `json:"grant"`
		}
		if err := kjson.UnmarshalCaseSensitivePreserveInts(raw, &content); err != nil {
			errs = append(errs, doc.Errorf(e.field, "%w", err))
			continue
		}
		e.content = content.Grant
		f.Examples = append(f.Examples, e)
	}
	if len(errs) == 0 {
		errs = f.problems()
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return f, nil
}

// problems are what makes a file unfit as a test.
func (f *File) problems() (errs []error) {
	wrong := func(field, format string, args ...any) { errs = append(errs, f.doc.Errorf(field, format, args...)) }
	clusters, names := map[string]bool{}, map[string]bool{}
	for i, c := range f.Fleet {
		if field := fmt.Sprintf("fleet[%d].name", i); c.Name == "" || clusters[c.Name] {
			wrong(field, "each cluster needs a name of its own")
		}
		clusters[c.Name] = true
	}
	if len(f.Examples) == 0 {
		wrong("examples", "there are no examples")
	}
	for i := range f.Examples {
		e := &f.Examples[i]
		if e.Name == "" || names[e.Name] {
			wrong(e.field+".name", "each example needs a name of its own")
		}
		names[e.Name] = true
		if e.Now.IsZero() && f.Now.IsZero() {
			wrong(e.field, "there is no instant: set now, here or for the file")
		}
		switch {
		case (e.Grant == nil) == (e.Request == nil):
			wrong(e.field, "must have either grant or request")
		case e.Grant != nil:
			errs = append(errs, f.grantProblems(e)...)
		default:
			errs = append(errs, f.requestProblems(e, clusters)...)
		}
		switch e.Expect {
		case Allowed, Failed, Unasked:
			if len(e.Messages) > 0 {
				wrong(e.field+".messages", "only what is refused has messages")
			}
		case Refused:
			if len(e.Messages) == 0 {
				wrong(e.field, "what is refused needs the messages that people get")
			}
		default:
			wrong(e.field+".expect", "must be %s, %s, %s or %s", Allowed, Refused, Failed, Unasked)
		}
		for j, m := range e.Messages {
			if m.Message == "" {
				wrong(fmt.Sprintf("%s.messages[%d]", e.field, j), "is empty")
			}
		}
	}
	return errs
}

func (f *File) grantProblems(e *Example) (errs []error) {
	g, at := e.Grant, e.field+".grant"
	wrong := func(field, format string, args ...any) { errs = append(errs, f.doc.Errorf(field, format, args...)) }
	if v := g.APIVersion; v != "" && v != v1alpha1.GroupVersion.String() {
		wrong(at+".apiVersion", "must be %s", v1alpha1.GroupVersion)
	}
	if g.Kind != "" && g.Kind != v1alpha1.AccessGrantKind {
		wrong(at+".kind", "must be %s", v1alpha1.AccessGrantKind)
	}
	if g.Name == "" || g.Namespace == "" {
		wrong(at+".metadata", "needs name and namespace")
	}
	if len(e.Grants) > 0 {
		wrong(e.field+".grants", "goes with request")
	}
	return errs
}

func (f *File) requestProblems(e *Example, clusters map[string]bool) (errs []error) {
	r, at := e.Request, e.field+".request"
	wrong := func(field, format string, args ...any) { errs = append(errs, f.doc.Errorf(field, format, args...)) }
	if !clusters[r.Cluster] {
		wrong(at+".cluster", "cluster %q is not in fleet", r.Cluster)
	}
	if r.Verb == "" {
		wrong(at, "needs a verb")
	}
	if r.User.Name == "" {
		wrong(at+".user", "needs a name")
	}
	if r.Resource == "" && r.Path == "" {
		wrong(at, "needs a resource or a path")
	}
	if strings.Contains(r.Resource, "/") {
		wrong(at+".resource", "a subresource stands in a field of its own")
	}
	if e.Source != nil {
		wrong(e.field+".source", "goes with grant")
	}
	return errs
}
