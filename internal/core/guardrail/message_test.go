package guardrail_test

import (
	"strings"
	"testing"

	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
)

// TestTidy: S25.
func TestTidy(t *testing.T) {
	for name, tc := range map[string]struct{ reason, in, want string }{
		"Plain":     {"What is text stays as it is.", "no exec in “prod” — ö", "no exec in “prod” — ö"},
		"Empty":     {"Nothing is nothing.", "", ""},
		"Lines":     {"A message cannot begin a line of its own.", " a\r\nb\tc\u0085d\u2028e\u2029f\u00a0g\n", "a  b c d e f g"},
		"Controls":  {"A terminal obeys nothing of it.", "a\x00\x1b[2J\x7f\u009bb", "a[2Jb"},
		"Direction": {"It reads in the order in which it is written.", "a\u202eb\u2066c\u200fd\u061ce", "abcde"},
		"NoWidth":   {"Two messages that look the same are the same.", "a\u200bb\u200d\u2060c\ufeffd\u00ade", "abcde"},
		"Invalid":   {"It is UTF-8.", "a\xff\xfeb", "a\uFFFDb"},
		"Longest":   {"What is not too long is not cut.", strings.Repeat("é", 1024), strings.Repeat("é", 1024)},
		"Long":      {"What is cut says so.", strings.Repeat("é", 1025), strings.Repeat("é", 1023) + "…"},
		"LongBlank": {"What is left out does not count.", strings.Repeat("\u200b", 2000) + "a" + strings.Repeat(" ", 2000), "a"},
	} {
		if got := guardrail.Tidy(tc.in); got != tc.want {
			t.Errorf("%s: %s Got %q, want %q.", name, tc.reason, got, tc.want)
		}
	}
}
