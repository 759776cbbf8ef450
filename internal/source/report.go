package source

import (
	"context"
	"fmt"
	"strings"
	"unicode/utf8"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/log"
)

// maxNote is what events.k8s.io allows for the text of an event.
const maxNote = 1000

// record writes the state, and tells of it where it is news.
func (s *Syncer) record(ctx context.Context, state *store, out outcome) error {
	before := state.status
	next := s.status(before, out)
	now := s.Now()
	if next.ready || out.reason == ReasonWaiting {
		next = next.succeeded(out.commit, now)
	}
	s.metrics.record(next, out.inventory, float64(now.Unix()))
	if err := state.save(ctx, next, out.inventory); err != nil {
		return err
	}
	if did := out.did(); did != "" && out.err == nil {
		log.FromContext(ctx).Info("Applied a Git commit", "revision", out.commit.Revision, "author", out.commit.Author,
			"created", out.created, "changed", out.updated, "repaired", out.repaired, "pruned", out.pruned)
	}
	if eventtype, note := news(before, next, out); note != "" {
		s.Events.Eventf(state.configMap, nil, eventtype, string(out.reason), "Sync", "%s", cut(note, maxNote))
	}
	return nil
}

// status is what is to be said after a pass, but for what succeeded adds.
func (s *Syncer) status(before status, out outcome) status {
	next := before
	next.ready = out.reason == ReasonApplied
	next.reason = out.reason
	next.source = fmt.Sprintf("%s, branch %s, path %s", s.URL, s.Branch, s.Path)
	next.message = out.message()
	if out.commit.Revision != "" {
		next.attempted = out.commit.Revision
	}
	return next
}

// message says how things stand. It is the same for as long as they do.
func (o outcome) message() string {
	if o.err != nil {
		return cut(o.err.Error(), 4096)
	}
	parts := []string{fmt.Sprintf("%d objects in the inventory", len(o.inventory))}
	for _, note := range []struct {
		refs []Ref
		text string
	}{
		{o.plan.waiting, "still being deleted, and created again once they are gone"},
		{o.plan.detached, "no longer in Git, but left because they are not labelled as this sync's, or of a kind that this version does not know"},
		{o.plan.unlisted, "labelled as this sync's, but left because the inventory does not list them"},
	} {
		if len(note.refs) > 0 {
			parts = append(parts, note.text+": "+firstOf(note.refs))
		}
	}
	return strings.Join(parts, "; ")
}

// did counts what was changed, empty if nothing was.
func (o outcome) did() string {
	var parts []string
	for _, c := range []struct {
		n    int
		what string
	}{{o.created, "created"}, {o.updated, "changed"}, {o.repaired, "put right"}, {o.pruned, "pruned"}} {
		if c.n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", c.n, c.what))
		}
	}
	return strings.Join(parts, ", ")
}

// news is the event that a pass deserves, empty if nothing changed: neither the
// cluster nor what is said of it.
func news(before, next status, out outcome) (eventtype, note string) {
	said := before.reason == next.reason && before.message == next.message
	if out.err != nil {
		if said && before.attempted == next.attempted {
			return "", ""
		}
		if out.commit.Revision == "" {
			return corev1.EventTypeWarning, next.message
		}
		return corev1.EventTypeWarning, fmt.Sprintf("%s by %s: %s", out.commit.Revision, out.commit.Author, next.message)
	}
	did := out.did()
	if did == "" {
		if before.reason == next.reason {
			return "", ""
		}
		did = "nothing to change"
	}
	return corev1.EventTypeNormal, fmt.Sprintf("Applied %s by %s: %s", out.commit.Revision, out.commit.Author, did)
}

// cut shortens s to at most limit bytes, between two runes.
func cut(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	end := limit - len("…")
	for end > 0 && !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end] + "…"
}
