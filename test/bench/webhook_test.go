package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/sallyport-dev/sallyport/internal/core/compile"
	"github.com/sallyport-dev/sallyport/test/controlplane"
	"github.com/sallyport-dev/sallyport/test/install"
)

// BenchmarkWebhook is a SubjectAccessReview of a request that a grant gives, by mutual
// TLS on loopback: Sallyport's authorizer with 10,000 grants and twenty guardrails, a
// handler that only parses and answers, and a real OPA with a policy of two rules, and
// with the same grants as data. Each is a process of its own.
func BenchmarkWebhook(b *testing.B) {
	dir := b.TempDir()
	certificates(b, dir)
	s := tenants(grants, members)
	who := somebodyOf(b, &s)
	body, err := json.Marshal(who.review())
	if err != nil {
		b.Fatal(err)
	}
	opa, opaPID := startOPA(b, dir, &s, who.cluster)
	var entrants []*entrant
	var asked atomic.Uint64
	add := func(name, address, path string, pid int, want string) {
		url := "https://" + address + path
		e := &entrant{name: name, pid: pid, config: &rest.Config{Host: "https://" + address, TLSClientConfig: rest.TLSClientConfig{
			CAFile: filepath.Join(dir, "tls.crt"), CertFile: filepath.Join(dir, "tls.crt"), KeyFile: filepath.Join(dir, "tls.key"),
		}}}
		e.ask = func(ctx context.Context) (*http.Request, error) {
			body := body
			if strings.HasSuffix(name, "-new") { // about another pod each time
				body = bytes.Replace(body, []byte("api-0"), strconv.AppendUint([]byte("api-"), asked.Add(1), 10), 1)
			}
			r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
			if err == nil {
				r.Header.Set("Content-Type", "application/json")
			}
			return r, err
		}
		entrants = append(entrants, e)
		e.says(b, want)
	}
	address, pid := startServer(b, dir, "authorizer")
	add("authorizer", address, "/authorize?cluster="+who.cluster, pid, `"allowed":true`)
	// It remembers what it decided: this one asks what has not been asked.
	add("authorizer-new", address, "/authorize?cluster="+who.cluster, pid, `"allowed":true`)
	address, pid = startServer(b, dir, "floor")
	add("floor", address, "/", pid, `"allowed":false`)
	add("opa", opa, "/v0/data/two/review", opaPID, `"allowed":false`)
	add("opa-grants", opa, "/v0/data/granted/review", opaPID, `"allowed":true`)
	for _, clients := range []int{1, 8} {
		report(b, fmt.Sprintf("clients=%d", clients), entrants, race(b, clients, entrants))
	}
}

// says waits for the first answer, and checks it.
func (e *entrant) says(b *testing.B, want string) {
	b.Helper()
	c := clientOf(b, e.config)
	defer c.CloseIdleConnections()
	err := install.Until(b.Context(), time.Minute, func(ctx context.Context) string {
		r, err := e.request(ctx)
		if err != nil {
			return err.Error()
		}
		answer, err := open(c, r)
		if err != nil {
			return err.Error()
		}
		defer answer.Close()
		if said, err := io.ReadAll(answer); err != nil || !strings.Contains(string(said), want) {
			return fmt.Sprintf("it says %s (%v), and not %s", said, err, want)
		}
		return ""
	})
	if err != nil {
		b.Fatalf("%s: %v", e.name, err)
	}
}

// certificates: one that is its own authority, of servers and clients alike.
func certificates(b *testing.B, dir string) {
	b.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "localhost"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		b.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		b.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{"tls.crt": {Type: "CERTIFICATE", Bytes: cert}, "tls.key": {Type: "PRIVATE KEY", Bytes: secret}} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			b.Fatal(err)
		}
	}
}

// somebody with a grant to read pods in a namespace of a member in production.
type somebody struct{ group, cluster, namespace string }

func somebodyOf(b *testing.B, s *compile.Snapshot) somebody {
	b.Helper()
	for _, g := range s.Grants {
		ring, err := strconv.Atoi(g.Spec.Clusters.Selector.MatchLabels["ring"])
		if err == nil && ring%4 == 0 && g.Spec.Access[0].RoleRef != nil {
			return somebody{g.Spec.Subjects[0].Name, fmt.Sprintf("cluster-%04d", ring), string(g.Spec.Access[0].Namespaces[0])}
		}
	}
	b.Fatal("nobody has such a grant")
	return somebody{}
}

func (s somebody) review() *authorizationv1.SubjectAccessReview {
	return &authorizationv1.SubjectAccessReview{
		TypeMeta: metav1.TypeMeta{APIVersion: "authorization.k8s.io/v1", Kind: "SubjectAccessReview"},
		Spec: authorizationv1.SubjectAccessReviewSpec{
			User: "alice@example.org", UID: "6f8c", Groups: []string{s.group, "payments", "staff", "system:authenticated"},
			ResourceAttributes: &authorizationv1.ResourceAttributes{Verb: "get", Version: "v1", Resource: "pods", Namespace: s.namespace, Name: "api-0"},
		},
	}
}

// startServer runs this program once more as one of the servers: see serve.
func startServer(b *testing.B, dir, name string) (address string, pid int) {
	b.Helper()
	self, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), serveEnv+"="+name, serveDirEnv+"="+dir)
	cmd.Stderr = os.Stderr
	in, errIn := cmd.StdinPipe() // it ends when this is closed, also by the end of this process
	out, errOut := cmd.StdoutPipe()
	if errIn != nil || errOut != nil {
		b.Fatal(errIn, errOut)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		in.Close()
		_ = cmd.Wait() // it has nothing to say
	})
	address, err = bufio.NewReader(out).ReadString('\n')
	if err != nil {
		b.Fatalf("%s: %v", name, err)
	}
	return strings.TrimSpace(address), cmd.Process.Pid
}

const twoRules = `package two

review := {
	"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
	"status": {"allowed": false, "denied": count(deny) > 0, "reason": concat("; ", deny)},
}

deny contains "no shell in production" if {
	input.spec.resourceAttributes.resource == "pods"
	input.spec.resourceAttributes.subresource == "exec"
}

deny contains "nobody reads Secrets" if input.spec.resourceAttributes.resource == "secrets"
`

// grantsAsData are looked up by group, as one would who knows OPA.
const grantsAsData = `package granted

review := {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "status": {"allowed": allowed}}

default allowed := false

allowed if {
	asked := input.spec.resourceAttributes
	some group in input.spec.groups
	some grant in data.grants[group]
	grant.clusters[data.cluster]
	asked.namespace in grant.namespaces
	some rule in grant.rules
	asked.verb in rule.verbs
	object.get(asked, "group", "") in rule.apiGroups
	asked.resource in rule.resources
}
`

// startOPA runs "opa run --server" with the grants of a snapshot.
func startOPA(b *testing.B, dir string, s *compile.Snapshot, cluster string) (address string, pid int) {
	b.Helper()
	programs, err := controlplane.Binaries(b.Context(), os.Stderr, controlplane.OPA)
	if err != nil {
		b.Fatal(err)
	}
	data, err := json.Marshal(map[string]any{"cluster": cluster, "grants": dataOf(s)})
	if err != nil {
		b.Fatal(err)
	}
	policy := filepath.Join(dir, "policy")
	if err := os.Mkdir(policy, 0o755); err != nil {
		b.Fatal(err)
	}
	for name, content := range map[string][]byte{"two.rego": []byte(twoRules), "granted.rego": []byte(grantsAsData), "data.json": data} {
		if err := os.WriteFile(filepath.Join(policy, name), content, 0o600); err != nil {
			b.Fatal(err)
		}
	}
	free, err := (&net.ListenConfig{}).Listen(b.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	address = free.Addr().String()
	if err := free.Close(); err != nil {
		b.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, programs[controlplane.OPA], "run", "--server", "--skip-version-check", "--log-level=error", "--addr="+address,
		"--tls-cert-file="+filepath.Join(dir, "tls.crt"), "--tls-private-key-file="+filepath.Join(dir, "tls.key"),
		"--tls-ca-cert-file="+filepath.Join(dir, "tls.crt"), "--authentication=tls", policy)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		stop()
		_ = cmd.Wait() // killed
	})
	return address, cmd.Process.Pid
}

// dataOf the grants of a snapshot, by group, as they would stand in a bundle of OPA.
func dataOf(s *compile.Snapshot) map[string][]any {
	byGroup := map[string][]any{}
	for _, g := range s.Grants {
		access := g.Spec.Access[0]
		rules := access.Rules
		if access.RoleRef != nil {
			rules = s.Roles[access.RoleRef.Name].Rules
		}
		ring, _ := strconv.Atoi(g.Spec.Clusters.Selector.MatchLabels["ring"]) // as tenants writes it
		clusters := map[string]bool{}
		for i := ring; i < members; i += members / 20 {
			clusters[fmt.Sprintf("cluster-%04d", i)] = true
		}
		one := map[string]any{"clusters": clusters, "namespaces": access.Namespaces, "rules": rules}
		for _, subject := range g.Spec.Subjects {
			byGroup[subject.Name] = append(byGroup[subject.Name], one)
		}
	}
	return byGroup
}
