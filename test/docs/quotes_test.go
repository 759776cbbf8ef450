package docs

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// quote is a block of code that says which file of the repository it is cut from.
var quote = regexp.MustCompile("(?s)<!-- from ([^ ]+) -->\n```[a-z]*\n(.*?)```")

// TestQuotes: what a page quotes from a file is in that file, in whole lines. A
// line of "…" stands for what is left out.
func TestQuotes(t *testing.T) {
	pages, err := filepath.Glob(root + "/docs/*/*.md")
	if err != nil {
		t.Fatal(err)
	}
	quotes := 0
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range quote.FindAllStringSubmatch(string(text), -1) {
			quotes++
			source, err := os.ReadFile(filepath.Join(root, m[1]))
			if err != nil {
				t.Errorf("%s: %v", page, err)
				continue
			}
			for part := range strings.SplitSeq(m[2], "…\n") {
				if !strings.Contains("\n"+string(source), "\n"+part) {
					t.Errorf("%s quotes what is not in %s:\n%s", page, m[1], part)
				}
			}
		}
	}
	if quotes == 0 {
		t.Error("there are no quotes: this tests nothing")
	}
}
