package controlplane

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// parentDir tells the test binary to be the parent of a fleet: see TestKilledParent.
const parentDir = "SALLYPORT_TEST_PARENT_DIR"

// A fleet dies with its parent, even if that is killed, and one that is detached does not, and can be found again.
func TestKilledParent(t *testing.T) {
	if dir := os.Getenv(parentDir); dir != "" {
		beParent(t, dir)
	}
	if testing.Short() {
		t.Skip("starts control planes")
	}
	for name, left := range map[string]int{"Attached": 0, "Detached": 2} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			parent := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestKilledParent$", "-test.v")
			parent.Env = append(os.Environ(), parentDir+"="+dir, "DETACH="+name)
			parent.Stderr = os.Stderr
			out, err := parent.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := parent.Start(); err != nil {
				t.Fatal(err)
			}
			lines := bufio.NewScanner(out)
			for lines.Scan() && !strings.HasPrefix(lines.Text(), "the fleet runs") {
			}
			if n, err := Running(dir); err != nil || n != 2 {
				t.Errorf("while the parent lives: got %d processes, %v, want etcd and the hub", n, err)
			}
			if err := parent.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			_ = parent.Wait() // killed
			eventually(t, fmt.Sprintf("%d processes are left", left), func(context.Context) (bool, error) {
				n, err := Running(dir)
				return n == left, err
			})
			if _, err := Start(t.Context(), Options{Dir: dir}); err == nil {
				t.Error("a second fleet in the same directory: got no error")
			}

			began := time.Now()
			if err := StopDetached(dir); err != nil {
				t.Error(err)
			}
			t.Logf("stopped in %s", time.Since(began).Round(time.Millisecond))
			if n, err := Running(dir); err != nil || n != 0 {
				t.Errorf("after StopDetached: got %d processes, %v, want none", n, err)
			}
		})
	}
}

// beParent starts a fleet and waits to be killed.
func beParent(t *testing.T, dir string) {
	if _, err := Start(t.Context(), Options{Dir: dir, Detach: os.Getenv("DETACH") == "Detached", Log: os.Stderr}); err != nil {
		t.Fatal(err)
	}
	fmt.Println("the fleet runs")
	<-t.Context().Done()
}

// A pid that has passed to another process is not stopped.
func TestStopDetachedSparesOthers(t *testing.T) {
	dir := t.TempDir()
	other := exec.CommandContext(t.Context(), "sleep", "60")
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	line := fmt.Sprintf("%d %s etcd\n", other.Process.Pid, "an-earlier-time")
	if err := os.WriteFile(dir+"/"+pidFile, []byte(line), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := StopDetached(dir); err != nil {
		t.Error(err)
	}
	if startTime(other.Process.Pid) == "" {
		t.Error("StopDetached ended a process that it did not start")
	}
	if err := other.Process.Kill(); err != nil {
		t.Error(err)
	}
	_ = other.Wait()
}
