package gateway_test

import (
	"context"
	"io"
	"net"
	"slices"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
)

// TestS13SessionsEnd: what is open when access ends, ends with it, and nothing else does.
func TestS13SessionsEnd(t *testing.T) {
	w := theWorld(t)
	w.create(t, grant("sessions-of-another", "frank", []v1alpha1.ClusterName{east}, onPods()...))
	frank := w.at(t, directly.to(w, w.user(t, "frank"), east))
	frank.can("get", "pods")
	another := frank.starts("get", "pods", "-w")
	another.sees("vault-0")

	// Each ends access, and returns the instant from which on there is none.
	causes := map[string]func(t *testing.T, g *v1alpha1.AccessGrant) time.Time{
		"revocation": func(t *testing.T, g *v1alpha1.AccessGrant) time.Time {
			if err := w.hub.Delete(t.Context(), g); err != nil {
				t.Fatal(err)
			}
			return time.Now()
		},
		"expiry": func(t *testing.T, g *v1alpha1.AccessGrant) time.Time {
			patch := client.MergeFrom(g.DeepCopy())
			end := metav1.NewTime(time.Now().Add(5 * time.Second).Truncate(time.Second))
			g.Spec.Validity = &v1alpha1.Validity{NotAfter: &end}
			if err := w.hub.Patch(t.Context(), g, patch); err != nil {
				t.Fatal(err)
			}
			return end.Time
		},
		"guardrail": func(t *testing.T, g *v1alpha1.AccessGrant) time.Time {
			name := g.Spec.Subjects[0].Name
			w.create(t, guardrail("not-"+name, "input.request.user.name != '"+name+"'", "it is late", v1alpha1.PointRequest))
			return time.Now()
		},
	}
	for cause, end := range causes {
		t.Run(cause, func(t *testing.T) {
			user := "guest-" + cause
			g := grant("sessions-"+cause, user, []v1alpha1.ClusterName{east}, onPods()...)
			w.create(t, g)
			open := map[string]*running{}
			var conns []net.Conn
			for _, way := range ways {
				p := w.at(t, way.to(w, w.user(t, user), east))
				p.can("exec", "api-0", "--", "true")
				open["watch "+way.name] = p.starts("get", "pods", "-w")
				open["logs "+way.name] = p.starts("logs", "-f", "api-0")
				for protocol, env := range protocols {
					p := p.with(env...)
					open["exec by "+protocol+" "+way.name] = p.starts("exec", "-i", "api-0", "--", "sh", "-c", "echo begun; exec cat")
					open["port-forward by "+protocol+" "+way.name] = p.starts("port-forward", "api-0", ":8080")
				}
			}
			for what, r := range open {
				switch what[:4] {
				case "watc":
					r.sees("vault-0")
				case "logs":
					r.sees("line 4")
				case "exec":
					r.sees("begun")
				case "port":
					conn := forwarded(t, r)
					echoes(t, conn, "ping")
					conns = append(conns, conn)
				}
			}

			since := end(t, g)
			var took []time.Duration
			for what, r := range open {
				at := r.ends()
				t.Logf("%-40s %s", what, at.Sub(since).Round(time.Millisecond))
				took = append(took, at.Sub(since))
			}
			for _, conn := range conns {
				if _, err := io.Copy(io.Discard, conn); err != nil {
					t.Logf("the forwarded connection ended by %v", err)
				}
			}
			t.Logf("%s: %d sessions ended within %s", cause, len(took), slices.Max(took).Round(time.Millisecond))
			if cause == "expiry" && slices.Min(took) < 0 {
				t.Errorf("one ended %s before the grant did", -slices.Min(took))
			}
		})
	}

	select {
	case <-another.ended:
		t.Errorf("the watch of somebody else ended with them: %s", another.said.String())
	default:
	}
	// It is not only open, but still answers.
	until(t, "the watch of somebody else sees a change", func(ctx context.Context) string {
		c, err := newClient(w.fleet.Member(east).AdminConfig())
		if err != nil {
			return err.Error()
		}
		pods := &metav1.PartialObjectMetadata{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"}, ObjectMeta: metav1.ObjectMeta{Namespace: payments, Name: "api-0"}}
		if err := c.Patch(ctx, pods, client.RawPatch("application/merge-patch+json", []byte(`{"metadata":{"labels":{"seen":"`+time.Now().Format("150405.000")+`"}}}`))); err != nil {
			return err.Error()
		}
		return ""
	})
	another.sees("api-0")
}
