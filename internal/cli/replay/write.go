package replay

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
)

// writer tells the differences one by one: there may be many.
type writer interface {
	difference(d *difference) error
	// end says the summary, unless it is to be the error.
	end(s *summary, failed bool) error
}

// newWriter of a format; nil if there is no such.
func newWriter(format string, out io.Writer) writer {
	switch format {
	case "text":
		return textWriter{out}
	case "json":
		return &jsonWriter{out: out}
	}
	return nil
}

type textWriter struct{ out io.Writer }

func (w textWriter) difference(d *difference) error {
	verdict := "still " + d.Now.String()
	if d.What == "verdict" {
		verdict = d.Was.String() + " → " + d.Now.String()
	}
	line := fmt.Sprintf("%s %s: %s: %s: %s", d.Time.UTC().Format(time.RFC3339), d.User.Name, d.asked(), verdict, d.Because)
	_, err := fmt.Fprintln(w.out, guardrail.OneLine(line))
	return err
}

func (w textWriter) end(s *summary, failed bool) error {
	if failed {
		return nil
	}
	_, err := fmt.Fprintln(w.out, s)
	return err
}

// jsonWriter writes {"differences": […], "summary": {…}}, and a difference when it is
// known.
type jsonWriter struct {
	out   io.Writer
	begun bool
}

func (w *jsonWriter) difference(d *difference) error {
	before := `{"differences": [` + "\n"
	if w.begun {
		before = ",\n"
	}
	w.begun = true
	return w.json(before, d, "")
}

func (w *jsonWriter) end(s *summary, _ bool) error {
	before := `{"differences": [], "summary": `
	if w.begun {
		before = "\n], \"summary\": "
	}
	return w.json(before, s, "}\n")
}

func (w *jsonWriter) json(before string, v any, after string) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = io.WriteString(w.out, before+string(raw)+after)
	return err
}

// summary counts.
type summary struct {
	// Replayed decisions, and those of them that differ.
	Replayed int `json:"replayed"`
	Differ   int `json:"differ"`
	// Skipped decisions, by why they cannot be made anew.
	Skipped map[string]int `json:"skipped,omitempty"`
	// Dropped is how many decisions the log says it lacks.
	Dropped uint64 `json:"dropped"`
	// Unreadable lines, and Errors of the repository.
	Unreadable int `json:"unreadable"`
	Errors     int `json:"errors"`
}

func (s *summary) skip(why string) {
	if s.Skipped == nil {
		s.Skipped = map[string]int{}
	}
	s.Skipped[why]++
}

// String is a line such as 12 decisions replayed: 1 differs; 3 skipped (hub 2, member 1).
func (s *summary) String() string {
	text := count(s.Replayed, "decision") + " replayed: "
	switch s.Differ {
	case 0:
		text += "none differs"
	case 1:
		text += "1 differs"
	default:
		text += fmt.Sprintf("%d differ", s.Differ)
	}
	total := 0
	var parts []string
	for _, why := range slices.Sorted(maps.Keys(s.Skipped)) {
		total += s.Skipped[why]
		parts = append(parts, fmt.Sprintf("%s %d", why, s.Skipped[why]))
	}
	if total > 0 {
		text += fmt.Sprintf("; %d skipped (%s)", total, strings.Join(parts, ", "))
	}
	if s.Dropped > 0 {
		text += fmt.Sprintf("; %d dropped before they were logged", s.Dropped)
	}
	if s.Unreadable > 0 {
		text += "; " + count(s.Unreadable, "line") + " cannot be read"
	}
	if s.Errors > 0 {
		text += "; " + count(s.Errors, "error") + " in the repository"
	}
	return text
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
