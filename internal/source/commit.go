package source

import (
	"fmt"
	"io/fs"
	"strings"
	"time"
	"unicode"

	"github.com/go-git/go-git/v5/plumbing/object"
)

// Commit is what people want to know of a commit. All of its text is written by
// the committer: it is cut and freed of control characters before it is shown.
type Commit struct {
	// Revision in Flux's form, such as main@sha1:4f2c….
	Revision string
	// SHA in hexadecimal.
	SHA string
	// Author as "name <email>".
	Author string
	// Message is the first line.
	Message string
	// Time at which it was authored, by its author's own clock.
	Time time.Time
}

// Checkout is a commit and its files.
type Checkout struct {
	Commit
	// Files of the commit and nothing else.
	Files fs.FS
}

func describe(branch string, c *object.Commit) Commit {
	subject, _, _ := strings.Cut(strings.TrimSpace(c.Message), "\n")
	return Commit{
		Revision: fmt.Sprintf("%s@sha1:%s", branch, c.Hash),
		SHA:      c.Hash.String(),
		Author:   printable(fmt.Sprintf("%s <%s>", c.Author.Name, c.Author.Email), 256),
		Message:  printable(subject, 256),
		Time:     c.Author.When.UTC(),
	}
}

// printable returns at most limit runes of s without what could forge a line of
// a log or of an inventory.
func printable(s string, limit int) string {
	clean := strings.Map(func(r rune) rune {
		if r == unicode.ReplacementChar || !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, s)
	if runes := []rune(clean); len(runes) > limit {
		clean = string(runes[:limit-1]) + "…"
	}
	return strings.TrimSpace(clean)
}
