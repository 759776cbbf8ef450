package main

import (
	"cmp"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

var update = flag.Bool("update", false, "write docs/reference/cli.md anew")

const reference = "../../docs/reference/cli.md"

// TestReference: docs/reference/cli.md is what the commands say of themselves.
// "make generate" writes it, by -update.
func TestReference(t *testing.T) {
	// Defaults that come from the environment are described without it.
	for _, name := range []string{"KUBECONFIG", "POD_NAMESPACE"} {
		t.Setenv(name, "")
	}
	var b strings.Builder
	b.WriteString("# Command line\n\nWritten by `make generate`. The same binary works as `kubectl-sallyport`, a plugin of kubectl.\n")
	describe(&b, command("sallyport"))
	got := b.String()
	if *update {
		if err := os.WriteFile(reference, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(reference)
	if err != nil {
		t.Fatal(err)
	}
	if diff := gocmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s is not what the commands say; run make generate (-file +commands):\n%s", reference, diff)
	}
}

// describe writes a command and those below it, leaving out what cobra adds.
func describe(b *strings.Builder, c *cobra.Command) {
	fmt.Fprintf(b, "\n## %s\n\n%s\n", c.CommandPath(), cmp.Or(c.Long, c.Short+"."))
	if c.Runnable() {
		use := c.CommandPath()
		if c.HasAvailableLocalFlags() {
			use += " [flags]"
		}
		fmt.Fprintf(b, "\n```sh\n%s\n```\n", use)
	}
	if c.HasAvailableLocalFlags() {
		b.WriteString("\n| flag | type | default | meaning |\n|---|---|---|---|\n")
		c.LocalFlags().VisitAll(func(f *pflag.Flag) {
			if !f.Hidden {
				fmt.Fprintf(b, "| `--%s` | %s | %s | %s |\n", f.Name, f.Value.Type(), quoted(f.DefValue), strings.ReplaceAll(f.Usage, "|", `\|`))
			}
		})
	}
	for _, sub := range c.Commands() {
		if sub.IsAvailableCommand() {
			describe(b, sub)
		}
	}
}

func quoted(s string) string {
	if s == "" {
		return ""
	}
	return "`" + s + "`"
}
