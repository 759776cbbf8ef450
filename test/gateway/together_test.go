package gateway_test

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"

	"k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/internal/decisionlog"
)

// TestS26AtTheGateway: a guardrail and what it is against are written at once, and there
// is never a moment of access, whichever of the two the gateway learns of first.
func TestS26AtTheGateway(t *testing.T) {
	w := theWorld(t)
	rounds := map[string]func(user string) *v1alpha1.Guardrail{
		"request": func(user string) *v1alpha1.Guardrail {
			return guardrail("not-"+user, "input.request.user.name != '"+user+"'", "not at all", v1alpha1.PointRequest)
		},
		"grant": func(user string) *v1alpha1.Guardrail {
			return guardrail("not-"+user, "!input.grant.spec.subjects.exists(s, s.name == '"+user+"')", "not at all", v1alpha1.PointCompile)
		},
	}
	for point, rail := range rounds {
		for round := range 4 {
			t.Run(fmt.Sprintf("%s/%d", point, round), func(t *testing.T) {
				testTogether(t, w, fmt.Sprintf("ivy-%s-%d", point, round), rail)
			})
		}
	}
}

func testTogether(t *testing.T, w *world, user string, rail func(string) *v1alpha1.Guardrail) {
	ivy := w.user(t, user)
	ctx, stop := context.WithCancel(t.Context())
	var samples, open atomic.Int64
	var layer atomic.Value
	done := make(chan struct{})
	go func() {
		defer close(done)
		config := directly.to(w, ivy, east)
		c := clientOf(t, config)
		for ctx.Err() == nil {
			a := ask(ctx, c, "GET", config.Host+"/api/v1/namespaces/payments/pods/api-0")
			switch {
			case a.err != nil:
			case a.letThrough():
				open.Add(1)
			default:
				samples.Add(1)
				layer.Store(a.layer())
			}
		}
	}()
	defer func() { stop(); <-done }()
	until(t, "a sample", func(context.Context) string {
		if samples.Load() == 0 {
			return "none"
		}
		return ""
	})

	g, gr := rail(user), grant("together-"+user, user, []v1alpha1.ClusterName{east}, rule("pods", "get"))
	var written bytes.Buffer
	for _, o := range []client.Object{g, gr} {
		o.GetObjectKind().SetGroupVersionKind(v1alpha1.GroupVersion.WithKind(map[bool]string{true: "Guardrail", false: "AccessGrant"}[o == client.Object(g)]))
		raw, err := yaml.Marshal(o)
		if err != nil {
			t.Fatal(err)
		}
		written.WriteString("---\n")
		written.Write(raw)
	}
	apply := exec.CommandContext(t.Context(), w.kubectl, "--kubeconfig="+w.fleet.Hub.Kubeconfig(), "apply", "--server-side", "-f", "-")
	apply.Stdin = &written
	if out, err := apply.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	t.Cleanup(func() {
		for _, o := range []client.Object{gr, g} {
			if err := client.IgnoreNotFound(w.hub.Delete(context.Background(), o)); err != nil {
				t.Error(err)
			}
		}
	})
	// All has arrived everywhere: the controller has judged the grant, and where that lets
	// it pass, the guardrail is all that is between.
	until(t, "the grant is judged", func(ctx context.Context) string {
		if err := w.hub.Get(ctx, client.ObjectKeyFromObject(gr), gr); err != nil {
			return err.Error()
		}
		c := meta.FindStatusCondition(gr.Status.Conditions, v1alpha1.ConditionReady)
		switch {
		case c == nil:
			return "it is not judged yet"
		case strings.Contains(user, "grant"):
			if c.Status == "True" || !strings.Contains(c.Message, "not at all") {
				return fmt.Sprintf("it is %s, %s: %s", c.Status, c.Reason, c.Message)
			}
			return ""
		case c.Status != "True":
			return c.Message
		case layer.Load() != decisionlog.LayerGuardrail:
			return fmt.Sprint("refused by ", layer.Load())
		}
		return ""
	})
	if n := open.Load(); n > 0 {
		t.Errorf("there was access in %d samples", n)
	}
	t.Logf("%d samples, none with access", samples.Load())

	// Nothing else kept her out.
	if err := w.hub.Delete(t.Context(), g); err != nil {
		t.Fatal(err)
	}
	until(t, "access without the guardrail", func(context.Context) string {
		if open.Load() == 0 {
			return fmt.Sprint("refused by ", layer.Load())
		}
		return ""
	})
}
