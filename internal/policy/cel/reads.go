package cel

import (
	"encoding/binary"
	"slices"
	"strings"

	"github.com/google/cel-go/common/ast"

	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
)

// reads is what expressions can look at, told from their text.
type reads struct {
	// anything: input or a part of it is taken whole, to be looked at elsewhere.
	anything bool
	// now: they look at the instant.
	now bool
	// cluster: they look at the cluster of the request, or at something of it.
	cluster bool
	// fields of the request, each a bit by its place in requestFields.
	fields uint
}

// requestFields are the parts of a request that can be told apart in a few bytes. What
// is not here, such as what else an identity provider says of a user, is not remembered.
var requestFields = []struct {
	path []string
	// put the field so that no two values of it, with what follows them, look the same.
	put func(to []byte, r *guardrail.RequestInfo) []byte
}{
	{[]string{"verb"}, func(to []byte, r *guardrail.RequestInfo) []byte { return putText(to, r.Verb) }},
	{[]string{"resourceRequest"}, func(to []byte, r *guardrail.RequestInfo) []byte { return putBool(to, r.ResourceRequest) }},
	{[]string{"apiGroup"}, func(to []byte, r *guardrail.RequestInfo) []byte { return putText(to, r.APIGroup) }},
	{[]string{"apiVersion"}, func(to []byte, r *guardrail.RequestInfo) []byte { return putText(to, r.APIVersion) }},
	{[]string{"resource"}, func(to []byte, r *guardrail.RequestInfo) []byte { return putText(to, r.Resource) }},
	{[]string{"subresource"}, func(to []byte, r *guardrail.RequestInfo) []byte { return putText(to, r.Subresource) }},
	{[]string{"namespace"}, func(to []byte, r *guardrail.RequestInfo) []byte { return putText(to, r.Namespace) }},
	{[]string{"name"}, func(to []byte, r *guardrail.RequestInfo) []byte { return putText(to, r.Name) }},
	{[]string{"path"}, func(to []byte, r *guardrail.RequestInfo) []byte { return putText(to, r.Path) }},
	{[]string{"user", "name"}, func(to []byte, r *guardrail.RequestInfo) []byte { return putText(to, r.User.Name) }},
	{[]string{"user", "uid"}, func(to []byte, r *guardrail.RequestInfo) []byte { return putText(to, r.User.UID) }},
	{[]string{"user", "groups"}, func(to []byte, r *guardrail.RequestInfo) []byte {
		to = binary.AppendUvarint(to, uint64(len(r.User.Groups)))
		for _, g := range r.User.Groups {
			to = putText(to, g)
		}
		return to
	}},
}

func putText(to []byte, s string) []byte {
	return append(binary.AppendUvarint(to, uint64(len(s))), s...)
}

func putBool(to []byte, b bool) []byte {
	if b {
		return append(to, 1)
	}
	return append(to, 0)
}

// add what an expression can look at. Each mention of input is followed outwards through
// the fields that are selected of it.
func (k *reads) add(a *ast.AST) {
	for _, x := range ast.MatchDescendants(ast.NavigateAST(a), isInput) {
		k.mention(x)
	}
}

// isInput also where a loop has a variable of that name: then there is a dot before one of
// the two.
func isInput(x ast.NavigableExpr) bool {
	return x.Kind() == ast.IdentKind && strings.TrimPrefix(x.AsIdent(), ".") == "input"
}

// ofGrants are the fields of input that a request has not: see rememberable.
var ofGrants = []string{"grant", "namespace", "roles", "access", "clusters", "source"}

func (k *reads) mention(x ast.NavigableExpr) {
	var path []string
	presence := false // whether the last is only asked for
	for {
		outer, ok := x.Parent()
		if !ok || outer.Kind() != ast.SelectKind {
			break
		}
		path, presence, x = append(path, outer.AsSelect().FieldName()), outer.AsSelect().IsTestOnly(), outer
	}
	switch {
	case len(path) == 0:
		k.anything, k.now = true, true
	case path[0] == "now":
		k.now = true
	case path[0] == "request":
		k.request(path[1:], presence)
	case path[0] == "grants": // is noted when it is looked at
	case path[0] == parameters: // are the policy's own
	case !slices.Contains(ofGrants, path[0]):
		k.anything = true
	}
}

func (k *reads) request(path []string, presence bool) {
	if len(path) == 0 || len(path) == 1 && path[0] == "user" {
		k.anything = k.anything || !presence // a request has a user in any case
		return
	}
	if path[0] == "cluster" {
		k.cluster = true
		return
	}
	for i := range requestFields {
		if of := requestFields[i].path; len(path) >= len(of) && slices.Equal(path[:len(of)], of) {
			k.fields |= 1 << i
			return
		}
	}
	k.anything = true
}

// key of a request: the same for two only where what can be looked at is the same,
// but for the cluster.
func (k *reads) key(to []byte, r *guardrail.RequestInfo) []byte {
	for i := range requestFields {
		if k.fields&(1<<i) != 0 {
			to = requestFields[i].put(to, r)
		}
	}
	return to
}
