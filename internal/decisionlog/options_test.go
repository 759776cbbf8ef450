package decisionlog

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/pflag"
)

func TestNotAllowed(t *testing.T) {
	var out bytes.Buffer
	l := newLog(t, func(o *Options) {
		fs := pflag.NewFlagSet("", pflag.ContinueOnError)
		o.AddFlags(fs)
		if err := fs.Parse([]string{"--decision-log-allowed=false"}); err != nil {
			t.Fatal(err)
		}
		o.Stdout = &out
	})
	l.Log(&Entry{ID: "a", Event: EventRequest, Verdict: Allow})
	l.Log(&Entry{ID: "d", Event: EventRequest, Verdict: Deny, Layer: LayerGrant})
	closed10s(t, l)
	if diff := cmp.Diff([]string{"d"}, read(t, &out).IDs); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestFlags: what cannot be a log is said before there is one, and without what may be
// a secret.
func TestFlags(t *testing.T) {
	dir := t.TempDir()
	empty := filepath.Join(dir, "empty")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		args []string
		want string
	}{
		"None":      {[]string{"--decision-log=none"}, ""},
		"Two":       {[]string{"--decision-log=stdout", "--decision-log=file:" + dir + "/a"}, ""},
		"Local":     {[]string{"--decision-log=http://127.0.0.1:1/x", "--decision-log-token-file="}, ""},
		"Nothing":   {[]string{"--decision-log="}, "stdout, file:PATH, https://HOST/PATH or none is expected"},
		"Twice":     {[]string{"--decision-log=stdout", "--decision-log=stdout"}, "it is named twice"},
		"Clear":     {[]string{"--decision-log=http://logs.example.com/canary?key=canary2"}, "in the clear"},
		"Password":  {[]string{"--decision-log=https://u:canary2@logs.example.com"}, "use a token file"},
		"Scheme":    {[]string{"--decision-log=ftp://u:canary2@logs.example.com"}, "is expected"},
		"NoFile":    {[]string{"--decision-log=file:"}, "is expected"},
		"Folder":    {[]string{"--decision-log=file:" + dir}, "no regular file"},
		"NoFolder":  {[]string{"--decision-log=file:" + dir + "/b/c"}, "no such file"},
		"Small":     {[]string{"--decision-log=file:" + dir + "/a", "--decision-log-file-size=1"}, "2 MiB at least"},
		"NoQueue":   {[]string{"--decision-log-queue=0"}, "no room"},
		"NoMemory":  {[]string{"--decision-log-queue-size=0"}, "no room"},
		"NoCA":      {[]string{"--decision-log=https://a", "--decision-log-ca-file=" + empty}, "no certificate"},
		"NoToken":   {[]string{"--decision-log=https://a", "--decision-log-token-file=" + empty}, "holds no token"},
		"NoTimeout": {[]string{"--decision-log=https://a", "--decision-log-timeout=0"}, "positive"},
	} {
		o := NewOptions()
		o.Metrics = prometheus.NewRegistry()
		fs := pflag.NewFlagSet("", pflag.ContinueOnError)
		o.AddFlags(fs)
		if err := fs.Parse(tc.args); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		l, err := New(*o)
		if err == nil {
			closed10s(t, l)
		}
		if (err == nil) != (tc.want == "") || err != nil && (!strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), "canary2")) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
