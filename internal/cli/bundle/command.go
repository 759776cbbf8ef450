// Package bundle is the command that people who ship guardrails use.
package bundle

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	packed "github.com/sallyport-dev/sallyport/internal/bundle"
)

// Command is sallyport bundle.
func Command() *cobra.Command {
	c := &cobra.Command{
		Use:   "bundle",
		Short: "Build, sign and verify bundles of guardrails",
		Args:  cobra.NoArgs,
	}
	c.AddCommand(buildCommand(), signCommand(), verifyCommand(), inspectCommand())
	return c
}

func buildCommand() *cobra.Command {
	var policies, revision, output string
	c := &cobra.Command{
		Use:   "build FILE",
		Short: "Build a bundle of the policies that a file lists",
		Long: `Build an OPA bundle of the policies that a file lists:

  name: baseline
  description: What every platform wants.
  policies: [no-exec-in-prod, "no-wildcard-*"]
  engine: rego
  overrides:
    no-exec-in-prod: {enforcement: Warn}

Policies are folders, or patterns of folders, below --policies. With engine, the
guardrail of that folder that is written in it is taken where there are two.
Overrides replace enforcement, points, match, exceptions or parameters of one.

The same policies make the same bytes. Without --revision, the revision is the time
of the commit that they are at, in seconds: then none may differ from it.`,
		Example: "  sallyport bundle build bundles/baseline.yaml --revision 42 -o baseline.tar.gz",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			archive, err := build(args[0], policies, revision)
			if err != nil {
				return err
			}
			return write(cmd.OutOrStdout(), output, archive)
		},
	}
	f := c.Flags()
	f.StringVar(&policies, "policies", "policies", "`folder` with a folder for each policy")
	f.StringVar(&revision, "revision", "", "a number that grows, and after one of - + @ what you want to say of it")
	f.StringVarP(&output, "output", "o", packed.ArchiveKey, "`file` to write")
	return c
}

func signCommand() *cobra.Command {
	var s packed.Signer
	var keyFile, output string
	c := &cobra.Command{
		Use:   "sign BUNDLE",
		Short: "Sign a bundle",
		Long: `Sign a bundle, as opa sign does, in place of whoever signed it before.

The digest of a signed bundle is another than that of the unsigned one.`,
		Example: "  sallyport bundle sign baseline.tar.gz --key private.pem --key-id release-2026",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			archive, err := read(args[0])
			if err != nil {
				return err
			}
			if s.Key, s.Algorithm, err = readKey(keyFile, s.Algorithm); err != nil {
				return err
			}
			signed, err := packed.Sign(archive, s)
			if err != nil {
				return err
			}
			return write(cmd.OutOrStdout(), cmp.Or(output, args[0]), signed)
		},
	}
	f := c.Flags()
	f.StringVar(&keyFile, "key", "", "`file` with the private key in PEM, without passphrase")
	f.StringVar(&s.KeyID, "key-id", "", "`name` by which those who verify know the key")
	f.StringVar(&s.Algorithm, "algorithm", "", "one of "+strings.Join(packed.Algorithms, ", ")+"; empty for what is usual for the key")
	f.StringVar(&s.Scope, "scope", "", "scope that those who verify have to ask for")
	f.StringVarP(&output, "output", "o", "", "`file` to write; empty for the bundle itself")
	required(c, "key", "key-id")
	return c
}

func verifyCommand() *cobra.Command {
	var keyFile string
	var key v1alpha1.BundleKey
	var scope string
	c := &cobra.Command{
		Use:   "verify BUNDLE",
		Short: "Verify a bundle as the controller does",
		Long: `Verify a bundle as the controller does: who signed it, that nothing was changed,
and that every guardrail in it compiles. The exit code is 1 if it would be refused.`,
		Example: "  sallyport bundle verify baseline.tar.gz --key public.pem --key-id release-2026",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var err error
			if key.PublicKey, key.Algorithm, err = readKey(keyFile, key.Algorithm); err != nil {
				return err
			}
			return verify(cmd.OutOrStdout(), args[0], &v1alpha1.BundleVerification{Keys: []v1alpha1.BundleKey{key}, Scope: scope})
		},
	}
	f := c.Flags()
	f.StringVar(&keyFile, "key", "", "`file` with the public key in PEM")
	f.StringVar(&key.ID, "key-id", "", "`name` of the key that the signature has to name")
	f.StringVar(&key.Algorithm, "algorithm", "", "algorithm of the signature; empty for what is usual for the key")
	f.StringVar(&scope, "scope", "", "scope that the signature has to have")
	required(c, "key", "key-id")
	return c
}

// required marks flags that are there, which is the only error there could be.
func required(c *cobra.Command, flags ...string) {
	for _, name := range flags {
		cobra.CheckErr(c.MarkFlagRequired(name))
	}
}

func verify(out io.Writer, name string, trusted *v1alpha1.BundleVerification) error {
	b, err := open(name)
	if err != nil {
		return err
	}
	signature, err := b.Verify(trusted)
	if err != nil {
		return fmt.Errorf("%s %w", name, err)
	}
	revision, err := b.Revision()
	if err != nil {
		return fmt.Errorf("%s would be refused: %w", name, err)
	}
	guardrails, err := b.Guardrails(cmp.Or(b.Name, "bundle"), &v1alpha1.GuardrailBundleSpec{})
	if err != nil {
		return fmt.Errorf("%s %w", name, err)
	}
	_, err = fmt.Fprintf(out, "%s: revision %s with %s, signed with %s by %q\n", name, revision, count(len(guardrails), "guardrail"), signature.Algorithm, signature.KeyID)
	return err
}

func inspectCommand() *cobra.Command {
	var output string
	c := &cobra.Command{
		Use:   "inspect BUNDLE",
		Short: "Show what is in a bundle, without believing it",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			write, known := map[string]func(io.Writer, *inspected) error{"text": writeText, "json": writeJSON}[output]
			if !known {
				return fmt.Errorf("cannot write %q: --output is text or json", output)
			}
			in, err := inspect(args[0])
			if err != nil {
				return err
			}
			return write(cmd.OutOrStdout(), in)
		},
	}
	c.Flags().StringVarP(&output, "output", "o", "text", "`format`: text or json")
	return c
}

// inspected is what a bundle says of itself.
type inspected struct {
	Name        string            `json:"name,omitempty"`
	Description string            `json:"description,omitempty"`
	Revision    string            `json:"revision"`
	Digest      string            `json:"digest"`
	Roots       []string          `json:"roots"`
	Signature   *packed.Signature `json:"signature,omitempty"`
	Guardrails  []inspectedEntry  `json:"guardrails"`
}

type inspectedEntry struct {
	Name        string                    `json:"name"`
	Engine      string                    `json:"engine"`
	Package     string                    `json:"package,omitempty"`
	Enforcement v1alpha1.Enforcement      `json:"enforcement,omitempty"`
	Points      []v1alpha1.GuardrailPoint `json:"points,omitempty"`
	Description string                    `json:"description,omitempty"`
}

func inspect(name string) (*inspected, error) {
	b, err := open(name)
	if err != nil {
		return nil, err
	}
	in := &inspected{Name: b.Name, Description: b.Description, Digest: b.Digest, Roots: b.Roots()}
	revision, err := b.Revision()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	in.Revision = revision.String()
	switch signature, err := b.Signature(); {
	case err == nil:
		in.Signature = &signature
	case !errors.Is(err, packed.ErrUnsigned):
		return nil, fmt.Errorf("%s %w", name, err)
	}
	content, err := b.Content()
	if err != nil {
		return nil, fmt.Errorf("%s %w", name, err)
	}
	for _, name := range content.Names() {
		e := content.Entries[name]
		in.Guardrails = append(in.Guardrails, inspectedEntry{
			Name: name, Engine: e.Engine(), Package: e.Package, Enforcement: e.Enforcement, Points: e.Points, Description: e.Description,
		})
	}
	return in, nil
}

func writeJSON(out io.Writer, in *inspected) error {
	e := json.NewEncoder(out)
	e.SetIndent("", "  ")
	return e.Encode(in)
}

func writeText(out io.Writer, in *inspected) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	line := func(what, text string) { fmt.Fprintf(w, "%s\t%s\n", what, cmp.Or(text, "-")) }
	line("name", in.Name)
	line("description", in.Description)
	line("revision", in.Revision)
	line("digest", in.Digest)
	line("roots", strings.Join(in.Roots, ", "))
	signature := "none"
	if s := in.Signature; s != nil {
		signature = fmt.Sprintf("%s by %q, not verified", s.Algorithm, s.KeyID)
		if s.Scope != "" {
			signature = fmt.Sprintf("%s by %q for %q, not verified", s.Algorithm, s.KeyID, s.Scope)
		}
	}
	line("signature", signature)
	if err := w.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(w, "\nGUARDRAIL\tENGINE\tENFORCEMENT\tPOINTS\tDESCRIPTION")
	for _, e := range in.Guardrails {
		points := make([]string, len(e.Points))
		for i, p := range e.Points {
			points[i] = string(p)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", e.Name, e.Engine, cmp.Or(string(e.Enforcement), "-"),
			cmp.Or(strings.Join(points, ","), "-"), cmp.Or(e.Description, "-"))
	}
	return w.Flush()
}

// open a file or a folder that is a bundle.
func open(name string) (*packed.Bundle, error) {
	archive, err := read(name)
	if err != nil {
		return nil, err
	}
	b, err := packed.Open(archive)
	if err != nil {
		return nil, fmt.Errorf("%s %w", name, err)
	}
	return b, nil
}

func read(name string) ([]byte, error) {
	info, err := os.Stat(name)
	switch {
	case err != nil:
		return nil, fmt.Errorf("cannot read the bundle: %w", err)
	case !info.IsDir():
		archive, err := os.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("cannot read the bundle: %w", err)
		}
		return archive, nil
	}
	archive, err := packed.FromFolder(os.DirFS(name))
	if err != nil {
		return nil, fmt.Errorf("cannot read the bundle %s: %w", name, err)
	}
	return archive, nil
}

// write a bundle, so that the file is never half of one, and say which it is.
func write(out io.Writer, name string, archive []byte) error {
	partial := name + ".partial"
	err := os.WriteFile(partial, archive, 0o644)
	if err == nil {
		err = os.Rename(partial, name)
	}
	if err != nil {
		return fmt.Errorf("cannot write the bundle: %w", err)
	}
	b, err := packed.Open(archive)
	if err != nil {
		return fmt.Errorf("%s %w", name, err)
	}
	revision, err := b.Revision()
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	_, err = fmt.Fprintf(out, "%s: revision %s, %s\n", name, revision, b.Digest)
	return err
}

// readKey and, where no algorithm is given, what is usual for it.
func readKey(name, algorithm string) (key, with string, err error) {
	raw, err := os.ReadFile(name)
	if err != nil {
		return "", "", fmt.Errorf("cannot read the key: %w", err)
	}
	key = strings.TrimSpace(string(raw)) + "\n"
	if algorithm != "" {
		return key, algorithm, nil
	}
	with, err = packed.AlgorithmFor(key)
	if err != nil {
		return "", "", fmt.Errorf("the key in %s %w", name, err)
	}
	return key, with, nil
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
