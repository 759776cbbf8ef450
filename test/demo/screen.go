package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"
	"unicode/utf8"
)

// screen writes for people: lines of at most 80 columns, and colour only where a
// person looks.
type screen struct {
	w      io.Writer
	colour bool
}

func newScreen(f *os.File) *screen {
	info, err := f.Stat()
	tty := err == nil && info.Mode()&os.ModeCharDevice != 0
	return &screen{w: f, colour: tty && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"}
}

const (
	width = 80
	bold  = "1"
	dim   = "2"
	red   = "31"
	green = "32"
)

func (s *screen) paint(style, text string) string {
	if !s.colour || text == "" {
		return text
	}
	return "\x1b[" + style + "m" + text + "\x1b[0m"
}

func (s *screen) opening() {
	fmt.Fprintf(s.w, "%s\n", s.paint(bold, "Sallyport: a commit gives access to a fleet, a revert takes it away"))
	s.say("Everything here is real: API servers, etcd, OCM's work agents, kubectl. Only nodes are missing: no pod runs, " +
		"a stand-in for the kubelet answers for their logs, and Sallyport runs as processes instead of Deployments: " +
		"as the service accounts of config/, with their rights and no others.")
	s.note("The first time on a machine what runs is downloaded or built, which takes up to 15 minutes; after that, one.")
}

// progress shows lines of what takes minutes.
type progress struct{ *screen }

func (p progress) Write(line []byte) (int, error) {
	erase := ""
	if p.colour {
		erase = "\x1b[K"
	}
	_, err := fmt.Fprintf(p.w, "%s  %s", erase, line)
	return len(line), err
}

// heading begins a part.
func (s *screen) heading(text string) {
	fmt.Fprintf(s.w, "\n%s\n", s.paint(bold, text))
}

// say explains, in lines that fit.
func (s *screen) say(text string) {
	for _, line := range wrap(text, width-2) {
		fmt.Fprintf(s.w, "  %s\n", line)
	}
}

// note is said in passing.
func (s *screen) note(text string) {
	for _, line := range wrap(text, width-2) {
		fmt.Fprintf(s.w, "  %s\n", s.paint(dim, line))
	}
}

// quote shows lines of a file or of a program as they are.
func (s *screen) quote(text string) {
	for line := range strings.SplitSeq(strings.TrimRight(text, "\n"), "\n") {
		fmt.Fprintf(s.w, "    %s\n", s.paint(dim, line))
	}
}

// columns shows a table as it is, dimmed.
func (s *screen) columns(text string) {
	for line := range strings.SplitSeq(strings.TrimRight(text, "\n"), "\n") {
		fmt.Fprintf(s.w, "  %s\n", s.paint(dim, strings.TrimRight(line, " ")))
	}
}

// row is what was asked, the answer, how long it took, and whether that was
// expected.
func (s *screen) row(asked, answer string, took time.Duration, ok bool) {
	style := green
	if !ok {
		style = red
	}
	fmt.Fprintf(s.w, "  %s  %s %8s  %s\n", pad(asked, 36), pad(answer, 27), brief(took), s.paint(style, mark(ok)))
}

// doing is shown where a person waits, until done takes its place.
func (s *screen) doing(what string) {
	if s.colour {
		fmt.Fprintf(s.w, "  %s …\r", s.paint(dim, what))
	}
}

// done is a row of the preparations.
func (s *screen) done(what string, took time.Duration) {
	fmt.Fprintf(s.w, "  %s %8s\n", pad(what, 68), brief(took))
}

func (s *screen) total(took time.Duration) {
	fmt.Fprintf(s.w, "\n  The whole demo took %s.\n", brief(took))
}

func (s *screen) failure(err error) {
	fmt.Fprintf(s.w, "\n%s\n", s.paint(red, "demo: "+err.Error()))
}

// summary is the table at the end.
func (s *screen) summary(results []result) {
	s.heading("Summary")
	s.tableRow([]string{"step", "expected", "got", "time", ""}, bold)
	for i, r := range results {
		style := ""
		if !r.ok {
			style = red
		}
		took := brief(r.took)
		if r.got == notPlayed {
			took = "-"
		}
		s.tableRow([]string{fmt.Sprintf("%d %s", i+1, r.step), r.expected, r.got, took, mark(r.ok)}, style)
	}
}

func (s *screen) tableRow(cells []string, style string) {
	line := fmt.Sprintf("  %s %s %s %8s  %s", pad(cells[0], 9), pad(cells[1], 27), pad(cells[2], 27), cells[3], cells[4])
	line = strings.TrimRight(line, " ")
	if style != "" {
		line = s.paint(style, line)
	}
	fmt.Fprintln(s.w, line)
}

func mark(ok bool) string {
	if ok {
		return "✓"
	}
	return "✗"
}

// pad fills up to n columns. What is longer stays: better askew than cut.
func pad(text string, n int) string {
	return text + strings.Repeat(" ", max(0, n-utf8.RuneCountInString(text)))
}

// brief is a duration with two or three digits.
func brief(d time.Duration) string {
	switch {
	case d < time.Millisecond:
		return "<1 ms"
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	case d < time.Minute:
		return fmt.Sprintf("%.1f s", d.Seconds())
	default:
		return fmt.Sprintf("%d m %02d s", int(d.Minutes()), int(d.Seconds())%60)
	}
}

func wrap(text string, columns int) []string {
	var lines []string
	for paragraph := range strings.SplitSeq(text, "\n") {
		line := ""
		for _, word := range strings.Fields(paragraph) {
			switch {
			case line == "":
				line = word
			case utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) > columns:
				lines = append(lines, line)
				line = word
			default:
				line += " " + word
			}
		}
		lines = append(lines, line)
	}
	return lines
}
