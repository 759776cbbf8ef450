package decisionlog

import (
	"encoding/json"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/internal/core/effective"
	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
)

var at = time.Date(2026, 1, 5, 10, 0, 0, 0, time.UTC)

func ann() *effective.Request {
	return &effective.Request{
		User:    guardrail.User{Name: "ann", UID: "u-1", Groups: []string{"oncall"}, Extra: map[string][]string{"a": {"b"}}},
		Cluster: "prod-eu-1", Verb: "create", ResourceRequest: true, APIVersion: "v1", Resource: "pods", Subresource: "exec",
		Namespace: "payments", Name: "api-0", Path: "/api/v1/namespaces/payments/pods/api-0/exec", At: at.In(time.FixedZone("", 3600)),
	}
}

// TestOf: an entry has all of the request and of the decision.
func TestOf(t *testing.T) {
	d := &effective.Decision{
		Verdict: effective.Denied, Snapshot: 7, Policy: "digest",
		Reasons: []guardrail.Reason{{Guardrail: "no-exec", Enforcement: v1alpha1.EnforcementDeny, Message: "m", Failed: true, Detail: "d", Exception: "x"}},
		Because: []effective.Because{{Grant: &effective.Grant{GrantInfo: guardrail.GrantInfo{Namespace: "payments", Name: "oncall"}, Revision: "r"}, Role: "rules", Rule: 2}},
	}
	want := &Entry{
		Version: "v1alpha1", Time: at, Server: "gateway", Event: "request",
		User: User{Name: "ann", UID: "u-1", Groups: []string{"oncall"}, Extra: map[string][]string{"a": {"b"}}},
		Request: Request{
			Cluster: "prod-eu-1", Verb: "create", APIVersion: "v1", Resource: "pods", Subresource: "exec",
			Namespace: "payments", Name: "api-0", Path: "/api/v1/namespaces/payments/pods/api-0/exec",
		},
		Verdict: "deny", Layer: "guardrail",
		Reasons:  []Reason{{Guardrail: "no-exec", Enforcement: "Deny", Message: "m", Failed: true, Detail: "d", Exception: "x"}},
		Grants:   []Grant{{Namespace: "payments", Name: "oncall", Role: "rules", Rule: 2, Revision: "r"}},
		Snapshot: 7, PolicyDigest: "digest",
	}
	if diff := cmp.Diff(want, Of(Gateway, ann(), d)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestOutcome(t *testing.T) {
	nobody := ann()
	nobody.User.Name = ""
	for name, tc := range map[string]struct {
		reason         string
		server         string
		q              *effective.Request
		d              effective.Decision
		verdict, layer string
	}{
		"Zero":       {"The zero decision denies.", Gateway, ann(), effective.Decision{}, Deny, LayerGuardrail},
		"Nobody":     {"Who has no name is refused as such.", Gateway, nobody, effective.Decision{}, Deny, LayerIdentity},
		"NotGranted": {"No grant, no access.", Gateway, ann(), effective.Decision{Verdict: effective.NotGranted}, Deny, LayerGrant},
		"NoOpinion":  {"Others than the webhook may allow it.", Authorizer, ann(), effective.Decision{Verdict: effective.NotGranted}, NoOpinion, LayerGrant},
		"Unknown":    {"A server of which nothing is known denies.", "", ann(), effective.Decision{Verdict: effective.NotGranted}, Deny, LayerGrant},
		"OnMember":   {"The member has the last word.", Gateway, ann(), effective.Decision{Verdict: effective.OnMember}, Allow, ""},
		"Allowed":    {"", Authorizer, ann(), effective.Decision{Verdict: effective.Allowed}, Allow, ""},
	} {
		e := Of(tc.server, tc.q, &tc.d)
		if e.Verdict != tc.verdict || e.Layer != tc.layer {
			t.Errorf("%s: %s by %q. %s", name, e.Verdict, e.Layer, tc.reason)
		}
	}
}

// TestNoSecrets: an entry has no field that a header, a query or a body could be in:
// all that it has is listed here, so that who adds a field has to think of it.
func TestNoSecrets(t *testing.T) {
	var fields []string
	var walk func(prefix string, of reflect.Type)
	walk = func(prefix string, of reflect.Type) {
		for f := range of.Fields() {
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			fields = append(fields, prefix+name)
			inner := f.Type
			if inner.Kind() == reflect.Slice {
				inner = inner.Elem()
			}
			if inner.Kind() == reflect.Struct && inner != reflect.TypeFor[time.Time]() {
				walk(prefix+name+".", inner)
			}
		}
	}
	walk("", reflect.TypeFor[Entry]())
	const want = "version time id server event user user.name user.uid user.groups user.extra " +
		"request request.cluster request.verb request.apiGroup request.apiVersion request.resource request.subresource request.namespace request.name " +
		"request.path request.method request.remoteAddr verdict layer reasons reasons.guardrail reasons.enforcement reasons.message reasons.failed " +
		"reasons.detail reasons.exception grants grants.namespace grants.name grants.role grants.rule grants.revision snapshot policyDigest " +
		"latencyMicros status truncated"
	if diff := cmp.Diff(want, strings.Join(fields, " ")); diff != "" {
		t.Errorf("fields (-want +got):\n%s", diff)
	}

	// And of a request with canaries in all places, the log has those that it may have.
	r, err := http.NewRequest(http.MethodPost, "https://gw/path-canary?query-canary", strings.NewReader("body-canary"))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer token-canary")
	r.Header.Set("Cookie", "cookie-canary")
	q := ann()
	q.Path = r.URL.Path
	line := string(appendEntry(nil, Of(Gateway, q, &effective.Decision{})))
	if !json.Valid([]byte(line)) || strings.Count(line, "canary") != 1 || !strings.Contains(line, "path-canary") {
		t.Error(line)
	}
}

func TestQuiet(t *testing.T) {
	for name, tc := range map[string]struct {
		e    Entry
		want bool
	}{
		"Zero":      {Entry{}, false},
		"Allowed":   {Entry{Event: EventRequest, Verdict: Allow}, true},
		"NoOpinion": {Entry{Event: EventRequest, Verdict: NoOpinion}, true},
		"NoGrant":   {Entry{Event: EventRequest, Verdict: NoOpinion, Layer: LayerGrant}, false},
		"Denied":    {Entry{Event: EventRequest, Verdict: Deny, Layer: LayerGuardrail}, false},
		"Warned":    {Entry{Event: EventRequest, Verdict: Allow, Reasons: []Reason{{}}}, false},
		"Cut":       {Entry{Event: EventSession, Verdict: Allow}, false},
	} {
		if got := tc.e.isQuiet(); got != tc.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}
