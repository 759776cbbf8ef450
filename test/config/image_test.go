package config_test

import (
	"debug/elf"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestDockerfile checks what can be checked without a container engine: the last
// stage holds nothing but files, and runs them as nobody.
func TestDockerfile(t *testing.T) {
	stages := strings.Split("\n"+dockerfile(t), "\nFROM ")
	last := stages[len(stages)-1]
	var got []string
	for line := range strings.Lines(last) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			got = append(got, line)
		}
	}
	want := []string{
		"scratch",
		"COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt",
		"COPY --from=build /sallyport /sallyport",
		"USER 65532:65532",
		`ENTRYPOINT ["/sallyport"]`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("last stage (-want +got):\n%s", diff)
	}
}

// TestImageBinary runs the very build command of the Dockerfile, on what the
// Dockerfile copies, and looks whether the binary could start in an empty image.
func TestImageBinary(t *testing.T) {
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	if os.Getenv("CGO_ENABLED") != "0" || !strings.Contains(os.Getenv("GOFLAGS"), "-trimpath") {
		t.Skip("would compile everything once more, with other flags: make test has them set")
	}
	_, command, found := strings.Cut(dockerfile(t), "RUN CGO_ENABLED=0")
	if !found {
		t.Fatal("the Dockerfile does not build with CGO_ENABLED=0")
	}
	command, _, _ = strings.Cut(command, "\n\n")

	// Only what is copied, so that a folder that is missing there is missed here.
	source := t.TempDir()
	copied := 0
	for _, line := range regexp.MustCompile(`(?m)^COPY ([^-].*) \S+$`).FindAllStringSubmatch(dockerfile(t), -1) {
		for _, name := range strings.Fields(line[1]) {
			if err := copyInto(source, root, name); err != nil {
				t.Fatal(err)
			}
			copied++
		}
	}
	if copied == 0 {
		t.Fatal("the Dockerfile copies nothing")
	}
	binary := filepath.Join(t.TempDir(), "sallyport")
	build := exec.CommandContext(t.Context(), "sh", "-c", "CGO_ENABLED=0"+strings.Replace(command, "-o /sallyport", "-o "+binary, 1))
	build.Dir = source
	build.Env = append(os.Environ(), "VERSION=v0.0.0-test", "TARGETOS=linux", "TARGETARCH=amd64", "PWD="+source)
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}

	file, err := elf.Open(binary)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for _, segment := range file.Progs {
		if segment.Type == elf.PT_INTERP || segment.Type == elf.PT_DYNAMIC {
			t.Errorf("the binary is not static: it has a segment %s", segment.Type)
		}
	}
	content, err := os.ReadFile(binary)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(content), source) {
		t.Errorf("the binary names the folder that it was built in")
	}
}

func copyInto(target, root, name string) error {
	from, to := filepath.Join(root, name), filepath.Join(target, name)
	if content, err := os.ReadFile(from); err == nil {
		return os.WriteFile(to, content, 0o600)
	}
	return os.CopyFS(to, os.DirFS(from))
}

func dockerfile(t *testing.T) string {
	t.Helper()
	content, err := os.ReadFile("../../Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}
