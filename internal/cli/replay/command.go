// Package replay is the command that decides logged requests anew: by the grants and
// guardrails of a repository, as of any commit, and without any hub. It tells whose
// requests a change would refuse or let through before it is made, and whether what
// was decided is what the commit says.
package replay

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/internal/bundle"
	"github.com/sallyport-dev/sallyport/internal/cli/offline"
	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
)

type options struct {
	repository, revision string
	beside               offline.Beside
	keyFile              string
	key                  v1alpha1.BundleKey
	requireCeiling       bool
	at                   string
	output               string
	exitZero             bool
}

// Command is sallyport replay.
func Command() *cobra.Command {
	var o options
	c := &cobra.Command{
		Use:   "replay FILE...",
		Short: "Decide logged requests anew, offline",
		Long: `Decide logged requests anew, offline.

Each request of a decision log is decided as the gateway would, by the grants, roles,
guardrails and exceptions of a repository, or of one of its commits, and told where the
decision is another: in its verdict, in the grants that give it, or in what guardrails
say. - is the standard input.

What guardrails and grants did not decide is left out and counted: identity, limits, the
hub and the members. So is what the log itself says it lacks.

The exit code is 1 if anything is decided otherwise, a line cannot be read, or something
in the repository could not be applied; 2 if nothing could be replayed.`,
		Example: `  sallyport replay decisions.log --repo . --fleet fleet.yaml
  sallyport replay decisions.log --repo . --revision main~1 --fleet fleet.yaml --bundle baseline=baseline.tar.gz
  zcat decisions-*.log.gz | sallyport replay - --fleet fleet.yaml --at now -o json`,
		Args: func(cmd *cobra.Command, args []string) error {
			return unusable(cobra.MinimumNArgs(1)(cmd, args))
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return run(streams{cmd.InOrStdin(), cmd.OutOrStdout(), cmd.ErrOrStderr()}, args, o)
		},
	}
	c.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return unusable(err) })
	f := c.Flags()
	f.SortFlags = false
	f.StringVar(&o.repository, "repo", ".", "`folder` of a repository of grants")
	f.StringVar(&o.revision, "revision", "", "`commit` of it, as Git or a grant's status names it; empty for the working tree")
	f.StringSliceVar(&o.beside.Fleet, "fleet", nil, "`file or folder` with the clusters, such as the output of kubectl get managedclusters -o yaml")
	f.StringSliceVar(&o.beside.Guardrails, "guardrails", nil, "`file or folder` with what else is on the hub: Guardrails, AccessRoles and Namespaces")
	f.StringSliceVar(&o.beside.Bundles, "bundle", nil, "`name=file` of the archive of a GuardrailBundle. If the bundle is in the repository, its verification is done")
	f.StringVar(&o.keyFile, "key", "", "`file` with a public key in PEM that every bundle has to be signed with")
	f.StringVar(&o.key.ID, "key-id", "", "`name` of the key that the signature has to name")
	f.StringVar(&o.key.Algorithm, "algorithm", "", "algorithm of the signature; empty for what is usual for the key")
	f.BoolVar(&o.requireCeiling, "require-ceiling", false, "refuse grants in namespaces that have no ceiling, as the controller does with the same flag")
	f.StringVar(&o.at, "at", atLogged, "`instant` at which to decide: logged, now, or one such as 2026-01-05T10:00:00Z")
	f.StringVarP(&o.output, "output", "o", "text", "`format` of the differences: text or json")
	f.BoolVar(&o.exitZero, "exit-zero", false, "exit with 0 also where decisions differ")
	return c
}

const (
	atLogged = "logged"
	atNow    = "now"
)

// failure is an error of the program's own exit code.
type failure struct{ error }

func (f failure) Unwrap() error { return f.error }

// ExitCode of the program: nothing could be replayed.
func (failure) ExitCode() int { return 2 }

func unusable(err error) error {
	if err == nil {
		return nil
	}
	return failure{err}
}

type streams struct {
	in       io.Reader
	out, err io.Writer
}

func run(s streams, logs []string, o options) error {
	r, err := load(&o)
	if err != nil {
		return unusable(err)
	}
	at, err := instant(o.at)
	if err != nil {
		return unusable(err)
	}
	write := newWriter(o.output, s.out)
	if write == nil {
		return unusable(fmt.Errorf("cannot write %q: --output is text or json", o.output))
	}
	worlds := r.Worlds()
	if len(worlds) != 1 {
		return unusable(fmt.Errorf("cannot replay by %q: %s", o.repository, several(worlds)))
	}
	p := &replay{
		at: at, write: write, complain: func(format string, args ...any) {
			fmt.Fprintln(s.err, guardrail.OneLine(fmt.Sprintf(format, args...)))
		},
		timeline: timeline{snapshot: r.Snapshot(&worlds[0], time.Time{}, guardrail.Compile, guardrail.Options{RequireCeiling: o.requireCeiling})},
	}
	p.sum.Errors = tellFindings(p.complain, r)
	for _, name := range logs {
		if err := p.file(name, s.in); err != nil {
			return unusable(err)
		}
	}
	failed := p.sum.Unreadable+p.sum.Errors > 0 || p.sum.Differ > 0 && !o.exitZero
	if err := write.end(&p.sum, failed); err != nil {
		return unusable(errWrite{err})
	}
	if failed {
		return errors.New(p.sum.String())
	}
	return nil
}

// load the repository and what is beside it.
func load(o *options) (*offline.Repository, error) {
	if err := trust(o); err != nil {
		return nil, err
	}
	r, err := offline.New()
	if err != nil {
		return nil, err
	}
	if o.revision == "" {
		err = r.Read(o.repository, nil)
	} else {
		_, err = r.ReadCommit(o.repository, o.revision)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read --repo %q: %w", o.repository, err)
	}
	if r.Count(v1alpha1.AccessGrantKind) == 0 {
		return nil, fmt.Errorf("cannot replay by %q: there is no AccessGrant in it", o.repository)
	}
	before := len(r.Findings)
	if err := r.ReadBeside(o.beside); err != nil {
		return nil, err
	}
	for _, f := range r.Findings[before:] {
		if strings.HasPrefix(f.Object, v1alpha1.GuardrailBundleKind+" ") && f.Severity == offline.Invalid {
			return nil, fmt.Errorf("cannot replay by %s: it %s", f.Object, f.Text())
		}
	}
	if !r.KnowsClusters() {
		return nil, errors.New("cannot replay without clusters: --fleet gives them")
	}
	if err := r.Prepare(); err != nil {
		return nil, fmt.Errorf("cannot read --repo %q: %w", o.repository, err)
	}
	r.Sort()
	return r, nil
}

// trust the key of the flags, if there is one.
func trust(o *options) error {
	if (o.keyFile == "") != (o.key.ID == "") {
		return errors.New("cannot verify bundles: --key and --key-id belong together")
	}
	if o.keyFile == "" {
		return nil
	}
	raw, err := os.ReadFile(o.keyFile)
	if err != nil {
		return fmt.Errorf("cannot read --key: %w", err)
	}
	o.key.PublicKey = strings.TrimSpace(string(raw)) + "\n"
	usual, err := bundle.AlgorithmFor(o.key.PublicKey)
	if err != nil {
		return fmt.Errorf("the key in %s %w", o.keyFile, err)
	}
	o.key.Algorithm = cmp.Or(o.key.Algorithm, usual)
	o.beside.Trusted = &v1alpha1.BundleVerification{Keys: []v1alpha1.BundleKey{o.key}}
	return nil
}

// instant at which to decide; zero for that of each request.
func instant(at string) (time.Time, error) {
	switch at {
	case atLogged:
		return time.Time{}, nil
	case atNow:
		return time.Now(), nil
	}
	t, err := time.Parse(time.RFC3339, at)
	if err != nil {
		return t, fmt.Errorf("cannot read --at %q: logged, now, or an instant such as 2026-01-05T10:00:00Z is expected", at)
	}
	return t, nil
}

func several(worlds []offline.World) string {
	var builds []string
	for _, w := range worlds {
		builds = append(builds, cmp.Or(w.Build, "the files that are in no build"))
	}
	return "what is in it differs by hub; --repo has to be the folder of one: " + strings.Join(builds, ", ")
}

// tellFindings of the repository, and count those for which the hub would hold
// something else than it says.
func tellFindings(complain func(string, ...any), r *offline.Repository) (failed int) {
	for i := range r.Findings {
		f := &r.Findings[i]
		if f.Severity <= offline.Invalid {
			failed++
		}
		place := ""
		if f.Place.File != "" {
			place = f.Place.String() + ": "
		}
		complain("%s%s: %s", place, f.Severity, strings.TrimSpace(f.Object+" "+f.Text()))
	}
	return failed
}
