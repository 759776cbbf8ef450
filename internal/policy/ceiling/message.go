package ceiling

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"

	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
)

// objections to a grant.
type objections struct {
	// of what: the ceiling, in words.
	of   string
	list []guardrail.Violation
}

func (o *objections) add(field, format string, args ...any) {
	o.list = append(o.list, guardrail.Violation{Field: field, Message: fmt.Sprintf(format, args...)})
}

// maxListed is how many of several things a message names.
const maxListed = 5

func list(items []string, sep string) string {
	if len(items) <= maxListed {
		return strings.Join(items, sep)
	}
	return fmt.Sprintf("%s and %d more", strings.Join(items[:maxListed], sep), len(items)-maxListed)
}

func sorted(items []string) []string {
	slices.Sort(items)
	return items
}

// describe rules of one verb, group, resource and name each: sorted, with what is
// alike together, such as "get, list configmaps, secrets (core group)".
func describe(atoms []rbacv1.PolicyRule) (out []string) {
	verbs := map[target][]string{}
	for i := range atoms {
		t := targetOf(&atoms[i])
		verbs[t] = append(verbs[t], plain(atoms[i].Verbs[0]))
	}
	type line struct {
		verbs, group string
		resource     string // where objects are named
		paths        bool
	}
	what := map[line][]string{}
	for t, v := range verbs {
		l := line{verbs: list(slices.Compact(sorted(v)), ", "), group: t.group, paths: t.url != ""}
		switch {
		case t.url != "":
			what[l] = append(what[l], plain(t.url))
		case t.named:
			l.resource = plain(t.resource) + " "
			what[l] = append(what[l], strconv.Quote(t.name))
		default:
			what[l] = append(what[l], plain(t.resource))
		}
	}
	for l, items := range what {
		text := l.verbs + " " + l.resource + list(sorted(items), ", ")
		if !l.paths {
			text += " (" + groupName(l.group) + ")"
		}
		out = append(out, text)
	}
	return sorted(out)
}

// target of a verb.
type target struct {
	group, resource, name, url string
	named                      bool
}

func targetOf(r *rbacv1.PolicyRule) target {
	if len(r.NonResourceURLs) > 0 {
		return target{url: r.NonResourceURLs[0]}
	}
	t := target{group: r.APIGroups[0], resource: r.Resources[0]}
	if len(r.ResourceNames) > 0 {
		t.name, t.named = r.ResourceNames[0], true
	}
	return t
}

func groupName(group string) string {
	switch group {
	case "":
		return "core group"
	case rbacv1.APIGroupAll:
		return "every group"
	}
	return plain(group)
}

// plain is a word as it is, or quoted where it could be taken for more than one.
func plain(s string) string {
	ok := s != "" && !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune(`"'<>&;,()`, r) })
	if ok {
		return s
	}
	return strconv.Quote(s)
}
