// Package lint is the command that judges a repository before it is committed: with
// the compiler and the guardrails that judge on the hub, at the point Plan, and
// without any hub.
package lint

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/internal/cli/offline"
)

type options struct {
	output         string
	beside         offline.Beside
	requireCeiling bool
	now            string
}

// Command is sallyport lint.
func Command() *cobra.Command {
	var o options
	c := &cobra.Command{
		Use:   "lint PATH",
		Short: "Judge a repository of grants, offline",
		Long: `Judge a repository of grants, offline.

Every folder with a kustomization that no other refers to is built; all other YAML
is read as it is. The grants are compiled and judged by the guardrails of the
repository, and those of --guardrails and --bundle, as on the hub, at the point Plan.
What a guardrail says is what it says at admission.

The clusters are those of ManagedClusters, Karmada Clusters and ClusterProfiles in
the repository and in --fleet. Without any, guardrails know of the clusters that
grants name no labels and no claims.

The exit code is 1 if a guardrail refuses a grant, or if something that is committed
could not be applied or judged. Warnings alone leave it 0.`,
		Example: `  kubectl get managedclusters -o yaml > /tmp/fleet.yaml
  sallyport lint . --fleet /tmp/fleet.yaml
  sallyport lint teams/payments --guardrails ../platform/guardrails -o junit > report.xml`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return run(cmd.OutOrStdout(), args[0], o)
		},
	}
	f := c.Flags()
	f.StringVarP(&o.output, "output", "o", "text", "`format` of the findings: text, json or junit")
	f.StringSliceVar(&o.beside.Fleet, "fleet", nil, "`file or folder` with the clusters, such as the output of kubectl get managedclusters -o yaml")
	f.StringSliceVar(&o.beside.Guardrails, "guardrails", nil, "`file or folder` with what else is on the hub: Guardrails, AccessRoles and Namespaces")
	f.StringSliceVar(&o.beside.Bundles, "bundle", nil, "`name=file` of the archive of a GuardrailBundle. If the bundle is in the repository, its verification is done")
	f.BoolVar(&o.requireCeiling, "require-ceiling", false, "refuse grants in namespaces that have no ceiling, as the controller does with the same flag")
	f.StringVar(&o.now, "now", "", "`instant` of judging, as in 2026-01-05T10:00:00Z (default the clock's)")
	return c
}

func run(out io.Writer, name string, o options) error {
	write, known := map[string]func(io.Writer, *judge) error{"text": writeText, "json": writeJSON, "junit": writeJUnit}[o.output]
	if !known {
		return fmt.Errorf("cannot write %q: --output is text, json or junit", o.output)
	}
	r, err := offline.New()
	if err != nil {
		return err
	}
	j := &judge{Repository: r, now: time.Now(), requireCeiling: o.requireCeiling}
	if o.now != "" {
		if j.now, err = time.Parse(time.RFC3339, o.now); err != nil {
			return fmt.Errorf("cannot read --now %q: an instant such as 2026-01-05T10:00:00Z is expected", o.now)
		}
	}
	if err := j.Read(name, nil); err != nil {
		return fmt.Errorf("cannot lint %q: %w", name, err)
	}
	if len(j.Objects)+len(j.Findings) == 0 {
		return fmt.Errorf("cannot lint %q: there is nothing of %s in it", name, v1alpha1.GroupVersion.Group)
	}
	if err := j.ReadBeside(o.beside); err != nil {
		return err
	}
	if err := j.all(); err != nil {
		return fmt.Errorf("cannot lint %q: %w", name, err)
	}
	if err := write(out, j); err != nil {
		return err
	}
	s := j.summarize()
	if s.Refused+s.Errors > 0 {
		return errors.New(s.String())
	}
	if o.output == "text" {
		_, err := fmt.Fprintln(out, s)
		return err
	}
	return nil
}

// summary counts.
type summary struct {
	Grants     int `json:"grants"`
	Guardrails int `json:"guardrails"`
	Refused    int `json:"refused"`
	Errors     int `json:"errors"`
	Warnings   int `json:"warnings"`
	Notes      int `json:"notes"`
}

// summarize counts grants that are refused, however many guardrails refuse them.
func (j *judge) summarize() summary {
	s := summary{Grants: j.Count(v1alpha1.AccessGrantKind), Guardrails: j.Count(v1alpha1.GuardrailKind) + j.Bundled()}
	grants := map[string]struct{}{}
	for i := range j.Findings {
		switch f := &j.Findings[i]; f.Severity {
		case offline.Refused:
			grants[f.Object] = struct{}{}
		case offline.Invalid:
			s.Errors++
		case offline.Warning:
			s.Warnings++
		case offline.Note:
			s.Notes++
		}
	}
	s.Refused = len(grants)
	return s
}

// String is a line such as 12 grants, 7 guardrails: 1 refused, 2 warnings.
func (s summary) String() string {
	var parts []string
	if s.Refused > 0 {
		parts = append(parts, fmt.Sprintf("%d refused", s.Refused))
	}
	if s.Errors > 0 {
		parts = append(parts, count(s.Errors, "error"))
	}
	if s.Warnings > 0 {
		parts = append(parts, count(s.Warnings, "warning"))
	}
	if len(parts) == 0 {
		parts = []string{"nothing is refused"}
	}
	return fmt.Sprintf("%s, %s: %s", count(s.Grants, "grant"), count(s.Guardrails, "guardrail"), strings.Join(parts, ", "))
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
