// Command sallyport is the controller and the tools of Sallyport in one binary.
// Called kubectl-sallyport it is a plugin of kubectl.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/sallyport-dev/sallyport/internal/cli/bundle"
	"github.com/sallyport-dev/sallyport/internal/cli/guardrail"
	"github.com/sallyport-dev/sallyport/internal/cli/lint"
)

// version is set by the linker.
var version = "unknown"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := command(os.Args[0]).ExecuteContext(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "error: "+err.Error())
		os.Exit(1)
	}
}

func command(program string) *cobra.Command {
	name := "sallyport"
	if strings.HasPrefix(filepath.Base(program), "kubectl-") {
		name = "kubectl sallyport"
	}
	root := &cobra.Command{
		Use:           "sallyport",
		Annotations:   map[string]string{cobra.CommandDisplayNameAnnotation: name},
		Short:         "GitOps, policy-driven access to fleets of Kubernetes clusters",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.AddCommand(lint.Command(), guardrail.Command(), bundle.Command(), controllerCommand(), gatewayCommand(), versionCommand())
	return root
}

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintln(cmd.OutOrStdout(), version)
			return err
		},
	}
}
