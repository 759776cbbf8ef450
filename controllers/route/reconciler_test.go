package route

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/record"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/sallyport-dev/sallyport/internal/core/fleet"
	"github.com/sallyport-dev/sallyport/internal/core/subject"
	"github.com/sallyport-dev/sallyport/internal/identity"
	"github.com/sallyport-dev/sallyport/internal/inventory"
	"github.com/sallyport-dev/sallyport/internal/transport"
)

var noon = time.Date(2030, 1, 1, 12, 0, 0, 0, time.UTC)

// stage is a hub with a fleet, and an issuer that answers what the test says.
type stage struct {
	*Reconciler
	hub    client.Client
	events *record.FakeRecorder

	members  []fleet.Member
	unknown  error // instead of a fleet
	answer   identity.Route
	problem  error
	held     identity.Route // what the issuer was told
	withdrew []string
	now      time.Time
}

func (s *stage) Fleet(context.Context) (*fleet.Fleet, []inventory.Problem, error) {
	return fleet.New(s.members), nil, s.unknown
}

func (s *stage) Route(_ context.Context, _ *fleet.Member, held identity.Route) (identity.Route, error) {
	s.held = held
	return s.answer, s.problem
}

func (s *stage) Withdraw(_ context.Context, cluster, name string) error {
	s.withdrew = append(s.withdrew, cluster+"/"+name)
	return nil
}

func newStage(t *testing.T, objects ...client.Object) *stage {
	t.Helper()
	scheme := runtime.NewScheme()
	if err := corev1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	s := &stage{
		hub: fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).Build(), events: record.NewFakeRecorder(20),
		members: []fleet.Member{edge()}, answer: good("t1"), now: noon,
	}
	s.Reconciler = &Reconciler{
		Client: s.hub, Live: s.hub, Inventory: s, Issuers: map[fleet.Issuer]identity.Issuer{fleet.TokenRequest: s, fleet.ManagedServiceAccount: s}, Accounts: s,
		Namespace: "sallyport-gateway", Impersonator: "sallyport-impersonator", Events: s.events, Now: func() time.Time { return s.now },
	}
	return s
}

func edge() fleet.Member {
	return fleet.Member{
		Name: "edge-1", Accepted: true, Delivery: fleet.Direct, Paths: subject.Gateway | subject.Impersonated, Secret: "edge-1",
		Impersonator: types.NamespacedName{Namespace: "sallyport-system", Name: "sallyport-impersonator"}, Issuer: fleet.TokenRequest,
	}
}

func good(token string) identity.Route {
	return identity.Route{
		Endpoint: inventory.Endpoint{Server: "https://edge-1", CA: []byte("ca")}, Token: token,
		Expires: noon.Add(time.Hour), Renew: noon.Add(40 * time.Minute), Account: "sallyport-system/sallyport-impersonator@uid",
	}
}

func (s *stage) reconcile(t *testing.T) (ctrl.Result, error) {
	t.Helper()
	return s.Reconcile(t.Context(), ctrl.Request{NamespacedName: types.NamespacedName{Name: "edge-1"}})
}

// stands is the token of the route that there is; "" for none.
func (s *stage) stands(t *testing.T) string {
	t.Helper()
	secret := &corev1.Secret{}
	err := s.hub.Get(t.Context(), client.ObjectKey{Namespace: "sallyport-gateway", Name: "route-edge-1"}, secret)
	if apierrors.IsNotFound(err) {
		return ""
	} else if err != nil {
		t.Fatal(err)
	}
	return string(secret.Data["token"])
}

func (s *stage) told() []string {
	var all []string
	for len(s.events.Events) > 0 {
		all = append(all, <-s.events.Events)
	}
	return all
}

func TestReconcile(t *testing.T) {
	standing := func(t0 *identity.Route) *corev1.Secret {
		return t0.Secret("sallyport-gateway", "edge-1", fleet.TokenRequest)
	}
	before := good("t0")
	cases := map[string]struct {
		reason string
		held   client.Object
		change func(*stage)
		// want is the token that stands afterwards.
		want      string
		after     time.Duration
		fails     bool
		told      string
		withdrawn bool
	}{
		"New": {reason: "A member gets a route.", want: "t1", after: 2 * time.Minute, told: `Normal RouteReady the gateway reaches cluster "edge-1"`, withdrawn: true},
		"Renewed": {
			reason: "The token is replaced, which is no news.", held: standing(&before), want: "t1", after: 2 * time.Minute, withdrawn: true,
		},
		"SoonToRenew": {
			reason: "Renewal does not wait for the next look.", held: standing(&before), want: "t1", after: 30 * time.Second, withdrawn: true,
			change: func(s *stage) { s.now = noon.Add(39*time.Minute + 30*time.Second) },
		},
		"Down": {
			reason: "A member that does not answer keeps its route, and is tried again.", held: standing(&before), want: "t0", fails: true, told: "Warning TokenFailed timeout", withdrawn: true,
			change: func(s *stage) { s.problem = errors.New("timeout") },
		},
		"NoTokenAnyMore": {
			reason: "What a source says for good is so.", held: standing(&before), after: 2 * time.Minute, told: "Warning NoToken there is no Secret: the token is not there", withdrawn: true,
			change: func(s *stage) { s.problem = fmt.Errorf("there is no Secret: %w", identity.ErrWaits) },
		},
		"NoAddress": {
			reason: "Nor is anything sent to an address that nobody tells any more.", held: standing(&before), after: 2 * time.Minute, told: "Warning NoAddress cluster x: no inventory tells an address that can be used", withdrawn: true,
			change: func(s *stage) { s.problem = fmt.Errorf("cluster x: %w", inventory.ErrNoEndpoint) },
		},
		"SlipInAKubeconfig": {
			reason: "It is not the member's removal, and trying again does not help.", held: standing(&before), want: "t0", after: 2 * time.Minute, withdrawn: true,
			told: `Warning KubeconfigRefused cannot use kubeconfig of Secret "n/s": users[].user.exec is not allowed`,
			change: func(s *stage) {
				s.problem = &transport.Refusal{Namespace: "n", Secret: "s", Field: "users[].user.exec", Reason: "is not allowed"}
			},
		},
		"Gone": {
			reason: "A member that is gone has no route.", held: standing(&before), withdrawn: true,
			change: func(s *stage) { s.members = nil },
		},
		"NotAccepted": {
			reason: "Nor has one that the hub has not let in.", held: standing(&before), withdrawn: true,
			change: func(s *stage) { s.members[0].Accepted = false },
		},
		"NoIssuer": {
			reason: "Where nothing gets tokens, that is told.", held: standing(&before), after: 2 * time.Minute, withdrawn: true,
			told:   `Warning NoToken nothing gets tokens of an impersonator on cluster "edge-1", which has neither the managed-serviceaccount add-on nor a kubeconfig Secret: the token is not there`,
			change: func(s *stage) { s.members[0].Issuer = fleet.NoIssuer },
		},
		"Described": {
			reason: "Of a cluster to which nothing is delivered nothing is asked.",
			change: func(s *stage) { s.members[0].Delivery = fleet.None }, withdrawn: true,
		},
		"ByAddOn": {
			reason: "The account that is in use is not withdrawn.", want: "t1", after: 2 * time.Minute, told: `Normal RouteReady the gateway reaches cluster "edge-1"`,
			change: func(s *stage) { s.members[0].Issuer = fleet.ManagedServiceAccount },
		},
		"UnknownFleet": {
			reason: "A fleet that cannot be read is not an empty one.", held: standing(&before), want: "t0", fails: true,
			change: func(s *stage) { s.members, s.unknown = nil, errors.New("unknown") },
		},
		"Theirs": {
			reason: "A Secret that Sallyport did not make is let be.", want: "t0", fails: true,
			held: func() client.Object {
				s := standing(&before)
				s.Labels = nil
				return s
			}(),
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			var objects []client.Object
			if tc.held != nil {
				objects = append(objects, tc.held)
			}
			s := newStage(t, objects...)
			if tc.change != nil {
				tc.change(s)
			}
			result, err := s.reconcile(t)
			if (err != nil) != tc.fails || result.RequeueAfter != tc.after {
				t.Errorf("%s\nagain after %s, %v; want after %s", tc.reason, result.RequeueAfter, err, tc.after)
			}
			if got := s.stands(t); got != tc.want {
				t.Errorf("%s\nthe token %q stands, want %q", tc.reason, got, tc.want)
			}
			var told []string
			if tc.told != "" {
				told = []string{tc.told}
			}
			if diff := cmp.Diff(told, s.told()); diff != "" {
				t.Errorf("%s\nevents (-want +got):\n%s", tc.reason, diff)
			}
			if got := slices.Contains(s.withdrew, "edge-1/sallyport-impersonator"); got != tc.withdrawn {
				t.Errorf("%s\nthe add-on's account is withdrawn: %t", tc.reason, got)
			}
			if _, err := s.reconcile(t); (err != nil) != tc.fails {
				t.Errorf("%s\nonce more: %v", tc.reason, err)
			}
			if again := s.told(); len(again) > 0 {
				t.Errorf("%s\nonce more: told %q again", tc.reason, again)
			}
		})
	}
}

// TestHeldIsHandedBack: the issuer sees what the gateway has, and nothing is written
// where it comes back.
func TestHeldIsHandedBack(t *testing.T) {
	s := newStage(t)
	if _, err := s.reconcile(t); err != nil {
		t.Fatal(err)
	}
	secret := &corev1.Secret{}
	key := client.ObjectKey{Namespace: "sallyport-gateway", Name: "route-edge-1"}
	if err := s.hub.Get(t.Context(), key, secret); err != nil {
		t.Fatal(err)
	}
	version := secret.ResourceVersion
	if _, err := s.reconcile(t); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(good("t1"), s.held); diff != "" {
		t.Errorf("handed back (-want +got):\n%s", diff)
	}
	if err := s.hub.Get(t.Context(), key, secret); err != nil || secret.ResourceVersion != version {
		t.Errorf("written for nothing new: %v", err)
	}
	// What somebody changed or added does not stay.
	secret.Data["extra"], secret.Annotations["access.sallyport.dev/expires"] = []byte("x"), "2999-01-01T00:00:00Z"
	if err := s.hub.Update(t.Context(), secret); err != nil {
		t.Fatal(err)
	}
	if _, err := s.reconcile(t); err != nil {
		t.Fatal(err)
	}
	if err := s.hub.Get(t.Context(), key, secret); err != nil || len(secret.Data) != 3 || secret.Annotations["access.sallyport.dev/expires"] != "2030-01-01T13:00:00Z" {
		t.Errorf("got %d keys, %q, %v", len(secret.Data), secret.Annotations, err)
	}
}

func TestMetrics(t *testing.T) {
	s := newStage(t)
	registry := prometheus.NewRegistry()
	if err := s.instruments().register(registry); err != nil {
		t.Fatal(err)
	}
	expect := func(when string, want ...string) {
		t.Helper()
		var text strings.Builder
		for _, m := range []struct{ name, kind, help string }{
			{"sallyport_route_ready", "gauge", "1 where the last look at a member found its route in order, 0 where something was wrong."},
			{"sallyport_route_token_expiry_timestamp_seconds", "gauge", "Unix time at which the token that the gateway has for a member expires. Absent for one that does not."},
			{"sallyport_route_tokens_total", "counter", "Tokens handed to the gateway, by where they are from."},
		} {
			for _, line := range want {
				if strings.HasPrefix(line, m.name) {
					fmt.Fprintf(&text, "# HELP %s %s\n# TYPE %s %s\n%s\n", m.name, m.help, m.name, m.kind, line)
				}
			}
		}
		if err := testutil.GatherAndCompare(registry, strings.NewReader(text.String())); err != nil {
			t.Errorf("%s: %v", when, err)
		}
	}
	again := func() {
		if _, err := s.reconcile(t); err != nil && s.problem == nil {
			t.Fatal(err)
		}
	}
	expiry := fmt.Sprintf("sallyport_route_token_expiry_timestamp_seconds{cluster=\"edge-1\"} %v", float64(noon.Add(time.Hour).Unix()))
	tokens := `sallyport_route_tokens_total{issuer="TokenRequest"} `
	again()
	expect("a route", `sallyport_route_ready{cluster="edge-1"} 1`, expiry, tokens+"1")
	s.problem = errors.New("down")
	again()
	expect("a member that is down", `sallyport_route_ready{cluster="edge-1"} 0`, expiry, tokens+"1")
	s.problem, s.answer = nil, good("t2")
	again()
	expect("a renewal", `sallyport_route_ready{cluster="edge-1"} 1`, expiry, tokens+"2")
	s.members = nil
	again()
	expect("a member that is gone", tokens+"2")
}
