// Package junit writes results in the XML that CI systems know as JUnit's.
package junit

import (
	"encoding/xml"
	"fmt"
	"io"
	"time"
)

// Suite is a list of cases under one name.
type Suite struct {
	Name  string
	Cases []Case
}

// Case is one thing that was tried.
type Case struct {
	// Class groups cases, Name tells them apart.
	Class, Name string
	// File and Line, 0 if it is unknown, where the case is written.
	File    string
	Line    int
	Elapsed time.Duration
	// Failures, in words; a case without any has passed.
	Failures []string
	// Notes that do not make it fail.
	Notes []string
}

type xmlSuites struct {
	XMLName xml.Name   `xml:"testsuites"`
	Suites  []xmlSuite `xml:"testsuite"`
}

type xmlSuite struct {
	Name     string    `xml:"name,attr"`
	Tests    int       `xml:"tests,attr"`
	Failures int       `xml:"failures,attr"`
	Time     string    `xml:"time,attr"`
	Cases    []xmlCase `xml:"testcase"`
}

type xmlCase struct {
	Class    string       `xml:"classname,attr"`
	Name     string       `xml:"name,attr"`
	File     string       `xml:"file,attr,omitempty"`
	Line     int          `xml:"line,attr,omitempty"`
	Time     string       `xml:"time,attr"`
	Failures []xmlFailure `xml:"failure"`
	Out      string       `xml:"system-out,omitempty"`
}

type xmlFailure struct {
	Message string `xml:"message,attr"`
	Text    string `xml:",chardata"`
}

// Write the suites.
func Write(w io.Writer, suites ...Suite) error {
	var all xmlSuites
	for _, s := range suites {
		suite := xmlSuite{Name: s.Name, Tests: len(s.Cases)}
		var total time.Duration
		for _, c := range s.Cases {
			out := xmlCase{Class: c.Class, Name: c.Name, File: c.File, Line: c.Line, Time: seconds(c.Elapsed)}
			for _, f := range c.Failures {
				out.Failures = append(out.Failures, xmlFailure{Message: f, Text: f})
			}
			for _, n := range c.Notes {
				out.Out += n + "\n"
			}
			if len(c.Failures) > 0 {
				suite.Failures++
			}
			total += c.Elapsed
			suite.Cases = append(suite.Cases, out)
		}
		suite.Time = seconds(total)
		all.Suites = append(all.Suites, suite)
	}
	raw, err := xml.MarshalIndent(all, "", "  ")
	if err != nil {
		return fmt.Errorf("cannot write JUnit: %w", err)
	}
	_, err = fmt.Fprintf(w, "%s%s\n", xml.Header, raw)
	return err
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.3f", d.Seconds()) }
