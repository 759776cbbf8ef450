// Package guardrail is the command that people who write guardrails use.
package guardrail

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"github.com/sallyport-dev/sallyport/internal/policy/examples"
	"github.com/sallyport-dev/sallyport/internal/schema"
)

// Command is sallyport guardrail.
func Command() *cobra.Command {
	c := &cobra.Command{
		Use:   "guardrail",
		Short: "Work on guardrails",
		Args:  cobra.NoArgs,
	}
	c.AddCommand(testCommand())
	return c
}

type testOptions struct {
	output   string
	coverage bool
	print    bool
	verbose  bool
}

func testCommand() *cobra.Command {
	var o testOptions
	c := &cobra.Command{
		Use:   "test PATH...",
		Short: "Test guardrails by their examples, offline",
		Long: `Test guardrails by their examples, offline.

Every folder at or below a PATH that has a guardrail.yaml and an examples.yaml is
tested; guardrail.rego.yaml, if it is there, is a twin and is held to the same
examples. Grants in examples are compiled and judged as they are in force.

The exit code is 1 if an example does not come out as expected, if a guardrail does
not compile, or if it has no example that it refuses or none that it allows.`,
		Example: `  sallyport guardrail test policies/
  sallyport guardrail test -o junit policies/no-exec > report.xml`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, paths []string) error {
			return test(cmd.OutOrStdout(), cmd.ErrOrStderr(), paths, o)
		},
	}
	f := c.Flags()
	f.StringVarP(&o.output, "output", "o", "text", "`format` of the results: text, json or junit")
	f.BoolVar(&o.coverage, "coverage", true, "say which parts of the policies no example reaches")
	f.BoolVar(&o.print, "print", true, "write what print in Rego prints to stderr")
	f.BoolVarP(&o.verbose, "verbose", "v", false, "list the examples that pass as well (text)")
	return c
}

// tested is a policy folder and what became of it.
type tested struct {
	folder string
	// err says why the folder cannot be tested.
	err     error
	reports []examples.Report
}

func test(stdout, stderr io.Writer, paths []string, o testOptions) error {
	write, known := map[string]func(io.Writer, []tested, testOptions) error{
		"text": writeText, "json": writeJSON, "junit": writeJUnit,
	}[o.output]
	if !known {
		return fmt.Errorf("cannot write %q: --output is text, json or junit", o.output)
	}
	schemas, err := schema.New()
	if err != nil {
		return err
	}
	options := examples.Options{Coverage: o.coverage, Schemas: schemas}
	if o.print {
		options.Print = stderr
	}
	var all []tested
	for _, p := range paths {
		found, err := testPath(p, options)
		if err != nil {
			return fmt.Errorf("cannot test %q: %w", p, err)
		}
		all = append(all, found...)
	}
	slices.SortFunc(all, func(a, b tested) int { return cmp.Compare(a.folder, b.folder) })
	all = slices.CompactFunc(all, func(a, b tested) bool { return a.folder == b.folder })
	if err := write(stdout, all, o); err != nil {
		return err
	}
	s := summarize(all)
	if s.failed() {
		return errors.New(s.String())
	}
	if o.output == "text" {
		_, err := fmt.Fprintln(stdout, s)
		return err
	}
	return nil
}

func testPath(name string, o examples.Options) ([]tested, error) {
	root, err := os.OpenRoot(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = root.Close() }()
	folders, err := examples.Find(root.FS(), ".")
	if err != nil {
		return nil, err
	}
	if len(folders) == 0 {
		return nil, errors.New("there is no guardrail.yaml at or below it")
	}
	all := make([]tested, 0, len(folders))
	for _, folder := range folders {
		t := tested{folder: filepath.ToSlash(filepath.Join(name, folder))}
		p, err := examples.Load(root.FS(), folder, t.folder)
		if err != nil {
			t.err = err
		} else {
			t.reports = p.Test(o)
		}
		all = append(all, t)
	}
	return all, nil
}

// summary counts.
type summary struct {
	guardrails, examples, failures, problems int
}

func summarize(all []tested) (s summary) {
	for i := range all {
		if all[i].err != nil {
			s.problems++
		}
		for j := range all[i].reports {
			r := &all[i].reports[j]
			s.guardrails++
			s.examples += len(r.Results)
			if len(r.Problems) > 0 {
				s.problems++
			}
			for k := range r.Results {
				if !r.Results[k].Passed() {
					s.failures++
				}
			}
		}
	}
	return s
}

func (s summary) failed() bool { return s.failures+s.problems > 0 }

// String is a line such as 2 guardrails, 12 examples: 1 failed.
func (s summary) String() string {
	text := fmt.Sprintf("%s, %s: ", count(s.guardrails, "guardrail"), count(s.examples, "example"))
	switch {
	case !s.failed():
		return text + "all as expected"
	case s.problems == 0:
		return text + fmt.Sprintf("%d failed", s.failures)
	case s.failures == 0:
		return text + fmt.Sprintf("%d cannot be tested", s.problems)
	}
	return text + fmt.Sprintf("%d failed, %d cannot be tested", s.failures, s.problems)
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
