package source

import (
	"context"
	"encoding/pem"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestCheckout(t *testing.T) {
	r := newRepository(t)
	first := r.commit("first\n\nbody", map[string]any{"grants/a.yaml": "1"})
	remote, err := NewRemote(r.options())
	r.must(err)

	got, err := remote.Checkout(t.Context())
	r.must(err)
	want := Commit{
		Revision: "main@sha1:" + first,
		SHA:      first,
		Author:   "Ada Lovelace <ada@example.org>",
		Message:  "first",
		Time:     time.Unix(1_700_000_000, 0).UTC(),
	}
	if diff := cmp.Diff(want, got.Commit); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}

	second := r.commit("second", map[string]any{"grants/a.yaml": "2"})
	expectFile(t, remote, second, "2")

	r.force(first)
	third := r.commit("third", map[string]any{"grants/a.yaml": "3"})
	expectFile(t, remote, third, "3")
}

func expectFile(t *testing.T, remote *Remote, sha, content string) {
	t.Helper()
	head, err := remote.Head(t.Context())
	if err != nil || head != sha {
		t.Fatalf("got head %s and error %v, want %s", head, err, sha)
	}
	c, err := remote.Checkout(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	got, err := fs.ReadFile(c.Files, "grants/a.yaml")
	if err != nil || string(got) != content || c.SHA != sha {
		t.Errorf("got %q at %s and error %v, want %q at %s", got, c.SHA, err, content, sha)
	}
}

func TestCheckoutBare(t *testing.T) {
	r := newRepository(t)
	sha := r.commit("first", map[string]any{"grants/a.yaml": "1"})
	o := r.options()
	o.URL = filepath.Join(r.dir, ".git") // what a bare repository consists of
	remote, err := NewRemote(o)
	r.must(err)
	expectFile(t, remote, sha, "1")
}

func TestCheckoutErrors(t *testing.T) {
	r := newRepository(t)
	r.commit("first", map[string]any{"a": "1"})
	for name, tc := range map[string]struct {
		reason string
		change func(*Options)
		want   string
	}{
		"NoBranch":     {"A branch that is gone is no empty one.", func(o *Options) { o.Branch = "gone" }, `cannot fetch branch "gone": the repository has no such branch`},
		"NoRepository": {"A folder is no repository.", func(o *Options) { o.URL = "file://" + t.TempDir() }, "the repository does not exist"},
		"NoServer":     {"The text has no port that changes.", func(o *Options) { o.URL = "https://127.0.0.1:1/x" }, "cannot dial tcp: connect: connection refused"},
		"NoAuth":       {"A Secret that is not mounted is no anonymous access.", func(o *Options) { o.AuthDir = "gone" }, "cannot read auth folder"},
	} {
		t.Run(name, func(t *testing.T) {
			o := r.options()
			tc.change(&o)
			remote, err := NewRemote(o)
			r.must(err)
			_, err = remote.Checkout(t.Context())
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%s\ngot error %v, want one with %q", tc.reason, err, tc.want)
			}
		})
	}
}

// gitServer serves a repository as Git's own HTTP backend does, to one user.
func gitServer(t *testing.T, r *repository, authorized func(*http.Request) bool) (url string, ca []byte) {
	t.Helper()
	git, err := exec.LookPath("git")
	if err != nil {
		t.Skip("no git to serve with")
	}
	backend := &cgi.Handler{
		Path: git, Args: []string{"http-backend"},
		Env: []string{"GIT_PROJECT_ROOT=" + r.dir, "GIT_HTTP_EXPORT_ALL=1", "GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=safe.directory", "GIT_CONFIG_VALUE_0=*"},
	}
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if !authorized(req) {
			w.WriteHeader(http.StatusUnauthorized)
			// The worst of servers: it sends back what it was sent.
			fmt.Fprintf(w, "bad credentials: %s", req.Header.Get("Authorization"))
			return
		}
		backend.ServeHTTP(w, req)
	}))
	t.Cleanup(server.Close)
	ca = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	return server.URL + "/.git", ca
}

// authDir writes an auth folder.
func authDir(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestCheckoutHTTPS(t *testing.T) {
	r := newRepository(t)
	first := r.commit("first", map[string]any{"grants/a.yaml": "1", "large": strings.Repeat("x", 1<<20)})
	url, ca := gitServer(t, r, func(req *http.Request) bool {
		user, password, _ := req.BasicAuth()
		return user == "ada" && password == "hunter22" || req.Header.Get("Authorization") == "Bearer tok-en-22"
	})
	options := func(auth map[string]string) Options {
		o := r.options()
		o.URL, o.AuthDir = url, authDir(t, auth)
		return o
	}

	t.Run("Password", func(t *testing.T) {
		remote, err := NewRemote(options(map[string]string{"username": "ada\n", "password": "hunter22\n", "ca.crt": string(ca)}))
		r.must(err)
		expectFile(t, remote, first, "1")
		second := r.commit("second", map[string]any{"grants/a.yaml": "2"})
		expectFile(t, remote, second, "2")
		r.force(first)
		third := r.commit("third", map[string]any{"grants/a.yaml": "3"})
		expectFile(t, remote, third, "3")
	})
	t.Run("Token", func(t *testing.T) {
		remote, err := NewRemote(options(map[string]string{"bearerToken": "tok-en-22", "ca.crt": string(ca)}))
		r.must(err)
		if _, err := remote.Checkout(t.Context()); err != nil {
			t.Error(err)
		}
	})
	t.Run("TooLarge", func(t *testing.T) {
		remote, err := NewRemote(options(map[string]string{"bearerToken": "tok-en-22", "ca.crt": string(ca)}))
		r.must(err)
		remote.limits.unpacked = 1 << 20
		_, err = remote.Checkout(t.Context())
		if err == nil || !strings.Contains(err.Error(), "more than the 1048576 bytes that it may have unpacked") {
			t.Errorf("got error %v", err)
		}
		remote.limits.pack = 100
		_, err = remote.Checkout(t.Context())
		if err == nil || !strings.Contains(err.Error(), "larger than the 100 bytes that are fetched") {
			t.Errorf("got error %v", err)
		}
	})
	for name, tc := range map[string]struct {
		reason string
		auth   map[string]string
		want   string
	}{
		"WrongPassword": {"No secret is told, even when the server sends it back.", map[string]string{"username": "ada", "password": "wrong-s3cret", "ca.crt": string(ca)}, "the server requires other credentials"},
		"WrongToken":    {"Nor is a token.", map[string]string{"bearerToken": "wrong-s3cret", "ca.crt": string(ca)}, "the server requires other credentials"},
		"Anonymous":     {"An empty folder has no credentials.", map[string]string{"ca.crt": string(ca)}, "the server requires other credentials"},
		"UnknownCA":     {"A server is known by its certificate.", map[string]string{"bearerToken": "wrong-s3cret"}, "certificate signed by unknown authority"},
		"BadCA":         {"A broken ca.crt is not the same as none.", map[string]string{"ca.crt": "wrong-s3cret"}, "holds no certificate"},
		"Both":          {"Which one is meant cannot be known.", map[string]string{"bearerToken": "wrong-s3cret", "password": "wrong-s3cret"}, "leave one"},
		"NoPassword":    {"A user alone is a mistake.", map[string]string{"username": "wrong-s3cret"}, "has a username but no password"},
	} {
		t.Run(name, func(t *testing.T) {
			remote, err := NewRemote(options(tc.auth))
			r.must(err)
			_, err = remote.Head(t.Context())
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Fatalf("%s\ngot error %v, want one with %q", tc.reason, err, tc.want)
			}
			if strings.Contains(fmt.Sprintf("%+v", err), "s3cret") {
				t.Errorf("%s\nthe error tells a secret: %v", tc.reason, err)
			}
		})
	}
}

func TestRedirects(t *testing.T) {
	var seen string
	plain := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, req *http.Request) { seen = req.Header.Get("Authorization") + "!" }))
	defer plain.Close()
	r := newRepository(t)
	server := httptest.NewTLSServer(http.RedirectHandler(plain.URL+"/info/refs", http.StatusFound))
	defer server.Close()
	o := r.options()
	o.URL = server.URL + "/x"
	o.AuthDir = authDir(t, map[string]string{
		"bearerToken": "tok-en-22",
		"ca.crt":      string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})),
	})
	remote, err := NewRemote(o)
	r.must(err)
	if _, err := remote.Head(t.Context()); err == nil || seen != "" {
		t.Errorf("a redirect away from https was followed: error %v, sent %q", err, seen)
	}
}

func TestCredentialsAreNotShown(t *testing.T) {
	creds := credentials{"username": []byte("ada"), "password": []byte("s3cret/+22\n"), "bearerToken": []byte("tok-en-22")}
	for _, text := range []string{
		fmt.Sprint(creds), fmt.Sprintf("%v %+v %#v %s", creds, creds, creds, creds),
		creds.redact("Basic YWRhOnMzY3JldC8rMjI= s3cret/+22 s3cret%2F%2B22 Bearer tok-en-22"),
	} {
		for _, secret := range []string{"s3cret", "YWRhOnMzY3JldC8rMjI=", "tok-en-22"} {
			if strings.Contains(text, secret) {
				t.Errorf("%q is in %q", secret, text)
			}
		}
	}
}

func TestFetchThatHangs(t *testing.T) {
	r := newRepository(t)
	r.commit("first", map[string]any{"a": "1"})
	remote, err := NewRemote(r.options())
	r.must(err)
	remote.options.Timeout = 10 * time.Millisecond
	release := make(chan struct{})
	hang := func(context.Context, credentials) (string, error) { <-release; return "", nil }

	_, err = fetch(t.Context(), remote, hang)
	if err == nil || !strings.Contains(err.Error(), "does not answer in time") {
		t.Errorf("got error %v, want a timeout", err)
	}
	_, err = fetch(t.Context(), remote, hang)
	if err == nil || !strings.Contains(err.Error(), "an earlier fetch still hangs") {
		t.Errorf("got error %v: hung fetches must not add up", err)
	}
	close(release)
	for range 1000 {
		if _, err = remote.Head(t.Context()); err == nil {
			return
		}
		time.Sleep(time.Millisecond)
	}
	t.Errorf("still blocked: %v", err)
}
