package rego_test

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"github.com/sallyport-dev/sallyport/internal/policy/rego"
)

// inNetwork tells the child of TestNetwork that it is one.
const inNetwork = "SALLYPORT_TEST_NETWORK"

// TestNetwork: S20. In a network namespace of its own, every policy of the corpus
// is evaluated, the hostile ones too, and not one packet is sent. The namespace has
// a loopback interface that is up, so that a packet would be counted.
func TestNetwork(t *testing.T) {
	if os.Getenv(inNetwork) != "" {
		network(t)
		return
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestNetwork$", "-test.v")
	cmd.Env = append(os.Environ(), inNetwork+"=1")
	run := func(attr *syscall.SysProcAttr) ([]byte, error) {
		c := *cmd
		c.SysProcAttr = attr
		return c.CombinedOutput()
	}
	out, err := run(&syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET})
	if errors.Is(err, syscall.EPERM) {
		out, err = run(&syscall.SysProcAttr{
			Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET,
			UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
		})
	}
	if errors.Is(err, syscall.EPERM) {
		t.Fatalf("this test needs a network namespace: run it as root, or allow user namespaces: %v", err)
	}
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if !bytes.Contains(out, []byte("--- PASS: TestNetwork")) {
		t.Errorf("the child did not run:\n%s", out)
	}
}

func network(t *testing.T) {
	up(t)
	if n := packets(t); n != 0 {
		t.Fatalf("%d packets before", n)
	}
	for name, tc := range neverCompiled {
		if _, errs := rego.Compile(spec, rego.Policy{Modules: map[string]string{"p.rego": "package p\n\n" + tc.source}, Main: "p.rego"}, rego.Options{}); len(errs) == 0 {
			t.Errorf("%s compiles", name)
		}
	}
	for name, tc := range cutOff {
		c := compile(t, "package p\n\n"+tc.source, rego.Options{Deadline: deadlineFor(tc.err)})
		if _, err := c.Check(grantInput()); err == nil {
			t.Errorf("%s is not refused", name)
		}
	}
	for _, in := range []string{"input.version", "rbac.allows(input.access[0].rules[0], \"get\", \"\", \"pods\")"} {
		source := "package p\n\ndeny contains \"a\" if " + in + "\n"
		if strings.Contains(in, "rbac") {
			source = "package p\n\nimport data.sallyport.rbac\n\ndeny contains \"a\" if " + in + "\n"
		}
		if got, err := compile(t, source, rego.Options{}).Check(grantInput()); err != nil || len(got) != 1 {
			t.Errorf("%v, %v", got, err)
		}
	}
	if n := packets(t); n != 0 {
		t.Errorf("%d packets", n)
	}
	if s := sockets(t); len(s) != 0 {
		t.Errorf("sockets %q", s)
	}
	// And the count counts.
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_DGRAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(fd)
	if err := syscall.Sendto(fd, []byte("x"), 0, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}, Port: 9}); err != nil {
		t.Fatal(err)
	}
	if packets(t) == 0 || len(sockets(t)) == 0 {
		t.Error("a packet is not counted")
	}
}

// up brings the loopback interface up.
func up(t *testing.T) {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_DGRAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(fd)
	if err := loopbackUp(fd); err != nil {
		t.Fatal(err)
	}
}

// packets that the interfaces of the namespace have received and sent.
func packets(t *testing.T) (n int) {
	t.Helper()
	raw, err := os.ReadFile("/proc/self/net/dev")
	if err != nil {
		t.Fatal(err)
	}
	interfaces := 0
	for line := range strings.Lines(string(raw)) {
		name, counts, ok := strings.Cut(line, ":")
		if !ok {
			continue
		}
		interfaces++
		f := strings.Fields(counts)
		for _, i := range []int{1, 9} {
			c, err := strconv.Atoi(f[i])
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			n += c
		}
	}
	if interfaces == 0 {
		t.Fatal("there is no interface to count at")
	}
	return n
}

// sockets that the process has open.
func sockets(t *testing.T) (out []string) {
	t.Helper()
	files, err := filepath.Glob("/proc/self/fd/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if to, err := os.Readlink(f); err == nil && strings.HasPrefix(to, "socket:") {
			out = append(out, to)
		}
	}
	return out
}

// loopbackUp sets IFF_UP of lo, as ip link set lo up does.
func loopbackUp(fd int) error {
	request := struct {
		name  [16]byte
		flags uint16
		rest  [22]byte
	}{flags: syscall.IFF_UP}
	copy(request.name[:], "lo")
	if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, uintptr(fd), syscall.SIOCSIFFLAGS, uintptr(unsafe.Pointer(&request))); errno != 0 {
		return errno
	}
	return nil
}
