package bundle

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/plumbing/object"
	"github.com/rogpeppe/go-internal/testscript"

	packed "github.com/sallyport-dev/sallyport/internal/bundle"
	"github.com/sallyport-dev/sallyport/test/controlplane"
)

var update = flag.Bool("update", false, "write the outputs that the scripts compare with")

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"sallyport": func() {
		c := Command()
		c.SilenceUsage, c.SilenceErrors = true, true
		c.SetArgs(os.Args[2:]) // sallyport bundle …
		if err := c.Execute(); err != nil {
			fmt.Fprintln(os.Stderr, "error: "+err.Error())
			os.Exit(1)
		}
	}})
}

// TestScripts runs the commands, and the opa that people have beside them.
func TestScripts(t *testing.T) {
	programs, err := controlplane.Binaries(t.Context(), os.Stderr, controlplane.OPA)
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script", UpdateScripts: *update,
		Setup: func(e *testscript.Env) error {
			e.Setenv("PATH", e.Getenv("PATH")+string(os.PathListSeparator)+filepath.Dir(programs[controlplane.OPA]))
			for _, name := range []string{"release", "other"} {
				if err := writeKeys(filepath.Join(e.WorkDir, name)); err != nil {
					return err
				}
			}
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			// digest FILE NAME sets a variable to the digest of a bundle.
			"digest": func(ts *testscript.TestScript, _ bool, args []string) {
				ts.Setenv(args[1], packed.Digest([]byte(ts.ReadFile(args[0]))))
			},
			// commit SECONDS NAME commits everything at an instant, and sets a variable to
			// the beginning of the commit.
			"commit": func(ts *testscript.TestScript, _ bool, args []string) {
				seconds, err := time.ParseDuration(args[0] + "s")
				ts.Check(err)
				hash, err := commitAll(ts.MkAbs("."), time.Unix(0, 0).Add(seconds))
				ts.Check(err)
				ts.Setenv(args[1], hash[:12])
			},
		},
	})
}

// writeKeys writes NAME.pem and NAME.pub.pem.
func writeKeys(name string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return err
	}
	if err := os.WriteFile(name+".pem", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), 0o600); err != nil {
		return err
	}
	return os.WriteFile(name+".pub.pem", pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public}), 0o600)
}

func commitAll(dir string, at time.Time) (string, error) {
	repository, err := git.PlainInit(dir, false)
	if err != nil {
		return "", err
	}
	work, err := repository.Worktree()
	if err != nil {
		return "", err
	}
	if err := work.AddGlob("."); err != nil {
		return "", err
	}
	hash, err := work.Commit("policies", &git.CommitOptions{Author: &object.Signature{Name: "a", Email: "a@example.com", When: at}})
	return hash.String(), err
}
