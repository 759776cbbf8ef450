package replay

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/plumbing/object"
	"github.com/rogpeppe/go-internal/testscript"
	"sigs.k8s.io/yaml"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/internal/bundle"
)

var update = flag.Bool("update", false, "write the outputs that the scripts compare with")

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"sallyport": func() {
		c := Command()
		c.SilenceUsage, c.SilenceErrors = true, true
		c.SetArgs(os.Args[2:]) // sallyport replay …
		if err := c.Execute(); err != nil {
			fmt.Fprintln(os.Stderr, "error: "+err.Error())
			var coded interface{ ExitCode() int }
			if errors.As(err, &coded) {
				os.Exit(coded.ExitCode())
			}
			os.Exit(1)
		}
	}})
}

// TestScripts has the commands exits STATUS ARGUMENTS, which runs sallyport replay and
// compares the exit code; commit FOLDER MESSAGE, which commits all that is there; and
// pack GUARDRAIL ARCHIVE KEY, which signs a bundle and writes the public key.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script", UpdateScripts: *update,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"exits": exits, "commit": commit, "pack": pack},
	})
}

func exits(ts *testscript.TestScript, _ bool, args []string) {
	err := ts.Exec("sallyport", append([]string{"replay"}, args[1:]...)...)
	code := 0
	var failed interface{ ExitCode() int }
	if errors.As(err, &failed) {
		code = failed.ExitCode()
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if fmt.Sprint(code) != args[0] {
		ts.Fatalf("the exit code is %d, and not %s", code, args[0])
	}
}

func commit(ts *testscript.TestScript, _ bool, args []string) {
	folder := ts.MkAbs(args[0])
	repository, err := git.PlainInit(folder, false)
	if errors.Is(err, git.ErrRepositoryAlreadyExists) {
		repository, err = git.PlainOpen(folder)
	}
	ts.Check(err)
	work, err := repository.Worktree()
	ts.Check(err)
	ts.Check(work.AddWithOptions(&git.AddOptions{All: true}))
	// The same author at the same instant: so that the hash is the same each time.
	author := &object.Signature{Name: "Ann", Email: "ann@example.com", When: time.Unix(1767600000, 0).UTC()}
	_, err = work.Commit(args[1], &git.CommitOptions{Author: author, Committer: author})
	ts.Check(err)
}

func pack(ts *testscript.TestScript, _ bool, args []string) {
	var g v1alpha1.Guardrail
	ts.Check(yaml.UnmarshalStrict([]byte(ts.ReadFile(args[0])), &g))
	revision, err := bundle.ParseRevision("1")
	ts.Check(err)
	archive, err := bundle.Build(bundle.Manifest{Name: "library", Revision: revision, Guardrails: map[string]v1alpha1.GuardrailSpec{g.Name: g.Spec}})
	ts.Check(err)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	ts.Check(err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	ts.Check(err)
	public, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	ts.Check(err)
	signed, err := bundle.Sign(archive, bundle.Signer{Key: string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})), KeyID: "k", Algorithm: "ES256"})
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), signed, 0o600))
	ts.Check(os.WriteFile(ts.MkAbs(args[2]), pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public}), 0o600))
}
