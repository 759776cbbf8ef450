// Package manifest reads YAML for tools that talk to its author: strictly, and
// knowing the line of each field.
package manifest

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	kyaml "sigs.k8s.io/kustomize/kyaml/yaml"

	kjson "sigs.k8s.io/json"
	"sigs.k8s.io/yaml"
)

// Place in a file. Lines and columns count from 1; 0 is unknown.
type Place struct {
	File         string
	Line, Column int
}

// String is file:line:column, as far as they are known.
func (p Place) String() string {
	switch {
	case p.Line == 0:
		return p.File
	case p.Column == 0:
		return fmt.Sprintf("%s:%d", p.File, p.Line)
	}
	return fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Column)
}

// Compare sorts by file, line and column.
func (p Place) Compare(q Place) int {
	return cmp.Or(strings.Compare(p.File, q.File), cmp.Compare(p.Line, q.Line), cmp.Compare(p.Column, q.Column))
}

// Error is what is wrong at a place.
type Error struct {
	Place Place
	// Field that it is about; may be empty.
	Field string
	Err   error
}

// Error is place: field: message.
func (e *Error) Error() string {
	if e.Field != "" {
		return fmt.Sprintf("%s: %s: %s", e.Place, e.Field, e.Err)
	}
	return fmt.Sprintf("%s: %s", e.Place, e.Err)
}

// Unwrap is the error without its place.
func (e *Error) Unwrap() error { return e.Err }

// Document is one YAML document of a file.
type Document struct {
	file string
	data []byte // of the whole file
	root *kyaml.Node
}

var (
	yamlLine = regexp.MustCompile(`line (\d+): `)
	// fromParser are errors whose lines the YAML library counts from 0.
	fromParser = regexp.MustCompile(`did not find expected (key|node content|'-' indicator|',' or|<document start>)`)
)

// Documents of a file, those that are empty left out. Errors are of type Error.
func Documents(file string, data []byte) ([]*Document, error) {
	var docs []*Document
	for d := kyaml.NewDecoder(bytes.NewReader(data)); ; {
		root := &kyaml.Node{}
		switch err := d.Decode(root); {
		case errors.Is(err, io.EOF):
			return docs, nil
		case err != nil:
			return nil, yamlError(file, err)
		}
		if len(root.Content) == 1 && root.Content[0].Tag != kyaml.NodeTagNull {
			docs = append(docs, &Document{file: file, data: data, root: root.Content[0]})
		}
	}
}

// One reads a file of exactly one document.
func One(file string, data []byte) (*Document, error) {
	docs, err := Documents(file, data)
	if err != nil {
		return nil, err
	}
	if len(docs) != 1 {
		return nil, &Error{Place: Place{File: file}, Err: fmt.Errorf("one document is expected, not %d", len(docs))}
	}
	return docs[0], nil
}

// yamlError moves the line from the message into the place.
func yamlError(file string, err error) error {
	text, place := err.Error(), Place{File: file}
	if found := yamlLine.FindStringSubmatchIndex(text); found != nil {
		place.Line, _ = strconv.Atoi(text[found[2]:found[3]])
		if fromParser.MatchString(text) {
			place.Line++
		}
		text, _, _ = strings.Cut(text[found[1]:], "\n")
	}
	text = strings.TrimPrefix(text, "error converting YAML to JSON: ")
	return &Error{Place: place, Err: errors.New(strings.TrimPrefix(text, "yaml: "))}
}

// Decode the only document of a file, and say of every field that is unknown or
// given twice where it is. Errors are of type Error, sorted by place.
func (d *Document) Decode(into any) error {
	raw, err := yaml.YAMLToJSONStrict(d.data)
	if err != nil {
		return yamlError(d.file, err)
	}
	return d.DecodeJSON("", raw, into)
}

// DecodeJSON decodes the field of the document, or for "" the document, from the
// JSON that it was turned into.
func (d *Document) DecodeJSON(field string, raw []byte, into any) error {
	errs := Strict(raw, into)
	d.Explain(field, errs)
	slices.SortStableFunc(errs, func(a, b *Error) int { return a.Place.Compare(b.Place) })
	out := make([]error, 0, len(errs))
	for _, e := range errs {
		out = append(out, e)
	}
	return errors.Join(out...)
}

// Strict decodes JSON, and says what is wrong with which field. The errors have no
// place.
func Strict(raw []byte, into any) []*Error {
	strict, err := kjson.UnmarshalStrict(raw, into)
	if err != nil {
		strict = []error{err}
	}
	errs := make([]*Error, 0, len(strict))
	for _, err := range strict {
		errs = append(errs, explain(err))
	}
	return errs
}

func explain(err error) *Error {
	var strict kjson.FieldError
	if errors.As(err, &strict) {
		field := strict.FieldPath()
		return &Error{Field: field, Err: errors.New(strings.TrimSpace(strings.TrimSuffix(err.Error(), strconv.Quote(field))))}
	}
	var typed *json.UnmarshalTypeError
	if errors.As(err, &typed) {
		return &Error{Field: typed.Field, Err: fmt.Errorf("cannot be of type %s", typed.Value)}
	}
	return &Error{Err: err}
}

func join(a, b string) string {
	if a == "" || b == "" || strings.HasPrefix(b, "[") {
		return a + b
	}
	return a + "." + b
}

// Errorf says what is wrong with a field.
func (d *Document) Errorf(field, format string, args ...any) error {
	return &Error{Place: d.Place(field), Field: field, Err: fmt.Errorf(format, args...)}
}

// Place of a field such as spec.access[0].rules or metadata.labels[a.b/c]; of the
// innermost part of it that is there.
func (d *Document) Place(field string) Place {
	_, at := d.find(field)
	return Place{File: d.file, Line: at.Line, Column: at.Column}
}

// Within is the place of a line and column of the text that the field holds.
func (d *Document) Within(field string, line, column int) Place {
	n, at := d.find(field)
	p := Place{File: d.file, Line: at.Line, Column: at.Column}
	switch {
	case n == nil || n.Kind != kyaml.ScalarNode || line < 1 || column < 1:
	case n.Style&kyaml.LiteralStyle != 0:
		lines := bytes.Split(d.data, []byte("\n"))
		indent := -1
		for _, text := range lines[min(n.Line, len(lines)):] {
			if trimmed := bytes.TrimLeft(text, " "); len(bytes.TrimSpace(trimmed)) > 0 {
				indent = len(text) - len(trimmed)
				break
			}
		}
		if indent >= 0 && n.Line+line <= len(lines) {
			p.Line, p.Column = n.Line+line, indent+column
		}
	case n.Style&kyaml.FoldedStyle == 0 && line == 1:
		p.Line, p.Column = n.Line, n.Column+column-1
		if n.Style&(kyaml.SingleQuotedStyle|kyaml.DoubleQuotedStyle) != 0 {
			p.Column++
		}
	}
	return p
}

// find the value of a field, nil if it is not there, and the node to point at: the
// key where it has one.
func (d *Document) find(field string) (value, at *kyaml.Node) {
	value, at = d.root, d.root
	for _, step := range steps(field) {
		next, key := child(value, step, 0)
		if next == nil {
			return nil, at
		}
		value, at = next, key
	}
	return value, at
}

// maxDepth of fields that are looked through.
const maxDepth = 32

// child of a node by key or index, and the node to point at. The depth bounds
// merge keys, which may be circular.
func child(of *kyaml.Node, step string, depth int) (value, at *kyaml.Node) {
	if of.Kind == kyaml.AliasNode {
		of = of.Alias
	}
	if of == nil || depth > 8 {
		return nil, nil
	}
	switch of.Kind {
	case kyaml.SequenceNode:
		if i, err := strconv.Atoi(step); err == nil && i >= 0 && i < len(of.Content) {
			return of.Content[i], of.Content[i]
		}
	case kyaml.MappingNode:
		for i := 0; i+1 < len(of.Content); i += 2 {
			if of.Content[i].Value == step {
				return of.Content[i+1], of.Content[i]
			}
		}
		for i := 0; i+1 < len(of.Content); i += 2 {
			if of.Content[i].Tag != kyaml.MergeTag {
				continue
			}
			merged := []*kyaml.Node{of.Content[i+1]}
			if merged[0].Kind == kyaml.SequenceNode {
				merged = merged[0].Content
			}
			for _, m := range merged {
				if value, at = child(m, step, depth+1); value != nil {
					return value, at
				}
			}
		}
	}
	return nil, nil
}

// steps of a field: keys and indexes.
func steps(field string) []string {
	var out []string
	for field != "" {
		if key, rest, ok := strings.Cut(field[1:], "]"); field[0] == '[' && ok {
			out, field = append(out, strings.Trim(key, `"`)), strings.TrimPrefix(rest, ".")
			continue
		}
		end := strings.IndexAny(field[1:], ".[") + 1
		if end == 0 {
			end = len(field)
		}
		out, field = append(out, field[:end]), strings.TrimPrefix(field[end:], ".")
	}
	return out
}

// explain an error that names no field within the given one by the value that it
// quotes, if it does.
func (d *Document) explain(within string, e *Error) {
	var quoted *time.ParseError
	if e.Field != within || !errors.As(e.Err, &quoted) {
		return
	}
	if field, found := d.holding(within, quoted.Value, 0); found {
		e.Field, e.Err = field, fmt.Errorf("%q is no instant such as 2026-01-05T10:00:00Z", quoted.Value)
	}
}

// Explain errors of Strict, which name fields within the given one: where they are.
func (d *Document) Explain(within string, errs []*Error) {
	for _, e := range errs {
		e.Field = join(within, e.Field)
		d.explain(within, e)
		e.Place = d.Place(e.Field)
	}
}

// holding is the first field within another that holds the value.
func (d *Document) holding(field, value string, depth int) (string, bool) {
	n, _ := d.find(field)
	if n == nil || depth > maxDepth {
		return "", false
	}
	switch n.Kind {
	case kyaml.ScalarNode:
		return field, n.Value == value
	case kyaml.SequenceNode:
		for i := range n.Content {
			if at, found := d.holding(fmt.Sprintf("%s[%d]", field, i), value, depth+1); found {
				return at, true
			}
		}
	case kyaml.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			key := n.Content[i].Value
			if strings.ContainsAny(key, ".[") {
				key = "[" + key + "]"
			}
			if at, found := d.holding(join(field, key), value, depth+1); found {
				return at, true
			}
		}
	}
	return "", false
}

// Value of a field that is a scalar; "" if it is none or not there.
func (d *Document) Value(field string) string {
	if n, _ := d.find(field); n != nil && n.Kind == kyaml.ScalarNode {
		return n.Value
	}
	return ""
}
