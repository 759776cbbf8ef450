package audit

import (
	"html"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
)

// TestPlain: S25.
func TestPlain(t *testing.T) {
	cases := map[string]struct{ reason, in, want string }{
		"Plain":     {reason: "What is harmless stays.", in: "namespace payments: not allowed (50 %)", want: "namespace payments: not allowed (50 %)"},
		"Script":    {reason: "A page that shows it as HTML runs nothing.", in: `<script>alert(1)</script>`, want: "‹script›alert(1)‹/script›"},
		"Attribute": {reason: "Nor does it leave an attribute.", in: `" onmouseover='alert(1)'`, want: "” onmouseover=’alert(1)’"},
		"Entity":    {reason: "An entity would be made a bracket by a page that undoes them.", in: "&lt;script&gt;", want: "＆lt;script＆gt;"},
		"Colours":   {reason: "A terminal is not told anything.", in: "\x1b[31;1mred\x1b[0m \x1b[2J\x1b[Hgone", want: "red gone"},
		"Title":     {reason: "Not by the longer kinds of sequences either.", in: "\x1b]0;title\x07a\x1b]8;;https://evil\x1b\\b\x1b(Bc", want: "abc"},
		"C1":        {reason: "The 8-bit controls are controls too.", in: "a\u009b31mb", want: "a31mb"},
		"Lines":     {reason: "A message is one line: a second could look like another result.", in: " a\r\nb\u2028c\td  ", want: "a b c d"},
		"Backwards": {reason: "What turns the direction of writing lies about what is written.", in: "abc\u202edef\u2066g\u200b\ufeff", want: "abcdefg"},
		"Letters":   {reason: "Other scripts are text.", in: "größer als erlaubt, 不可", want: "größer als erlaubt, 不可"},
		"NotUTF8":   {reason: "JSON cannot carry anything else.", in: "a\xffb", want: "a\ufffdb"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			if got := plain(tc.in, maxMessage); got != tc.want {
				t.Errorf("%s\ngot  %q\nwant %q", tc.reason, got, tc.want)
			}
		})
	}
}

// TestMessagesRunNowhere: S25. Nothing that a policy or a grant says gets into a
// report as it is, whichever field it is in.
func TestMessagesRunNowhere(t *testing.T) {
	const evil = "</td><script>alert(document.cookie)</script>\x1b]0;x\x07&\"'"
	grant := judged("tenant", "one", guardrail.Reason{
		Guardrail: "bundle/" + evil, Enforcement: "Deny", Message: evil, Field: evil, Exception: evil,
	})
	grant.Revision = evil
	broken := &guardrail.Guardrail{Name: "bundle/" + evil, Err: errEvil(evil)}
	for _, r := range Reports(&Audit{Grants: []Grant{grant}, Guardrails: []*guardrail.Guardrail{broken}, Bundles: []Bundle{{Name: "b", Err: errEvil(evil)}}}) {
		for _, result := range r.Results() {
			texts := []string{result.Policy, result.Rule, result.Description}
			for k, v := range result.Properties {
				texts = append(texts, k, v)
			}
			for _, s := range texts {
				if strings.ContainsAny(s, "<>&\"'\x1b\x07") {
					t.Errorf("report %s/%s says %q", r.Namespace, r.Name, s)
				}
			}
		}
	}
}

type errEvil string

func (e errEvil) Error() string { return string(e) }

func FuzzPlain(f *testing.F) {
	for _, s := range []string{"", "a b", "<b>\x1b[31m", long("é<"), "\xff\xfe", "\x1b\x1b[[31mm"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for _, limit := range []int{maxName, maxMessage} {
			got := plain(s, limit)
			if len(got) > limit || !utf8.ValidString(got) {
				t.Fatalf("plain(%q) = %q: %d bytes", s, got, len(got))
			}
			if html.EscapeString(got) != got {
				t.Fatalf("plain(%q) = %q: HTML", s, got)
			}
			if strings.ContainsFunc(got, func(r rune) bool { return !unicode.IsGraphic(r) }) {
				t.Fatalf("plain(%q) = %q: controls", s, got)
			}
			if again := plain(got, limit); again != got {
				t.Fatalf("plain(%q) = %q, and of that %q", s, got, again)
			}
			if written := strings.ReplaceAll(got, `\`, `\\`); len(written) > bound(s, limit) {
				t.Fatalf("plain(%q) takes %d bytes, and bound says %d", s, len(written), bound(s, limit))
			}
		}
	})
}
