package audit

import (
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Bounds of texts in a report, in bytes.
const (
	maxMessage = 512
	maxName    = 253
)

const cut = "…"

// escape sequences of terminals: CSI, OSC and its kin, and the rest.
var sequences = regexp.MustCompile(`\x1b(?:\[[0-?]*[ -/]*[@-~]|[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)|[ -/]*[0-~])`)

// twins stand in for the characters that mean something to HTML. An entity would be
// for one kind of reader: kubectl shows it as it is, and a page that escapes, as it
// should, shows it twice escaped. These read the same everywhere and run nowhere.
var twins = map[rune]rune{'<': '‹', '>': '›', '&': '＆', '"': '”', '\'': '’'}

// plain is a text as it may stand in a report: one line of at most limit bytes,
// without anything that a terminal or a browser would act upon. Texts come from
// policies and, through these, from whoever writes grants.
func plain(s string, limit int) string {
	if strings.IndexByte(s, '\x1b') >= 0 {
		s = sequences.ReplaceAllString(s, "")
	}
	var b strings.Builder
	b.Grow(min(len(s), limit+utf8.UTFMax))
	space := false
	for _, r := range s {
		switch {
		case unicode.IsSpace(r):
			space = b.Len() > 0
			continue
		case !unicode.IsGraphic(r):
			continue // controls, what turns the direction of writing, what has no width
		}
		if t, ok := twins[r]; ok {
			r = t
		}
		if space {
			b.WriteByte(' ')
			space = false
		}
		b.WriteRune(r)
		if b.Len() > limit {
			return shorten(b.String(), limit)
		}
	}
	return b.String()
}

// shorten cuts a text to at most limit bytes, and shows that it did.
func shorten(s string, limit int) string {
	n := limit - len(cut)
	for !utf8.RuneStart(s[n]) {
		n--
	}
	return strings.TrimRight(s[:n], " ") + cut
}

// bound is how many bytes of JSON plain makes of a text, at most.
func bound(s string, limit int) int {
	n := 0
	for i := range len(s) {
		switch c := s[i]; {
		case c == '\\':
			n += 2
		case c >= utf8.RuneSelf, c == '<', c == '>', c == '&', c == '"', c == '\'':
			n += 3
		default:
			n++
		}
	}
	return min(n, 2*limit)
}
