package e2e

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/controllers"
	"github.com/sallyport-dev/sallyport/internal/source"
)

// repository is a local Git repository with one of gitops-examples in it.
type repository struct {
	*testing.T
	dir string
}

func newRepository(t *testing.T, example string) *repository {
	t.Helper()
	r := &repository{T: t, dir: t.TempDir()}
	if err := os.CopyFS(r.dir, os.DirFS(filepath.Join("..", "..", "gitops-examples", example))); err != nil {
		t.Fatal(err)
	}
	r.git("init", "--quiet", "--initial-branch=main")
	return r
}

func (r *repository) git(args ...string) string {
	r.Helper()
	cmd := exec.CommandContext(r.Context(), "git", args...)
	cmd.Dir = r.dir
	// Nothing of who runs the test.
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null",
		"GIT_COMMITTER_NAME=The Server", "GIT_COMMITTER_EMAIL=git@example.org")
	out, err := cmd.CombinedOutput()
	if err != nil {
		r.Fatalf("git %v: %v: %s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

func (r *repository) write(name, content string) {
	r.Helper()
	if err := os.WriteFile(filepath.Join(r.dir, name), []byte(content), 0o644); err != nil {
		r.Fatal(err)
	}
}

// replace text in a file, which has to be there.
func (r *repository) replace(name, before, after string) {
	r.Helper()
	content, err := os.ReadFile(filepath.Join(r.dir, name))
	if err != nil {
		r.Fatal(err)
	}
	if !strings.Contains(string(content), before) {
		r.Fatalf("%s has not %q", name, before)
	}
	r.write(name, strings.Replace(string(content), before, after, 1))
}

const ada, grace = "Ada <ada@example.org>", "Grace <grace@example.org>"

// commit everything, and return the revision in Flux's form.
func (r *repository) commit(author, message string) string {
	r.Helper()
	r.git("add", "--all")
	r.git("commit", "--quiet", "--author="+author, "--message="+message)
	return r.revision()
}

func (r *repository) revision() string { return "main@sha1:" + r.git("rev-parse", "HEAD") }

// synced are the options of a controller that syncs the repository by itself.
func (r *repository) synced(o *controllers.Options) {
	o.Git = &source.Options{
		URL: "file://" + r.dir, Branch: "main", Interval: time.Second, Timeout: 10 * time.Second,
		Namespace: namespace, Name: source.DefaultName,
	}
}

// sync waits until the state of the sync is as wanted, and returns it.
func (w *world) sync(revision, reason string) map[string]string {
	w.Helper()
	state := &corev1.ConfigMap{}
	w.eventually(fmt.Sprintf("the sync is %s at %s", reason, revision), func() string {
		if err := w.hub.Get(w.ctx, client.ObjectKey{Namespace: namespace, Name: source.DefaultName}, state); err != nil {
			return err.Error()
		}
		if state.Data["attemptedRevision"] != revision || state.Data["reason"] != reason {
			return fmt.Sprint(state.Data)
		}
		return ""
	})
	return state.Data
}

// versions of everything that Sallyport has written on the hub and the members,
// but for the state of the sync.
func (w *world) versions(members ...string) map[string]string {
	w.Helper()
	out := map[string]string{}
	add := func(where string, c client.Client, lists ...client.ObjectList) {
		for _, list := range lists {
			w.must(c.List(w.ctx, list, client.MatchingLabels{v1alpha1.ManagedByLabel: v1alpha1.ManagedByValue}))
			w.each(list, func(o *unstructured.Unstructured) {
				if o.GetName() != source.DefaultName {
					out[where+" "+identity(o)] = o.GetResourceVersion()
				}
			})
		}
	}
	rbac := func() []client.ObjectList {
		return []client.ObjectList{listOf("ClusterRole"), listOf("ClusterRoleBinding"), listOf("Role"), listOf("RoleBinding")}
	}
	add("hub", w.hub, append(rbac(), &corev1.ConfigMapList{})...)
	for _, name := range members {
		add(name, w.member(name), rbac()...)
	}
	for _, list := range []client.ObjectList{&v1alpha1.AccessGrantList{}, &v1alpha1.AccessRoleList{}} {
		w.must(w.hub.List(w.ctx, list))
		w.each(list, func(o *unstructured.Unstructured) { out["hub "+identity(o)] = o.GetResourceVersion() })
	}
	return out
}

func listOf(kind string) client.ObjectList {
	list := &unstructured.UnstructuredList{}
	list.SetGroupVersionKind(rbacv1.SchemeGroupVersion.WithKind(kind + "List"))
	return list
}

// changed lists what is new, gone or of another version.
func changed(before, after map[string]string) []string {
	var out []string
	for _, key := range slices.Sorted(maps.Keys(before)) {
		if before[key] != after[key] {
			out = append(out, key)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(after)) {
		if _, ok := before[key]; !ok {
			out = append(out, key)
		}
	}
	return out
}

// event waits for an event about a Kubernetes object with that reason and text.
func (w *world) event(ns, reason string, texts ...string) {
	w.Helper()
	w.eventually(fmt.Sprintf("there is an event %s with %q", reason, texts), func() string {
		var list eventsv1.EventList
		w.must(w.hub.List(w.ctx, &list, client.InNamespace(ns)))
		var seen []string
		for i := range list.Items {
			e := &list.Items[i]
			if e.Reason == reason && !slices.ContainsFunc(texts, func(s string) bool { return !strings.Contains(e.Note, s) }) {
				return ""
			}
			seen = append(seen, e.Reason+": "+e.Note)
		}
		return strings.Join(seen, "\n")
	})
}

// TestGit: the built-in sync, from a commit to a binding on a member and back.
func TestGit(t *testing.T) {
	w := newWorld(t, "prod-1")
	w.byKubeconfig("prod-1", prod)
	repo := newRepository(t, "plain")
	first := repo.commit(ada, "Access for the on-call")
	begin := time.Now()
	w.controller(repo.synced)
	prod1 := w.member("prod-1")
	carol := who{"carol", nil}

	t.Run("a commit becomes a binding", func(t *testing.T) {
		state := w.sync(first, "Applied")
		w.ready("payments", "oncall", "True Applied")
		t.Logf("from the start of the controller %s", time.Since(begin).Round(time.Millisecond))
		if !w.can("prod-1", alice, "list", "pods", "payments") || !w.canReach("prod-1", alice, "get") {
			t.Error("alice has no access")
		}
		for key, want := range map[string]string{
			"ready": "true", "appliedRevision": first, "appliedAuthor": ada, "appliedMessage": "Access for the on-call",
		} {
			if state[key] != want {
				t.Errorf("state: %s is %q, not %q", key, state[key], want)
			}
		}
		w.source("payments", "oncall", v1alpha1.GrantSource{
			Kind: "GitSync", Namespace: namespace, Name: source.DefaultName, Revision: first, Author: ada,
		})
		w.sourced(first, w.hub, prod1)
		w.event(namespace, "Applied", first, ada, "created")
		w.event("payments", "Applied", "applied on 1 cluster", first)
	})

	t.Run("a commit that cannot be applied changes nothing", func(t *testing.T) {
		before := w.versions("prod-1")
		for _, bad := range []struct {
			name, reason string
			do           func()
			says         []string
		}{
			{"not YAML", "BuildFailed", func() { repo.write("teams/payments/oncall.yaml", "spec: [") }, []string{"teams/payments/oncall.yaml"}},
			{"an unknown field", "BuildFailed", func() {
				repo.replace("teams/payments/oncall.yaml", "  subjects:", "  subject:")
			}, []string{"oncall", `unknown field "spec.subject"`}},
			{"a kind that may not be applied", "BuildFailed", func() {
				repo.write("teams/payments/namespace.yaml", "apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata: {name: mine}\n")
			}, []string{"ClusterRole"}},
			{"a remote base", "BuildFailed", func() {
				repo.replace("kustomization.yaml", "resources:\n", "resources:\n- https://example.org/base.yaml\n")
			}, []string{"example.org"}},
			{"refused by the API server", "Refused", func() {
				repo.replace("teams/payments/oncall.yaml", "payments-oncall", "system:masters")
				repo.replace("teams/payments/bob-dev.yaml", "name: bob}", "name: bobby}")
			}, []string{"oncall", "system:masters"}},
		} {
			bad.do()
			revision := repo.commit(grace, bad.name)
			state := w.sync(revision, bad.reason)
			if state["ready"] != "false" || state["appliedRevision"] != first {
				t.Errorf("%s: state is %v", bad.name, state)
			}
			for _, text := range bad.says {
				if !strings.Contains(state["message"], text) {
					t.Errorf("%s: the message does not say %q: %s", bad.name, text, state["message"])
				}
			}
			w.event(namespace, bad.reason, append(bad.says, revision, grace)...)
			if diff := changed(before, w.versions("prod-1")); len(diff) > 0 {
				t.Errorf("%s: these changed: %v", bad.name, diff)
			}
			repo.git("reset", "--quiet", "--hard", "HEAD~1")
		}
		w.sync(first, "Applied")
		if diff := changed(before, w.versions("prod-1")); len(diff) > 0 {
			t.Errorf("back at the first commit these changed: %v", diff)
		}
	})

	t.Run("an unrelated commit rewrites nothing", func(t *testing.T) {
		before := w.versions("prod-1")
		repo.write("NOTES.md", "A note.\n")
		revision := repo.commit(grace, "A note")
		w.sync(revision, "Applied")
		if diff := changed(before, w.versions("prod-1")); len(diff) > 0 {
			t.Errorf("these changed: %v", diff)
		}
	})

	t.Run("a commit changes what it is about", func(t *testing.T) {
		repo.write("teams/payments/carol.yaml", strings.NewReplacer("bob-dev", "carol", "name: bob}", "name: carol}", "env: dev", "env: prod").Replace(repo.read("teams/payments/bob-dev.yaml")))
		repo.replace("kustomization.yaml", "- teams/payments/bob-dev.yaml\n", "- teams/payments/bob-dev.yaml\n- teams/payments/carol.yaml\n")
		before := w.versions("prod-1")
		revision := repo.commit(grace, "Carol joins")
		w.sync(revision, "Applied")
		w.ready("payments", "carol", "True Applied")
		if !w.can("prod-1", carol, "list", "pods", "payments") {
			t.Error("carol has no access")
		}
		w.source("payments", "carol", v1alpha1.GrantSource{
			Kind: "GitSync", Namespace: namespace, Name: source.DefaultName, Revision: revision, Author: grace,
		})
		w.source("payments", "oncall", v1alpha1.GrantSource{
			Kind: "GitSync", Namespace: namespace, Name: source.DefaultName, Revision: first, Author: ada,
		})
		diff := changed(before, w.versions("prod-1"))
		for _, key := range diff {
			// The status of oncall may change: on the member it shares a binding with carol.
			for _, others := range []string{"AccessGrant payments/bob-dev", "AccessRole", "hub:group:payments-oncall"} {
				if strings.Contains(key, others) {
					t.Errorf("%s was rewritten", key)
				}
			}
		}
	})

	t.Run("a grant expires", func(t *testing.T) {
		end := time.Now().Add(4 * time.Second).UTC().Truncate(time.Second)
		repo.replace("teams/payments/carol.yaml", "  clusters:\n", "  validity: {notAfter: \""+end.Format(time.RFC3339)+"\"}\n  clusters:\n")
		w.sync(repo.commit(grace, "Carol until later"), "Applied")
		w.eventually("the grant has ended", func() string {
			return strings.TrimPrefix(w.condition("payments", "carol", v1alpha1.ConditionActive), "False Expired")
		})
		late := time.Since(end)
		t.Logf("gone on hub and member %s after the end", late.Round(time.Millisecond))
		if late < 0 {
			t.Errorf("it ended %s too early", -late)
		}
		if w.can("prod-1", carol, "list", "pods", "payments") || w.canReach("prod-1", carol, "get") {
			t.Error("carol still has access")
		}
		if !w.can("prod-1", alice, "list", "pods", "payments") {
			t.Error("alice lost hers")
		}
		w.ready("payments", "carol", "True Expired")
	})

	t.Run("a revert takes away", func(t *testing.T) {
		repo.git("rm", "--quiet", "teams/payments/oncall.yaml", "teams/payments/carol.yaml")
		repo.replace("kustomization.yaml", "- teams/payments/oncall.yaml\n", "")
		repo.replace("kustomization.yaml", "- teams/payments/carol.yaml\n", "")
		begin := time.Now()
		revision := repo.commit(grace, "Nobody is on call")
		for _, name := range []string{"oncall", "carol"} {
			w.ready("payments", name, "gone")
		}
		t.Logf("revoked %s after the commit", time.Since(begin).Round(time.Millisecond))
		if w.can("prod-1", alice, "list", "pods", "payments") || w.canReach("prod-1", alice, "get") {
			t.Error("alice still has access")
		}
		w.sync(revision, "Applied")
		w.event(namespace, "Applied", revision, grace, "pruned")
		w.nothingLeft(w.hub, prod1)
		w.noOrders()
		if w.grant("payments", "bob-dev") == nil {
			t.Error("bob's grant was pruned too")
		}
	})
}

func (r *repository) read(name string) string {
	r.Helper()
	content, err := os.ReadFile(filepath.Join(r.dir, name))
	if err != nil {
		r.Fatal(err)
	}
	return string(content)
}

// source waits until a grant says where it comes from.
func (w *world) source(ns, name string, want v1alpha1.GrantSource) {
	w.Helper()
	w.eventually(fmt.Sprintf("grant %s comes from %s", name, want.Revision), func() string {
		g := w.grant(ns, name)
		if g == nil || g.Status.Source == nil {
			return "it says nothing"
		}
		got := *g.Status.Source
		got.Generation = 0
		if got != want {
			return fmt.Sprintf("%+v", got)
		}
		return ""
	})
}

// sourced checks that all that was made on some clusters names the revision.
func (w *world) sourced(revision string, clusters ...client.Client) {
	w.Helper()
	seen := 0
	for _, c := range clusters {
		for _, kind := range []string{"ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"} {
			list := listOf(kind)
			w.must(c.List(w.ctx, list, client.MatchingLabels{v1alpha1.ManagedByLabel: v1alpha1.ManagedByValue}))
			w.each(list, func(o *unstructured.Unstructured) {
				seen++
				if got := o.GetAnnotations()[v1alpha1.SourcesAnnotation]; !strings.Contains(got, revision) {
					w.Errorf("%s comes from %q, not %s", identity(o), got, revision)
				}
			})
		}
	}
	if seen < 2*len(clusters) {
		w.Errorf("only %d objects were made", seen)
	}
}
