package controlplane

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestKubelet: real kubectl and kube-apiserver, a stand-in for the kubelet.
func TestKubelet(t *testing.T) {
	fleet := ForTest(t, Options{})
	if err := fleet.StartKubelet(t.Context(), fleet.Hub); err != nil {
		t.Fatal(err)
	}
	if err := fleet.Hub.RunPod(t.Context(), "payments", "api-0"); err != nil {
		t.Fatal(err)
	}
	programs, err := Binaries(t.Context(), os.Stderr, Kubectl)
	if err != nil {
		t.Fatal(err)
	}
	kubectl := func(in string, args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), programs[Kubectl], append([]string{"--kubeconfig=" + fleet.Hub.Kubeconfig(), "-n", "payments"}, args...)...)
		cmd.Stdin = strings.NewReader(in)
		var errOut bytes.Buffer
		cmd.Stderr = &errOut
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("kubectl %v: %v: %s", args, err, errOut.String())
		}
		return string(out)
	}
	if got, want := kubectl("", "logs", "api-0"), "api-0 line 1\napi-0 line 2\napi-0 line 3\n"; got != want {
		t.Errorf("logs: %q, want %q", got, want)
	}
	if got := kubectl("hello", "exec", "-i", "api-0", "--", "cat"); got != "hello" {
		t.Errorf("exec: %q", got)
	}
	local := filepath.Join(t.TempDir(), "there")
	if err := os.WriteFile(local, []byte("copied"), 0o600); err != nil {
		t.Fatal(err)
	}
	kubectl("", "cp", local, "api-0:"+filepath.Join(fleet.KubeletDir(fleet.Hub), "here"))
	if got, err := os.ReadFile(filepath.Join(fleet.KubeletDir(fleet.Hub), "here")); err != nil || string(got) != "copied" {
		t.Errorf("cp: %q, %v", got, err)
	}
}
