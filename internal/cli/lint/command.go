// Package lint is the command that judges a repository before it is committed: with
// the compiler and the guardrails that judge on the hub, at the point Plan, and
// without any hub.
package lint

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/internal/bundle"
	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
	"github.com/sallyport-dev/sallyport/internal/policy/manifest"
)

type options struct {
	output         string
	fleet          []string
	guardrails     []string
	bundles        []string
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
	f.StringSliceVar(&o.fleet, "fleet", nil, "`file or folder` with the clusters, such as the output of kubectl get managedclusters -o yaml")
	f.StringSliceVar(&o.guardrails, "guardrails", nil, "`file or folder` with what else is on the hub: Guardrails, AccessRoles and Namespaces")
	f.StringSliceVar(&o.bundles, "bundle", nil, "`name=file` of the archive of a GuardrailBundle. If the bundle is in the repository, its verification is done")
	f.BoolVar(&o.requireCeiling, "require-ceiling", false, "refuse grants in namespaces that have no ceiling, as the controller does with the same flag")
	f.StringVar(&o.now, "now", "", "`instant` of judging, as in 2026-01-05T10:00:00Z (default the clock's)")
	return c
}

// beside are the kinds that --guardrails adds.
var beside = []string{v1alpha1.GuardrailKind, v1alpha1.AccessRoleKind, v1alpha1.GuardrailBundleKind, namespaceKind}

func run(out io.Writer, name string, o options) error {
	write, known := map[string]func(io.Writer, *judge) error{"text": writeText, "json": writeJSON, "junit": writeJUnit}[o.output]
	if !known {
		return fmt.Errorf("cannot write %q: --output is text, json or junit", o.output)
	}
	r, err := newRead()
	if err != nil {
		return err
	}
	j := &judge{read: r, now: time.Now(), requireCeiling: o.requireCeiling, bundles: map[string]bool{}}
	if o.now != "" {
		if j.now, err = time.Parse(time.RFC3339, o.now); err != nil {
			return fmt.Errorf("cannot read --now %q: an instant such as 2026-01-05T10:00:00Z is expected", o.now)
		}
	}
	if err := j.path(name, nil); err != nil {
		return fmt.Errorf("cannot lint %q: %w", name, err)
	}
	if len(j.objects)+len(j.findings) == 0 {
		return fmt.Errorf("cannot lint %q: there is nothing of %s in it", name, v1alpha1.GroupVersion.Group)
	}
	for _, p := range o.guardrails {
		if err := j.path(p, beside); err != nil {
			return fmt.Errorf("cannot read --guardrails %q: %w", p, err)
		}
	}
	for _, p := range o.fleet {
		before := j.inventoried
		if err := j.path(p, []string{}); err != nil {
			return fmt.Errorf("cannot read --fleet %q: %w", p, err)
		}
		if j.inventoried == before {
			return fmt.Errorf("cannot read --fleet %q: there is no cluster in it", p)
		}
	}
	for _, b := range o.bundles {
		if err := j.bundle(b); err != nil {
			return err
		}
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

// bundle adds the guardrails of NAME=FILE.
func (j *judge) bundle(flag string) error {
	name, file, found := strings.Cut(flag, "=")
	if !found || name == "" {
		return fmt.Errorf("cannot read --bundle %q: name=file is expected", flag)
	}
	archive, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("cannot read --bundle %q: %w", flag, err)
	}
	opened, err := bundle.Open(archive)
	if err != nil {
		return fmt.Errorf("cannot read --bundle %q: bundle %q %w", flag, name, err)
	}
	spec, place := &v1alpha1.GuardrailBundleSpec{}, manifest.Place{File: file}
	verify := func() error { return nil }
	for _, o := range j.of(v1alpha1.GuardrailBundleKind) {
		if o.name == name {
			spec, place = &o.typed.(*v1alpha1.GuardrailBundle).Spec, o.place("")
			verify = func() error { return verified(opened, spec) }
		}
	}
	var guardrails []*guardrail.Guardrail
	problem := verify()
	if problem == nil {
		guardrails, problem = opened.Guardrails(name, spec)
	}
	j.bundles[name] = true
	j.bundled = append(j.bundled, guardrails...)
	if problem != nil {
		j.tell(finding{severity: invalid, place: place, object: v1alpha1.GuardrailBundleKind + " " + name, message: problem.Error()})
	}
	return nil
}

// verified as the GuardrailBundle says.
func verified(b *bundle.Bundle, spec *v1alpha1.GuardrailBundleSpec) error {
	if spec.Verification == nil {
		return b.VerifyUnsigned()
	}
	_, err := b.Verify(spec.Verification)
	return err
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
	s := summary{Grants: j.count(v1alpha1.AccessGrantKind), Guardrails: j.count(v1alpha1.GuardrailKind) + len(j.bundled)}
	grants := map[string]struct{}{}
	for i := range j.findings {
		switch f := &j.findings[i]; f.severity {
		case refused:
			grants[f.object] = struct{}{}
		case invalid:
			s.Errors++
		case warning:
			s.Warnings++
		case note:
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
