package gateway_test

import (
	"context"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	"sigs.k8s.io/yaml"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
)

// Protocols by which kubectl streams: WebSocket if it is not told otherwise.
var protocols = map[string][]string{
	"WebSocket": nil,
	"SPDY":      {"KUBECTL_REMOTE_COMMAND_WEBSOCKETS=false", "KUBECTL_PORT_FORWARD_WEBSOCKETS=false"},
}

// TestKubectl: a plain kubectl with the member's URL at the gateway works for everything.
func TestKubectl(t *testing.T) {
	w := theWorld(t)
	alice := w.user(t, "alice", "payments-oncall", "developers", "lunch-group")
	g := grant("kubectl", "alice", []v1alpha1.ClusterName{east}, append(onPods(), rule("configmaps", "*"))...)
	g.Spec.Subjects = append(g.Spec.Subjects, v1alpha1.Subject{Kind: v1alpha1.GroupSubject, Name: "payments-oncall"})
	w.create(t, g)

	for _, way := range ways {
		t.Run(way.name, func(t *testing.T) {
			p := w.at(t, way.to(w, alice, east))
			p.can("get", "pods")
			p.can("get", "configmaps")
			t.Run("reads", func(t *testing.T) { testReads(t, p) })
			t.Run("writes", func(t *testing.T) { testWrites(t, p) })
			t.Run("logs", func(t *testing.T) {
				if got, want := p.does("", "logs", "api-0"), "api-0 line 1\napi-0 line 2\napi-0 line 3\n"; got != want {
					t.Errorf("got %q, want %q", got, want)
				}
				follow := p.starts("logs", "-f", "api-0")
				follow.sees("api-0 line 12")
			})
			for name, env := range protocols {
				t.Run(name, func(t *testing.T) { testStreams(t, w, p.with(env...)) })
			}
			t.Run("who am I", func(t *testing.T) { testWhoAmI(t, p) })
		})
	}

	t.Run("clusters that are hers", func(t *testing.T) {
		p := w.at(t, alice)
		p.can("get", "clusters.proxy.sallyport.dev", east)
		if got := strings.Fields(p.does("", "get", "clusters.proxy.sallyport.dev", "-o", "name")); !slices.Equal(got, []string{"cluster.proxy.sallyport.dev/" + east}) {
			t.Errorf("got %q, want east alone", got)
		}
		if got := p.does("", "get", "clusters.proxy.sallyport.dev"); !strings.Contains(got, "NAME") || !strings.Contains(got, "payments/kubectl") {
			t.Errorf("the table does not have the grant: %s", got)
		}
		if out, errOut, err := p.run("", "get", "clusters.proxy.sallyport.dev", west); err == nil || !strings.Contains(errOut, "NotFound") {
			t.Errorf("west is not hers: %s%s", out, errOut)
		}
	})
}

func testReads(t *testing.T, p *person) {
	if got := p.does("", "get", "pods"); !strings.Contains(got, "NAME") || !strings.Contains(got, "RESTARTS") || !strings.Contains(got, "vault-0") {
		t.Errorf("table: %s", got)
	}
	if got := p.does("", "get", "pod", "api-0", "-o", "yaml"); !strings.Contains(got, "image: registry.example/api-0:1") {
		t.Errorf("yaml: %s", got)
	}
	if got := p.does("", "auth", "can-i", "get", "pods"); got != "yes\n" {
		t.Errorf("can-i: %s", got)
	}
	p.starts("get", "pods", "-w").sees("vault-0")
}

func testWrites(t *testing.T, p *person) {
	written := filepath.Join(t.TempDir(), "it.yaml")
	if err := os.WriteFile(written, []byte("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: notes}\ndata: {a: b}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	steps := []struct {
		args []string
		want string
	}{
		{[]string{"create", "-f", written}, "configmap/notes created"},
		{[]string{"apply", "--server-side", "--force-conflicts", "-f", written}, "configmap/notes serverside-applied"},
		{[]string{"patch", "configmap", "notes", "-p", `{"data":{"a":"c"}}`}, "configmap/notes patched"},
		{[]string{"get", "configmap", "notes", "-o", "jsonpath={.data.a}"}, "c"},
		{[]string{"annotate", "configmap", "notes", "by=alice"}, "configmap/notes annotated"},
		{[]string{"delete", "configmap", "notes"}, `configmap "notes" deleted`},
	}
	for _, s := range steps {
		if got := p.does("", s.args...); !strings.HasPrefix(got, s.want) {
			t.Errorf("%q: got %q, want %q", s.args, got, s.want)
		}
	}
}

func testStreams(t *testing.T, w *world, p *person) {
	if got := p.does("hello", "exec", "-i", "api-0", "--", "cat"); got != "hello" {
		t.Errorf("exec: %q", got)
	}
	if _, errOut, err := p.run("", "exec", "api-0", "--", "sh", "-c", "echo no >&2; exit 7"); err == nil || !strings.Contains(err.Error(), "status 7") || !strings.Contains(errOut, "no\n") {
		t.Errorf("exec that fails: %v: %s", err, errOut)
	}
	if got := p.does("to you\n", "attach", "-i", "api-0"); !strings.Contains(got, "attached to api-0") || !strings.Contains(got, "to you") {
		t.Errorf("attach: %q", got)
	}
	there := w.fleet.KubeletDir(w.fleet.Member(east))
	local := filepath.Join(t.TempDir(), "local")
	want := strings.Repeat("0123456789abcdef", 1<<16) // 1 MiB
	if err := os.WriteFile(local, []byte(want), 0o600); err != nil {
		t.Fatal(err)
	}
	p.does("", "cp", local, "api-0:"+filepath.Join(there, "copied"))
	p.does("", "cp", "api-0:"+filepath.Join(there, "copied"), local+"-back")
	if got, err := os.ReadFile(local + "-back"); err != nil || string(got) != want {
		t.Errorf("cp there and back: %d bytes, %v", len(got), err)
	}
	if conn := forwarded(t, p.starts("port-forward", "api-0", ":8080")); conn != nil {
		echoes(t, conn, "ping")
	}
}

// forwarded dials what kubectl port-forward says that it listens at.
func forwarded(t *testing.T, r *running) net.Conn {
	t.Helper()
	_, address, _ := strings.Cut(r.sees("127.0.0.1:"), "from ")
	address, _, _ = strings.Cut(address, " ")
	var conn net.Conn
	until(t, "dial "+address, func(ctx context.Context) (said string) {
		var err error
		if conn, err = (&net.Dialer{}).DialContext(ctx, "tcp", address); err != nil {
			return err.Error()
		}
		return ""
	})
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// echoes checks that what is sent comes back.
func echoes(t *testing.T, conn net.Conn, what string) {
	t.Helper()
	if _, err := io.WriteString(conn, what); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(what))
	if _, err := io.ReadFull(conn, got); err != nil || string(got) != what {
		t.Errorf("port-forward: %q, %v", got, err)
	}
}

// testWhoAmI: the member sees her, her UID and extra, and of her groups those that are
// granted there.
func testWhoAmI(t *testing.T, p *person) {
	var who authenticationv1.SelfSubjectReview
	if err := yaml.Unmarshal([]byte(p.does("", "auth", "whoami", "-o", "yaml")), &who); err != nil {
		t.Fatal(err)
	}
	got := who.Status.UserInfo
	slices.Sort(got.Groups)
	if want := []string{"payments-oncall", "system:authenticated"}; got.Username != "alice" || !slices.Equal(got.Groups, want) {
		t.Errorf("the member sees %+v, want alice in %q", got, want)
	}
}
