package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/internal/decisionlog"
	"github.com/sallyport-dev/sallyport/test/controlplane"
	"github.com/sallyport-dev/sallyport/test/install"
)

// impersonator is the account on members as which the gateway comes.
const impersonator = "sallyport-impersonator"

// openMembers lets the controller ask each member for tokens of the gateway's
// impersonator, and for nothing else: what is delivered goes by OCM.
func (w *world) openMembers(ctx context.Context) error {
	return each(ctx, func(ctx context.Context, m member) error {
		plane := w.fleet.Member(m.name)
		c, err := newClient(plane.AdminConfig())
		if err != nil {
			return err
		}
		account, err := plane.ServiceAccount(ctx, install.Namespace, "sallyport-tokens")
		if err != nil {
			return err
		}
		in := func(name string) metav1.ObjectMeta {
			return metav1.ObjectMeta{Namespace: install.Namespace, Name: name}
		}
		only := []string{impersonator}
		for _, o := range []client.Object{
			&corev1.ServiceAccount{ObjectMeta: in(impersonator)},
			&rbacv1.Role{ObjectMeta: in("sallyport-tokens"), Rules: []rbacv1.PolicyRule{
				{Verbs: []string{"get"}, APIGroups: []string{""}, Resources: []string{"serviceaccounts"}, ResourceNames: only},
				{Verbs: []string{"create"}, APIGroups: []string{""}, Resources: []string{"serviceaccounts/token"}, ResourceNames: only},
			}},
			&rbacv1.RoleBinding{
				ObjectMeta: in("sallyport-tokens"), RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: "sallyport-tokens"},
				Subjects: []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: install.Namespace, Name: "sallyport-tokens"}},
			},
		} {
			if err := c.Create(ctx, o); err != nil {
				return fmt.Errorf("cannot create %T %q on %q: %w", o, o.GetName(), m.name, err)
			}
		}
		file := filepath.Join(w.dir, "kubeconfigs", "tokens-"+m.name+".kubeconfig")
		if err := plane.WriteKubeconfig(file, account, ""); err != nil {
			return err
		}
		kubeconfig, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		return w.hub.Create(ctx, &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Namespace: install.Namespace, Name: m.name, Labels: map[string]string{v1alpha1.ClusterLabel: m.name}},
			Data:       map[string][]byte{"kubeconfig": kubeconfig},
		})
	})
}

// openGateway starts the gateway, and returns when bob reaches what he was granted.
func (w *world) openGateway(ctx context.Context) error {
	if err := w.sallyport.StartGateway(ctx, "--decision-log=file:"+filepath.Join(w.dir, "logs", "decisions.log")); err != nil {
		return err
	}
	return install.Until(ctx, patience, func(ctx context.Context) string {
		if a := w.ask(ctx, bob, "pods", "dev-1"); a.verdict != allowed {
			return "bob on dev-1: " + a.String()
		}
		return ""
	})
}

// kubectl as a person, whose kubeconfig leads through the hub.
func (w *world) kubectl(ctx context.Context, p person, member string, args ...string) (*exec.Cmd, error) {
	programs, err := controlplane.Binaries(ctx, nil, controlplane.Kubectl)
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, programs[controlplane.Kubectl], append([]string{"--context=" + member}, args...)...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+filepath.Join(w.dir, "users", p.name+".kubeconfig"), "KUBECACHEDIR="+filepath.Join(w.dir, "kubectl"))
	return cmd, nil
}

// types shows what a person types about the first member, and what kubectl prints.
func (s *story) types(ctx context.Context, p person, args ...string) (said string, took time.Duration, failed bool) {
	cmd, err := s.kubectl(ctx, p, prods[0], args...)
	if err != nil {
		return err.Error(), 0, true
	}
	began := time.Now()
	out, err := cmd.CombinedOutput()
	took = time.Since(began)
	s.quote(p.name + "$ kubectl --context " + prods[0] + " " + strings.Join(args, " "))
	s.quote(strings.Join(wrap(string(out), width-4), "\n"))
	return string(out), took, err != nil
}

// noVaultLogs judges requests: a grant of pods/log cannot tell one pod's log from
// another's by how their names begin.
const noVaultLogs = `apiVersion: access.sallyport.dev/v1alpha1
kind: Guardrail
metadata:
  name: no-vault-logs
spec:
  points: [Request]
  match:
    clusters: {selector: {matchLabels: {env: prod}}}
  cel:
    validations:
    - expression: |
        !(input.request.resource == 'pods' && input.request.subresource == 'log' &&
          input.request.name.startsWith('vault-'))
      message: logs of vault pods may hold card data; read the redacted stream at https://logs.example/vault
`

// requested: plain kubectl through the gateway, and a guardrail that judges requests.
func (s *story) requested(ctx context.Context) (string, time.Duration, error) {
	s.types(ctx, alice, "get", "pods")
	_, took, failed := s.types(ctx, alice, "logs", "vault-0", "--tail=1")
	s.fact("alice reads the vault's log", "allowed", took, !failed)
	const file = "guardrails/no-vault-logs.yaml"
	commit, err := s.repo.add(file, noVaultLogs, "The vault's logs are read elsewhere")
	if err != nil {
		return "", 0, err
	}
	s.say(fmt.Sprintf("Commit %s adds %s:", abbreviated(commit), file))
	s.quote(essence(noVaultLogs))
	began := time.Now()
	err = install.Until(ctx, patience, func(ctx context.Context) string {
		cmd, err := s.kubectl(ctx, alice, "prod-eu-1", "logs", "vault-0", "--tail=1")
		if err != nil {
			return err.Error()
		}
		if said, err := cmd.CombinedOutput(); err == nil {
			return "alice still reads " + string(said)
		}
		return ""
	})
	if err != nil {
		return "", 0, err
	}
	took = time.Since(began)
	s.fact("alice reads the vault's log", "refused by a guardrail", took, true)
	said, _, failed := s.types(ctx, alice, "logs", "vault-0")
	s.fact("the message", "says what to do instead", 0, failed && strings.Contains(said, "no-vault-logs") && strings.Contains(said, "redacted stream"))
	s.types(ctx, alice, "logs", "api-0", "--tail=2")
	if err := s.showDecision(); err != nil {
		return "", 0, err
	}
	s.bobIsWhereHeWas(ctx)
	return "refused, and told why", took, nil
}

// showDecision is the last line of the decision log that has a guardrail.
func (s *story) showDecision() error {
	raw, err := os.ReadFile(filepath.Join(s.dir, "logs", "decisions.log"))
	if err != nil {
		return err
	}
	last := ""
	for line := range strings.SplitSeq(string(raw), "\n") {
		if strings.Contains(line, `"layer":"`+decisionlog.LayerGuardrail+`"`) {
			last = line
		}
	}
	s.fact("the decision log", "has it, with its reasons", 0, strings.Contains(last, "no-vault-logs"))
	return nil
}

// openWatch is kubectl get --watch, while it is open.
type openWatch struct {
	cmd   *exec.Cmd
	lines chan string
	ended chan time.Time
	said  *bytes.Buffer // of errors; read after it has ended
}

// watch as a person, and return when the first pods have been seen.
func (s *story) watch(ctx context.Context, p person, member string) (*openWatch, error) {
	cmd, err := s.kubectl(ctx, p, member, "get", "pods", "--watch")
	if err != nil {
		return nil, err
	}
	w := &openWatch{cmd: cmd, lines: make(chan string, 64), ended: make(chan time.Time, 1), said: &bytes.Buffer{}}
	cmd.Stderr = w.said
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		for lines := bufio.NewScanner(out); lines.Scan(); {
			w.lines <- lines.Text()
		}
		_ = cmd.Wait() // that it ended is what matters
		w.ended <- time.Now()
	}()
	for range 2 { // the heading and a pod
		select {
		case <-w.lines:
		case <-w.ended:
			return nil, fmt.Errorf("the watch ended at once: %s", w.said)
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return w, nil
}
