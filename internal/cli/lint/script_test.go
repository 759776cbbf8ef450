package lint

import (
	"flag"
	"fmt"
	"os"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

var update = flag.Bool("update", false, "write the outputs that the scripts compare with")

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"sallyport": func() {
		c := Command()
		c.SilenceUsage, c.SilenceErrors = true, true
		c.SetArgs(os.Args[2:]) // sallyport lint …
		if err := c.Execute(); err != nil {
			fmt.Fprintln(os.Stderr, "error: "+err.Error())
			os.Exit(1)
		}
	}})
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{Dir: "testdata/script", UpdateScripts: *update})
}
