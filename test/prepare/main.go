// Command prepare downloads or builds the named programs that the end-to-end tests
// run, and shows its progress. "go test" shows nothing until a package is done,
// which is long when it begins with a build of Kubernetes.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"

	"github.com/sallyport-dev/sallyport/test/controlplane"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(names []string) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	_, err := controlplane.Binaries(ctx, os.Stderr, names...)
	return err
}
