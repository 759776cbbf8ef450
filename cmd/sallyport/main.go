// Command sallyport is the controller and the tools of Sallyport in one binary.
// Called kubectl-sallyport it is a plugin of kubectl.
package main

import (
	"context"
	"errors"
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
	"github.com/sallyport-dev/sallyport/internal/cli/replay"
)

// version is set by the linker.
var version = "unknown"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := command(os.Args[0]).ExecuteContext(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "error: "+err.Error())
		os.Exit(exitCode(err))
	}
}

// exitCode of an error: 1, unless it has its own.
func exitCode(err error) int {
	var own interface{ ExitCode() int }
	if errors.As(err, &own) {
		return own.ExitCode()
	}
	return 1
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
	root.AddCommand(lint.Command(), guardrail.Command(), bundle.Command(), replay.Command(), controllerCommand(), gatewayCommand(), authorizerCommand(), versionCommand())
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
