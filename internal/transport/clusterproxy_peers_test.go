//go:build peers

package transport

import (
	"bufio"
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/test/controlplane"
)

// behind is a fleet whose members are reached through konnectivity.
type behind struct {
	*controlplane.Fleet
	*controlplane.Konnectivity
	members *Members
	secrets map[string]*corev1.Secret // of their routes
	proxy   *ClusterProxy
}

func startBehind(t testing.TB, names ...string) *behind {
	t.Helper()
	f := controlplane.ForTest(t, controlplane.Options{Members: names})
	k, err := f.StartKonnectivity(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	b := &behind{Fleet: f, Konnectivity: k, secrets: map[string]*corev1.Secret{}}
	b.proxy = &ClusterProxy{Address: k.Address, CAFile: k.CAFile, CertFile: k.CertFile, KeyFile: k.KeyFile}
	if err := b.proxy.Validate(); err != nil {
		t.Fatal(err)
	}
	b.members = NewMembers("sallyport-gateway", MembersOptions{Tunnel: b.proxy.Dial})
	for _, name := range names {
		if err := k.StartAgent(t.Context(), name); err != nil {
			t.Fatal(err)
		}
		b.secrets[name] = b.route(t, name)
		set(t, b.members, b.secrets[name])
	}
	return b
}

// route to a member, as the controller writes it for one with cluster-proxy.
func (b *behind) route(t testing.TB, name string) *corev1.Secret {
	t.Helper()
	s := impersonated(t, b.Member(name))
	s.Data[v1alpha1.RouteServer] = []byte(b.URL(name))
	s.Data[v1alpha1.RouteServerName] = []byte("kubernetes.default.svc")
	s.Data[v1alpha1.RouteVia] = []byte(v1alpha1.RouteViaClusterProxy)
	return s
}

// get a path of a member as alice.
func (b *behind) get(ctx context.Context, name, path string) (*http.Response, error) {
	r, err := b.members.Route(name)
	if err != nil {
		return nil, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, r.URL.String()+path, nil)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Impersonate-User", "alice")
	return r.Transport.RoundTrip(request)
}

// answers is nil if the member says that it is alice who asks.
func (b *behind) answers(ctx context.Context, name string) error {
	resp, err := b.get(ctx, name, "/api/v1/namespaces/kube-system")
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	got := &corev1.Namespace{}
	if err := json.NewDecoder(resp.Body).Decode(got); err != nil {
		return err
	}
	want, err := kubernetes.NewForConfigOrDie(b.Member(name).AdminConfig()).CoreV1().Namespaces().Get(ctx, "kube-system", metav1.GetOptions{})
	if err != nil {
		return err
	}
	if got.UID != want.UID {
		return errors.New("another cluster answers")
	}
	return nil
}

// TestClusterProxy: members that nobody can reach but their agents, with konnectivity's
// own server and agents. Each is reached by its own tunnel, and one that is cut off harms
// no other and comes back by itself.
func TestClusterProxy(t *testing.T) {
	b := startBehind(t, "eu-1", "us-1")
	for _, name := range []string{"eu-1", "us-1", "eu-1"} {
		if err := b.answers(t.Context(), name); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}

	direct := NewMembers("sallyport-gateway", MembersOptions{Tunnel: b.proxy.Dial})
	s := b.secrets["eu-1"].DeepCopy()
	delete(s.Data, v1alpha1.RouteVia)
	set(t, direct, s)
	if err := send(t, route(t, direct, "eu-1")); err == nil {
		t.Error("the member is reached without its tunnel")
	}

	watching, err := b.get(t.Context(), "eu-1", "/api/v1/namespaces?watch=1")
	if err != nil {
		t.Fatal(err)
	}
	defer watching.Body.Close()
	events := bufio.NewReader(watching.Body)
	if line, err := events.ReadString('\n'); err != nil || !strings.Contains(line, "ADDED") {
		t.Errorf("watch: %q, %v", line, err)
	}

	if err := b.StopAgent("eu-1"); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, events); err == nil {
		t.Error("the watch ends as if it had been told to")
	}
	eventually(t, "a member without agent is known to be down", func() bool {
		err := b.answers(t.Context(), "eu-1")
		if err == nil {
			t.Fatal("it answers without its agent")
		}
		return isUnavailable(err, "does not answer")
	})
	if err := b.answers(t.Context(), "us-1"); err != nil {
		t.Errorf("another member is harmed: %v", err)
	}
	if err := b.StartAgent(t.Context(), "eu-1"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the member is back with its agent", func() bool { return b.answers(t.Context(), "eu-1") == nil })

	if err := b.Konnectivity.Stop(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "all are down without the entrypoint", func() bool {
		return isUnavailable(b.answers(t.Context(), "eu-1"), "does not answer") && isUnavailable(b.answers(t.Context(), "us-1"), "does not answer")
	})
	if err := b.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"eu-1", "us-1"} {
		eventually(t, name+" is back with the entrypoint", func() bool { return b.answers(t.Context(), name) == nil })
	}
}

// TestS9ClusterProxyNames: an agent that claims another member's name gets what is dialled
// by it, and nothing that is said: it has no certificate of that member. Whoever is not the
// gateway gets no tunnel.
func TestS9ClusterProxyNames(t *testing.T) {
	b := startBehind(t, "eu-1", "us-1")
	if err := errors.Join(b.StopAgent("eu-1"), b.StopAgent("us-1")); err != nil {
		t.Fatal(err)
	}
	if err := b.StartAgent(t.Context(), "us-1", "us-1", "eu-1"); err != nil {
		t.Fatal(err)
	}
	stolen := b.secrets["eu-1"].DeepCopy()
	stolen.Data[v1alpha1.RouteServer] = []byte(strings.Replace(b.URL("us-1"), "us-1", "eu-1", 1)) // where the agent takes it
	set(t, b.members, stolen)
	if err := b.answers(t.Context(), "eu-1"); !errors.As(err, new(x509.UnknownAuthorityError)) {
		t.Errorf("an API server of another member: got %v, want that its certificate is not known", err)
	}

	stranger := *b.proxy
	stranger.CertFile, stranger.KeyFile = filepath.Join(b.Dir(), "pki", "konnectivity", "agent.crt"), filepath.Join(b.Dir(), "pki", "konnectivity", "agent.key")
	if conn, err := stranger.Dial(t.Context(), "tcp", strings.TrimPrefix(b.URL("us-1"), "https://")); err == nil {
		conn.Close()
		t.Error("an agent's certificate opens tunnels to members")
	}
}

// TestClusterProxySlowReader: whoever does not read an answer holds up nobody else, although
// all share the agent's one stream, and finds it whole in the end.
func TestClusterProxySlowReader(t *testing.T) {
	b := startBehind(t, "eu-1")
	configMaps := kubernetes.NewForConfigOrDie(b.Member("eu-1").AdminConfig()).CoreV1().ConfigMaps("default")
	const size, count = 900 << 10, 30
	for i := range count {
		_, err := configMaps.Create(t.Context(), &corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("big-%d", i)}, Data: map[string]string{"x": strings.Repeat("x", size)},
		}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
	}
	resp, err := b.get(t.Context(), "eu-1", "/api/v1/namespaces/default/configmaps")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := io.CopyN(io.Discard, resp.Body, 1<<10); err != nil {
		t.Fatal(err)
	}
	for range 20 {
		if err := b.answers(t.Context(), "eu-1"); err != nil {
			t.Fatalf("another request: %v", err)
		}
	}
	if n, err := io.Copy(io.Discard, resp.Body); err != nil || n < size*count {
		t.Errorf("the rest: %d bytes, %v", n, err)
	}
}

// TestClusterProxyStreams: real kubectl, through a reverse proxy that has nothing but the
// route.
func TestClusterProxyStreams(t *testing.T) {
	b := startBehind(t, "eu-1")
	member := b.Member("eu-1")
	if err := errors.Join(b.StartKubelet(t.Context(), member), member.RunPod(t.Context(), "payments", "api-0")); err != nil {
		t.Fatal(err)
	}
	proxy := httptest.NewServer(&httputil.ReverseProxy{
		FlushInterval: -1,
		Transport:     route(t, b.members, "eu-1").Transport,
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&url.URL{Scheme: "https", Host: route(t, b.members, "eu-1").URL.Host})
			r.Out.Header.Set("Impersonate-User", "alice")
		},
	})
	defer proxy.Close()
	programs, err := controlplane.Binaries(t.Context(), os.Stderr, controlplane.Kubectl)
	if err != nil {
		t.Fatal(err)
	}
	kubectl := func(in string, args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), programs[controlplane.Kubectl], append([]string{"--server=" + proxy.URL, "-n", "payments"}, args...)...)
		cmd.Stdin = strings.NewReader(in)
		cmd.Env = append(os.Environ(), "KUBECONFIG="+os.DevNull, "HOME="+t.TempDir())
		var said bytes.Buffer
		cmd.Stderr = &said
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("kubectl %v: %v: %s", args, err, said.String())
		}
		return string(out)
	}
	if got, want := kubectl("", "logs", "api-0"), "api-0 line 1\napi-0 line 2\napi-0 line 3\n"; got != want {
		t.Errorf("logs: %q, want %q", got, want)
	}
	big := strings.Repeat("0123456789abcdef", 1<<16) // 1 MiB, both ways
	if got := kubectl(big, "exec", "-i", "api-0", "--", "cat"); got != big {
		t.Errorf("exec: %d bytes come back of %d", len(got), len(big))
	}
	b.members.Remove("eu-1")
	if _, err := b.members.Route("eu-1"); !isUnavailable(err, "has no route") {
		t.Errorf("after it was removed: %v", err)
	}
}

// BenchmarkClusterProxy is BenchmarkMember through a tunnel.
func BenchmarkClusterProxy(b *testing.B) {
	f := startBehind(b, "eu-1")
	for _, clients := range []int{1, 8, 64} {
		b.Run(fmt.Sprintf("clients=%d", clients), func(b *testing.B) { benchmarkGets(b, f.members, "eu-1", clients) })
	}
}
