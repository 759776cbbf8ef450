package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/test/install"
)

func (s *story) before(ctx context.Context) (string, time.Duration, error) {
	a := s.expect(ctx, alice, "pods", "prod-eu-1", refusedByHub)
	s.said(a)
	s.bobIsWhereHeWas(ctx)
	return a.String(), a.took, nil
}

func (s *story) commits(ctx context.Context) (string, time.Duration, error) {
	content, err := os.ReadFile(path.Join(example, oncall))
	if err != nil {
		return "", 0, err
	}
	began := time.Now()
	if s.commit, err = s.repo.add(oncall, string(content), "Payments on-call looks at production, PAY-1234"); err != nil {
		return "", 0, err
	}
	s.say(fmt.Sprintf("Commit %s adds %s:", abbreviated(s.commit), oncall))
	s.quote(essence(string(content)))
	for _, m := range prods {
		s.await(ctx, alice, "pods", m, allowed, began)
	}
	s.took = time.Since(began)
	s.said(s.expect(ctx, alice, "secrets", "prod-eu-1", refusedForNoGrant))
	s.expect(ctx, alice, "pods", "dev-1", refusedByHub)
	s.bobIsWhereHeWas(ctx)
	if err := s.showApplied(ctx, began); err != nil {
		return "", 0, err
	}
	return "pods on prod, no more", s.took, nil
}

// showApplied waits until the status says what is the case.
func (s *story) showApplied(ctx context.Context, began time.Time) error {
	err := install.Until(ctx, patience, func(ctx context.Context) string { return s.notApplied(ctx, "oncall", s.commit.String()) })
	if err != nil {
		return err
	}
	g, err := s.grant(ctx, "oncall")
	if err != nil {
		return err
	}
	s.fact("the grant is Ready", fmt.Sprintf("applied on %d of %d", g.Status.Clusters.Applied, g.Status.Clusters.Matched), time.Since(began),
		g.Status.Clusters.Applied == int32(len(prods)))
	s.note("Its status says where it came from: " + g.Status.Source.Kind + " " + g.Status.Source.Name + ", " + g.Status.Source.Revision)
	return s.showGrants(ctx, s.screen)
}

func (s *story) drift(ctx context.Context) (string, time.Duration, error) {
	member := prods[0]
	admin, err := newClient(s.fleet.Member(member).AdminConfig())
	if err != nil {
		return "", 0, err
	}
	binding, err := bindingOf(ctx, admin, alice.groups[0])
	if err != nil {
		return "", 0, err
	}
	granted := slices.Clone(binding.Subjects)
	binding.Subjects = append(binding.Subjects, rbacv1.Subject{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: bob.name})
	began := time.Now()
	if err := admin.Update(ctx, binding); err != nil {
		return "", 0, err
	}
	s.say(fmt.Sprintf("RoleBinding %s on %s, changed by its administrator.", binding.Name, member))
	s.expect(ctx, bob, "pods", member, refusedByHub)
	err = install.Until(ctx, patience, func(ctx context.Context) string {
		live := &rbacv1.RoleBinding{}
		if err := admin.Get(ctx, client.ObjectKeyFromObject(binding), live); err != nil {
			return err.Error()
		}
		if !slices.Equal(live.Subjects, granted) {
			return fmt.Sprintf("its subjects are %v", live.Subjects)
		}
		return ""
	})
	took := time.Since(began)
	if err != nil {
		return "", took, err
	}
	s.fact("the binding is as it was granted", "put right", took, true)
	s.note("Through the hub that would have been no use to bob at any time.")
	s.expect(ctx, alice, "pods", member, allowed)
	s.bobIsWhereHeWas(ctx)
	return "put right", took, nil
}

// bindingOf finds the binding of Sallyport's that lets a group read pods.
func bindingOf(ctx context.Context, admin client.Client, group string) (*rbacv1.RoleBinding, error) {
	var list rbacv1.RoleBindingList
	err := admin.List(ctx, &list, client.InNamespace(namespace), client.MatchingLabels{v1alpha1.ManagedByLabel: v1alpha1.ManagedByValue})
	if err != nil {
		return nil, err
	}
	for i := range list.Items {
		names := func(s rbacv1.Subject) bool { return s.Kind == rbacv1.GroupKind && s.Name == group }
		if slices.ContainsFunc(list.Items[i].Subjects, names) {
			return &list.Items[i], nil
		}
	}
	return nil, fmt.Errorf("no RoleBinding of Sallyport's in namespace %q names group %q", namespace, group)
}

// incident is a grant that ends soon.
const incident = `apiVersion: access.sallyport.dev/v1alpha1
kind: AccessGrant
metadata:
  name: incident
  namespace: payments
spec:
  reason: Incident INC-42 is looked into on dev-1
  subjects:
  - {kind: Group, name: payments-oncall}
  clusters:
    names: [dev-1]
  access:
  - roleRef: {kind: AccessRole, name: pod-reader}
    namespaces: [payments]
  validity: {notAfter: %q}
`

func (s *story) expiry(ctx context.Context) (string, time.Duration, error) {
	const file = "teams/payments/incident.yaml"
	began := time.Now()
	// Time enough to see her in, as long as it took before and then some.
	end := began.Add(3*s.took + 5*time.Second).Truncate(time.Second)
	content := fmt.Sprintf(incident, end.UTC().Format(time.RFC3339))
	commit, err := s.repo.add(file, content, "Payments on-call looks into INC-42 for a moment")
	if err != nil {
		return "", 0, err
	}
	s.say(fmt.Sprintf("Commit %s adds %s:", abbreviated(commit), file))
	s.quote(essence(content))
	s.await(ctx, alice, "pods", "dev-1", allowed, began)
	s.say(fmt.Sprintf("It is %s. The grant ends at %s.", clock(time.Now()), clock(end)))

	var refused, gone time.Time
	group, asking := errgroup.WithContext(ctx)
	limit := time.Until(end) + patience
	group.Go(func() error { // asked all the time, and answered yes up to the end
		err := install.Until(asking, limit, func(ctx context.Context) string {
			a := s.ask(ctx, alice, "pods", "dev-1")
			refused = a.at
			if !a.verdict.refused() {
				return a.String()
			}
			return ""
		})
		return err
	})
	group.Go(func() error {
		err := install.Until(asking, limit, s.memberRefuses(alice, "dev-1", &gone))
		return err
	})
	if err := group.Wait(); err != nil {
		return "", 0, err
	}
	after := refused.Sub(end)
	s.fact("alice lists pods on dev-1", "refused from notAfter +", after, after >= 0 && after <= prompt)
	s.fact("dev-1's own RBAC for alice", "refuses from notAfter +", gone.Sub(end), gone.After(end))
	s.expect(ctx, alice, "pods", "dev-1", refusedByHub)
	s.expect(ctx, alice, "pods", "prod-eu-1", allowed)
	s.bobIsWhereHeWas(ctx)
	err = install.Until(ctx, patience, func(ctx context.Context) string {
		if reason := s.active(ctx, "incident"); reason != v1alpha1.ReasonExpired {
			return "grant incident is " + reason
		}
		return ""
	})
	if err != nil {
		return "", after, err
	}
	return fmt.Sprintf("notAfter + %s", brief(after)), after, s.showGrants(ctx, s.screen)
}

// prompt is how soon after its end a grant must be refused. Half of it would do,
// were the machine not to start three other things at the time.
const prompt = 2 * time.Second

func clock(t time.Time) string { return t.UTC().Format("15:04:05.0") }

// memberRefuses is the condition that a member's own RBAC gives a person nothing,
// and notes when that was so.
func (s *story) memberRefuses(p person, member string, at *time.Time) func(context.Context) string {
	return func(ctx context.Context) string {
		may, err := s.mayOnMember(ctx, p, member)
		*at = time.Now()
		switch {
		case err != nil:
			return err.Error()
		case may:
			return member + " still allows it"
		default:
			return ""
		}
	}
}

func (s *story) reverts(ctx context.Context) (string, time.Duration, error) {
	open, err := s.watch(ctx, alice, prods[0])
	if err != nil {
		return "", 0, err
	}
	s.say("alice has a watch open: kubectl --context " + prods[0] + " get pods --watch")
	began := time.Now()
	commit, err := s.repo.revert(s.commit)
	if err != nil {
		return "", 0, err
	}
	s.say(fmt.Sprintf("Commit %s is a git revert of %s.", abbreviated(commit), abbreviated(s.commit)))
	group, asking := errgroup.WithContext(ctx)
	out := make([]time.Time, len(prods))
	for i, m := range prods {
		group.Go(func() error {
			err := install.Until(asking, patience, s.memberRefuses(alice, m, &out[i]))
			return err
		})
	}
	var history []string
	group.Go(func() error {
		err := install.Until(asking, patience, func(ctx context.Context) string {
			reason := s.active(ctx, "oncall")
			if len(history) == 0 || history[len(history)-1] != reason {
				history = append(history, reason)
			}
			if reason != gone {
				return "grant oncall is " + reason
			}
			return ""
		})
		return err
	})
	for _, m := range prods {
		s.await(ctx, alice, "pods", m, refusedByHub, began)
	}
	if err := group.Wait(); err != nil {
		return "", 0, err
	}
	for i, m := range prods {
		s.fact(m+"'s own RBAC for alice", "refuses", out[i].Sub(began), true)
	}
	select {
	case at := <-open.ended:
		s.fact("her open watch on "+prods[0], "ended", at.Sub(began), true)
		if open.said.Len() > 0 {
			s.quote(strings.Join(wrap(open.said.String(), width-4), "\n"))
		}
	case <-ctx.Done():
		return "", 0, ctx.Err()
	case <-time.After(patience):
		return "", 0, errors.New("her watch is still open")
	}
	took := time.Since(began)
	s.fact("the grant's status", strings.Join(history, " → "), took, true)
	s.bobIsWhereHeWas(ctx)
	return "refused on hub and members", took, s.showGrants(ctx, s.screen)
}

const gone = "gone"

// active is the reason of a grant's condition Active, which says how it stands.
func (s *story) active(ctx context.Context, name string) string {
	g, err := s.grant(ctx, name)
	switch {
	case apierrors.IsNotFound(err):
		return gone
	case err != nil:
		return err.Error()
	}
	for _, c := range g.Status.Conditions {
		if c.Type == v1alpha1.ConditionActive {
			return c.Reason
		}
	}
	return "new"
}

func (s *story) bob(ctx context.Context) (string, time.Duration, error) {
	s.watched.stop()
	w := s.watched
	s.say("All the while he asked for pods on prod-eu-1 and prod-us-1, through the hub.")
	s.fact("bob lists pods on prod, all the time", fmt.Sprintf("refused %d of %d times", w.refused, w.asked), w.took, w.refused == w.asked && w.asked > 0)
	s.bobIsWhereHeWas(ctx)
	return fmt.Sprintf("refused %d of %d times", w.refused, w.asked), w.took, nil
}

// essence of a manifest is its spec without comments.
func essence(manifest string) string {
	var lines []string
	in := false
	for line := range strings.SplitSeq(manifest, "\n") {
		in = in || line == "spec:"
		if in && !strings.HasPrefix(strings.TrimSpace(line), "#") {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "\n")
}
