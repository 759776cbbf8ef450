// Package docs tests that what the pages link to is there.
package docs

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode"
)

const root = "../.."

var (
	// link is the end of [text](target) or ![text](target).
	link = regexp.MustCompile(`\]\(([^()\s]+)\)`)
	// span of code within a line, which may look like a link.
	span = regexp.MustCompile("`[^`]*`")
)

// TestLinks: every relative link in a page leads to a file or folder of the
// repository, and to a heading where it has a fragment.
func TestLinks(t *testing.T) {
	pages, links := 0, 0
	err := filepath.WalkDir(root, func(file string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if name := entry.Name(); entry.IsDir() && (name == "bin" || name == "testdata" || strings.HasPrefix(name, ".") && name != "..") {
			return fs.SkipDir
		}
		if filepath.Ext(file) != ".md" {
			return nil
		}
		pages++
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		for _, m := range link.FindAllStringSubmatch(span.ReplaceAllString(prose(string(text)), ""), -1) {
			if strings.Contains(m[1], "://") || strings.HasPrefix(m[1], "mailto:") {
				continue
			}
			links++
			if why := broken(file, m[1]); why != "" {
				t.Errorf("%s: link %q: %s", strings.TrimPrefix(file, root+"/"), m[1], why)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if pages == 0 || links == 0 {
		t.Errorf("looked at %d pages and %d links: this tests nothing", pages, links)
	}
}

// broken says why a link on a page leads nowhere.
func broken(page, target string) string {
	path, fragment, _ := strings.Cut(target, "#")
	if filepath.IsAbs(path) {
		return "is absolute"
	}
	file := page
	if path != "" {
		file = filepath.Join(filepath.Dir(page), path)
	}
	if !strings.HasPrefix(file, root+"/") {
		return "leaves the repository"
	}
	info, err := os.Stat(file)
	if err != nil {
		return "there is no such file"
	}
	if fragment == "" || info.IsDir() || filepath.Ext(file) != ".md" {
		return ""
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return err.Error()
	}
	for line := range strings.SplitSeq(prose(string(text)), "\n") {
		if heading, ok := strings.CutPrefix(strings.TrimLeft(line, "#"), " "); ok && strings.HasPrefix(line, "#") && anchor(heading) == fragment {
			return ""
		}
	}
	return "there is no such heading"
}

// prose is a page without its blocks of code.
func prose(text string) string {
	var b strings.Builder
	code := false
	for line := range strings.SplitSeq(text, "\n") {
		if strings.HasPrefix(strings.TrimSpace(line), "```") {
			code = !code
			continue
		}
		if !code {
			b.WriteString(line + "\n")
		}
	}
	return b.String()
}

// anchor is how Git forges name a heading.
func anchor(heading string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case unicode.IsLetter(r), unicode.IsDigit(r), r == '-', r == '_':
			return unicode.ToLower(r)
		case r == ' ':
			return '-'
		}
		return -1
	}, strings.TrimSpace(heading))
}
