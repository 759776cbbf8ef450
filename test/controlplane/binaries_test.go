package controlplane

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"
)

// The versions said here, in progress messages and to Kubernetes' own programs, are those that are built.
func TestSourcesMatchTheToolModules(t *testing.T) {
	for name, source := range sources {
		module, err := toolModule(source.module)
		if err != nil {
			t.Fatal(err)
		}
		args := []string{"list", "-find", "-f", "{{.Module.Version}}", source.pkg}
		if of, ours := map[string]string{ // of ours there is no version
			Kubelet:           "k8s.io/cri-streaming",
			KonnectivityAgent: "sigs.k8s.io/apiserver-network-proxy",
			OCMServiceAccount: "open-cluster-management.io/managed-serviceaccount",
		}[name]; ours {
			args = []string{"list", "-m", "-f", "{{.Version}}", of}
		}
		cmd := exec.CommandContext(t.Context(), "go", args...)
		cmd.Dir = module
		cmd.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=")
		out, err := cmd.Output()
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got := strings.TrimSpace(string(out)); got != source.version {
			t.Errorf("%s: test/tools/%s/go.mod builds %s, build.go says %s", name, source.module, got, source.version)
		}
	}
}

func TestBinariesPrefersAssets(t *testing.T) {
	assets := t.TempDir()
	want := filepath.Join(assets, Kubectl)
	if err := os.WriteFile(want, nil, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("KUBEBUILDER_ASSETS", assets)
	got, err := Binaries(t.Context(), nil, Kubectl)
	if err != nil || got[Kubectl] != want {
		t.Errorf("got %q, %v, want %q", got[Kubectl], err, want)
	}
	if _, err := Binaries(t.Context(), nil, "kube-scheduler"); err == nil {
		t.Error("an unknown program: got no error")
	}
}

func TestLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sub", "lock")
	unlock, err := lock(t.Context(), io.Discard, path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := lock(ctx, io.Discard, path); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a lock held by another: got %v, want DeadlineExceeded", err)
	}
	unlock()
	again, err := lock(t.Context(), io.Discard, path)
	if err != nil {
		t.Fatal(err)
	}
	again()
}

// Equal files make an equal archive, so that an artifact's digest tells whether anything changed.
func TestPack(t *testing.T) {
	files := fstest.MapFS{
		"a.yaml":     {Data: []byte("a"), ModTime: time.Now()},
		"sub/b.yaml": {Data: []byte("b"), Mode: 0o600},
		".git/HEAD":  {Data: []byte("ref: refs/heads/main")},
	}
	first, err := pack(files)
	if err != nil {
		t.Fatal(err)
	}
	files[".git/HEAD"] = &fstest.MapFile{Data: []byte("another")}
	files["a.yaml"] = &fstest.MapFile{Data: []byte("a")}
	second, err := pack(files)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(first, second) {
		t.Error("times, modes or .git changed the archive")
	}
}
