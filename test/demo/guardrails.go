package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/internal/source"
	"github.com/sallyport-dev/sallyport/test/install"
)

// noSecretsRead is a guardrail of the library, as it is.
const noSecretsRead = "policies/no-secrets-read/guardrail.yaml"

// keys is a grant that it refuses.
const keys = `apiVersion: access.sallyport.dev/v1alpha1
kind: AccessGrant
metadata:
  name: card-keys
  namespace: payments
spec:
  reason: Payments on-call compares the card keys, PAY-1300
  subjects:
  - {kind: Group, name: payments-oncall}
  clusters:
    names: [prod-eu-1]
  access:
  - rules:
    - {apiGroups: [""], resources: [secrets], verbs: [get, list]}
    namespaces: [payments]
`

const keysFile = "teams/payments/card-keys.yaml"

// guarded: a guardrail refuses a grant before the commit, and when it is committed
// all the same.
func (s *story) guarded(ctx context.Context) (string, time.Duration, error) {
	rail, err := os.ReadFile(noSecretsRead)
	if err != nil {
		return "", 0, err
	}
	const file = "guardrails/no-secrets-read.yaml"
	commit, err := s.repo.add(file, string(rail), "Nobody reads Secrets in production")
	if err != nil {
		return "", 0, err
	}
	s.say(fmt.Sprintf("Commit %s adds %s, of the library in policies/.", abbreviated(commit), file))
	began := time.Now()
	if err := install.Until(ctx, patience, s.ready(&v1alpha1.Guardrail{ObjectMeta: metav1.ObjectMeta{Name: "no-secrets-read"}}, metav1.ConditionTrue, v1alpha1.ReasonInForce)); err != nil {
		return "", 0, err
	}
	s.fact("guardrail no-secrets-read", "in force", time.Since(began), true)

	if err := s.repo.write(keysFile, keys); err != nil {
		return "", 0, err
	}
	s.say("Somebody writes " + keysFile + ", and asks before the commit:")
	fleet, err := s.writeFleet(ctx)
	if err != nil {
		return "", 0, err
	}
	began = time.Now()
	said, err := s.lint(ctx, fleet)
	if err != nil {
		return "", 0, err
	}
	s.quote(strings.Join(wrap("$ sallyport lint .demo/repo --fleet "+short(fleet)+"\n"+said.text, width-4), "\n"))
	s.fact("lint", "refused", time.Since(began), said.message != "")

	began = time.Now()
	commit, err = s.repo.commit("The card keys, without asking")
	if err != nil {
		return "", 0, err
	}
	s.say(fmt.Sprintf("Commit %s has it all the same.", abbreviated(commit)))
	var state corev1.ConfigMap
	err = install.Until(ctx, patience, func(ctx context.Context) string {
		if err := s.hub.Get(ctx, client.ObjectKey{Namespace: install.Namespace, Name: source.DefaultName}, &state); err != nil {
			return err.Error()
		}
		if !strings.HasSuffix(state.Data["attemptedRevision"], commit.String()) {
			return "the sync has not come to " + commit.String()
		}
		return ""
	})
	if err != nil {
		return "", 0, err
	}
	took := time.Since(began)
	s.quote(strings.Join(wrap(state.Data["message"], width-4), "\n"))
	s.fact("the sync", state.Data["reason"], took, state.Data["reason"] == string(source.ReasonRefused))
	s.fact("the message", "the same, word for word", took, said.message != "" && strings.Contains(state.Data["message"], said.message))
	s.expect(ctx, alice, "secrets", "prod-eu-1", refusedByGuardrail)
	s.bobIsWhereHeWas(ctx)
	return "refused, with one message", took, nil
}

// exception that lets the grant through for a moment.
const exception = `apiVersion: access.sallyport.dev/v1alpha1
kind: GuardrailException
metadata:
  name: card-keys
  namespace: payments
spec:
  guardrail: no-secrets-read
  grant: card-keys
  reason: The keys are compared after the incident
  ticket: SEC-77
  notBefore: %q
  notAfter: %q
`

func (s *story) excused(ctx context.Context) (string, time.Duration, error) {
	const file = "teams/payments/card-keys-exception.yaml"
	began := time.Now()
	end := began.Add(3*s.took + 6*time.Second).Truncate(time.Second)
	content := fmt.Sprintf(exception, began.Add(-time.Minute).UTC().Format(time.RFC3339), end.UTC().Format(time.RFC3339))
	commit, err := s.repo.add(file, content, "SEC-77: the card keys may be read for a moment")
	if err != nil {
		return "", 0, err
	}
	s.say(fmt.Sprintf("Commit %s adds %s:", abbreviated(commit), file))
	s.quote(essence(content))
	s.await(ctx, alice, "secrets", "prod-eu-1", allowed, began)
	s.say(fmt.Sprintf("It is %s. The exception ends at %s.", clock(time.Now()), clock(end)))
	var refused time.Time
	err = install.Until(ctx, time.Until(end)+patience, func(ctx context.Context) string {
		a := s.ask(ctx, alice, "secrets", "prod-eu-1")
		refused = a.at
		if !a.verdict.refused() {
			return a.String()
		}
		return ""
	})
	if err != nil {
		return "", 0, err
	}
	after := refused.Sub(end)
	s.fact("alice lists secrets on prod-eu-1", "refused from notAfter +", after, after >= 0 && after <= prompt)
	s.expect(ctx, alice, "pods", "prod-eu-1", allowed)
	err = install.Until(ctx, patience, func(ctx context.Context) string {
		if reason := s.active(ctx, "card-keys"); reason != v1alpha1.ReasonRefused {
			return "grant card-keys is " + reason
		}
		return ""
	})
	s.bobIsWhereHeWas(ctx)
	return fmt.Sprintf("notAfter + %s", brief(after)), after, err
}

// recipe of the bundle that the story is about.
const recipe = `name: baseline
description: What no team may grant.
policies: [no-wildcards, no-everyone]
`

// bundled: a signed bundle is put in force; a tampered and an older one are not.
func (s *story) bundled(ctx context.Context) (string, time.Duration, error) {
	b, err := s.newBundles(ctx)
	if err != nil {
		return "", 0, err
	}
	began := time.Now()
	if err := s.publish(ctx, b.two); err != nil {
		return "", 0, err
	}
	manifest := fmt.Sprintf(bundleManifest, install.Namespace, indent(b.publicKey, 8))
	commit, err := s.repo.add("guardrails/baseline.yaml", manifest, "The baseline of guardrails, signed by the security team")
	if err != nil {
		return "", 0, err
	}
	s.say(fmt.Sprintf("Revision 2 of a bundle of %s is signed and published. Commit %s asks for it, signed by that key.", "no-wildcards and no-everyone", abbreviated(commit)))
	baseline := &v1alpha1.GuardrailBundle{ObjectMeta: metav1.ObjectMeta{Name: "baseline"}}
	if err := install.Until(ctx, patience, s.ready(baseline, metav1.ConditionTrue, v1alpha1.ReasonInForce)); err != nil {
		return "", 0, err
	}
	took := time.Since(began)
	s.fact("bundle baseline", "revision "+baseline.Status.Active.Revision+" in force", took, baseline.Status.Active.Revision == "2")
	for _, attempt := range []struct {
		what, reason string
		archive      []byte
	}{
		{"revision 3, one word of it changed", v1alpha1.ReasonVerificationFailed, b.tampered},
		{"revision 1, signed and older", v1alpha1.ReasonRollback, b.one},
	} {
		began := time.Now()
		if err := s.publish(ctx, attempt.archive); err != nil {
			return "", 0, err
		}
		if err := install.Until(ctx, patience, s.ready(baseline, metav1.ConditionFalse, attempt.reason)); err != nil {
			return "", 0, err
		}
		s.fact(attempt.what, attempt.reason, time.Since(began), baseline.Status.Active.Revision == "2")
		s.quote(strings.Join(wrap(meta.FindStatusCondition(baseline.Status.Conditions, v1alpha1.ConditionReady).Message, width-4), "\n"))
	}
	everything := strings.NewReplacer("resources: [secrets]", `resources: ["*"]`, "name: card-keys", "name: everything").Replace(keys)
	var grant unstructured.Unstructured
	if err := decode(everything, &grant.Object); err != nil {
		return "", 0, err
	}
	err = s.hub.Create(ctx, &grant, client.DryRunAll)
	refused := err != nil && strings.Contains(err.Error(), `guardrail "baseline/no-wildcards"`)
	verdict := "refused by revision 2"
	if !refused {
		verdict = fmt.Sprint(err)
	}
	s.fact("a grant of every resource", verdict, 0, refused)
	s.bobIsWhereHeWas(ctx)
	return "tampered and older refused", took, nil
}

const bundleManifest = `apiVersion: access.sallyport.dev/v1alpha1
kind: GuardrailBundle
metadata:
  name: baseline
spec:
  source:
    configMap: {namespace: %s, name: baseline}
  interval: 1s
  verification:
    keys:
    - id: security-team
      algorithm: ES256
      publicKey: |
%s`

// bundles that the story publishes, signed but for what was done to one of them.
type bundles struct {
	one, two, tampered []byte
	publicKey          string
}

func (s *story) newBundles(ctx context.Context) (*bundles, error) {
	dir := filepath.Join(s.dir, "bundles")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	file := func(name string) string { return filepath.Join(dir, name) }
	b := &bundles{}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return nil, err
	}
	b.publicKey = string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public}))
	err = errors.Join(
		os.WriteFile(file("security-team.pem"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), 0o600),
		os.WriteFile(file("baseline.yaml"), []byte(recipe), 0o644),
	)
	if err != nil {
		return nil, err
	}
	var archives [3][]byte
	for i := range archives {
		archive := file(fmt.Sprintf("baseline-%d.tar.gz", i+1))
		for _, args := range [][]string{
			{"bundle", "build", file("baseline.yaml"), "--policies", "policies", "--revision", fmt.Sprint(i + 1), "-o", archive},
			{"bundle", "sign", archive, "--key", file("security-team.pem"), "--key-id", "security-team", "--algorithm", "ES256"},
		} {
			if out, err := exec.CommandContext(ctx, s.binary(), args...).CombinedOutput(); err != nil {
				return nil, fmt.Errorf("sallyport %s: %w\n%s", strings.Join(args, " "), err, out)
			}
		}
		if archives[i], err = os.ReadFile(archive); err != nil {
			return nil, err
		}
	}
	b.one, b.two = archives[0], archives[1]
	b.tampered, err = tamper(archives[2])
	return b, err
}

// publish an archive where the bundle is fetched from.
func (s *story) publish(ctx context.Context, archive []byte) error {
	published := &corev1.ConfigMap{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"},
		ObjectMeta: metav1.ObjectMeta{Namespace: install.Namespace, Name: "baseline"},
		BinaryData: map[string][]byte{"bundle.tar.gz": archive},
	}
	err := s.hub.Create(ctx, published)
	if client.IgnoreAlreadyExists(err) != nil {
		return err
	}
	if err != nil {
		return s.hub.Update(ctx, published)
	}
	return nil
}

// ready is the condition that an object's Ready condition is of its generation and
// as wanted. The object is then as it was read.
func (s *story) ready(o interface {
	client.Object
	GetConditions() []metav1.Condition
}, status metav1.ConditionStatus, reason string) func(context.Context) string {
	return func(ctx context.Context) string {
		if err := s.hub.Get(ctx, client.ObjectKeyFromObject(o), o); err != nil {
			return err.Error()
		}
		c := meta.FindStatusCondition(o.GetConditions(), v1alpha1.ConditionReady)
		if c == nil || c.Status != status || c.Reason != reason {
			return fmt.Sprintf("%s is not ready: %+v", o.GetName(), c)
		}
		return ""
	}
}

// linted is what sallyport lint said of the one grant that is refused.
type linted struct {
	text, message string
}

// lint the repository as a person would, and once more as a program would.
func (s *story) lint(ctx context.Context, fleet string) (linted, error) {
	run := func(format string) (string, error) {
		cmd := exec.CommandContext(ctx, s.binary(), "lint", short(s.repo.dir), "--fleet", short(fleet), "-o", format)
		var errs strings.Builder
		cmd.Stderr = &errs
		out, err := cmd.Output()
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			return "", err
		}
		if cmd.ProcessState.ExitCode() != 1 {
			return "", fmt.Errorf("lint ended with %d: %s%s", cmd.ProcessState.ExitCode(), out, errs.String())
		}
		return string(out), nil
	}
	text, err := run("text")
	if err != nil {
		return linted{}, err
	}
	report, err := run("json")
	if err != nil {
		return linted{}, err
	}
	var found struct {
		Findings []struct{ Guardrail, Message string }
	}
	if err := json.Unmarshal([]byte(report), &found); err != nil {
		return linted{}, err
	}
	for _, f := range found.Findings {
		if f.Guardrail == "no-secrets-read" {
			return linted{text: strings.TrimSpace(text), message: f.Message}, nil
		}
	}
	return linted{}, fmt.Errorf("lint did not speak of no-secrets-read: %s", text)
}

// writeFleet writes what kubectl get managedclusters -o yaml would.
func (s *story) writeFleet(ctx context.Context) (string, error) {
	list := &unstructured.UnstructuredList{}
	list.SetAPIVersion("cluster.open-cluster-management.io/v1")
	list.SetKind("ManagedClusterList")
	if err := s.hub.List(ctx, list); err != nil {
		return "", err
	}
	raw, err := encode(list.UnstructuredContent())
	if err != nil {
		return "", err
	}
	file := filepath.Join(s.dir, "fleet.yaml")
	return file, os.WriteFile(file, raw, 0o644)
}
