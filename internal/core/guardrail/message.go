package guardrail

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxMessage is the most runes of a message.
const maxMessage = 1024

// Tidy makes a message of what a policy says: one line that is not long. What was cut
// ends in ….
func Tidy(message string) string {
	s := strings.TrimSpace(OneLine(message))
	if utf8.RuneCountInString(s) <= maxMessage {
		return s
	}
	return string([]rune(s)[:maxMessage-1]) + "…"
}

// OneLine is a text as one line of valid characters, without what a terminal would
// obey, what turns the direction of writing, and what has no width. Policies may quote
// what tenants wrote, and so may errors about it.
func OneLine(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' '
		case unicode.IsControl(r), unicode.Is(unicode.Cf, r):
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, "\uFFFD"))
}
