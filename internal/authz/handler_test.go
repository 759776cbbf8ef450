package authz

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	authorizationv1 "k8s.io/api/authorization/v1"
	testclock "k8s.io/utils/clock/testing"

	"github.com/sallyport-dev/sallyport/internal/core/effective"
	"github.com/sallyport-dev/sallyport/internal/decisionlog"
)

// number of a decision differs each time.
var number = regexp.MustCompile(` \(decision [0-9a-f]{8}-[0-9a-z]+\)`)

const (
	noShell = `refused by guardrail "no-shell": not for people`
	stands  = ". A grant gives it, and the guardrail stands above: if it has to be, ask for a GuardrailException for grant payments/oncall"
)

func TestAnswers(t *testing.T) {
	refused := authorizationv1.SubjectAccessReviewStatus{Denied: true, Reason: noShell}
	granted := authorizationv1.SubjectAccessReviewStatus{Allowed: true, Reason: "given by AccessGrant payments/oncall"}
	gives := HandlerOptions{AllowFromGrants: true}
	tests := map[string]struct {
		reason  string
		ask     authorizationv1.SubjectAccessReviewSpec
		user    string
		groups  []string
		options HandlerOptions
		path    string
		at      time.Time
		want    authorizationv1.SubjectAccessReviewStatus
	}{
		"Granted":    {reason: "RBAC is there to allow it.", ask: ask("list", "payments", "pods")},
		"Gives":      {reason: "With the option a grant does.", ask: ask("list", "payments", "pods"), options: gives, want: granted},
		"NotGranted": {reason: "Others may allow it.", ask: ask("list", "elsewhere", "pods"), options: gives},
		"Help":       {reason: "Who is refused by RBAC then is told what to do.", ask: ask("list", "elsewhere", "pods"), options: HandlerOptions{Help: "ask in #access"}, want: authorizationv1.SubjectAccessReviewStatus{Reason: "ask in #access"}},
		"OnMember":   {reason: "What only the member knows is the member's to say.", ask: ask("list", "other", "pods"), groups: []string{"viewers"}, options: gives},
		"S14Expired": {reason: "A grant past its end allows nothing.", ask: ask("list", "payments", "pods"), options: gives, at: noon.Add(time.Hour)},
		"S14Before":  {reason: "Until then it does.", ask: ask("list", "payments", "pods"), options: gives, at: noon.Add(time.Hour - 1), want: granted},
		"Denied":     {reason: "A guardrail denies, whatever RBAC says.", ask: ask("create", "other", "pods", "exec"), want: refused},
		"Masters":    {reason: "It skips nobody.", ask: ask("create", "other", "pods", "exec"), groups: []string{"system:masters"}, want: refused},
		"Exempt":     {reason: "But who is named.", ask: ask("create", "other", "pods", "exec"), user: "root", options: HandlerOptions{Exempt: []string{"root"}}},
		"ExemptGiven": {reason: "What is excused from guardrails is not given by grants, which they bound.", ask: ask("get", "payments", "pods", "exec"), user: "root",
			options: HandlerOptions{Exempt: []string{"root"}, AllowFromGrants: true}},
		"S15WebSocket":  {reason: "A GET of exec does what a POST does, and a grant of get is none of create.", ask: ask("get", "other", "pods", "exec"), want: refused},
		"S15OneWord":    {reason: "RBAC takes pods/exec for both, and so do guardrails.", ask: ask("create", "other", "pods/exec"), want: refused},
		"S15Path":       {reason: "Guardrails see the path that the gateway would.", ask: ask("get", "kube-system", "secrets"), want: refused},
		"Path":          {reason: "Paths are judged.", ask: ask("get", "/debug/pprof"), want: refused},
		"S18":           {reason: "A subresource is its own.", ask: ask("list", "payments", "pods", "status"), options: gives},
		"Stars":         {reason: "Guardrails judge requests: nobody is told that all are allowed.", ask: ask("list", "payments", "pods", "*"), options: gives},
		"S6Nobody":      {reason: "Nobody is refused.", ask: ask("list", "payments", "pods"), user: "-", want: authorizationv1.SubjectAccessReviewStatus{Denied: true, Reason: `refused by guardrail "identity": the user has no name, or a group without one`}},
		"S6Group":       {reason: "So is who is in a group without a name.", ask: ask("list", "payments", "pods"), groups: []string{"devs", ""}, want: authorizationv1.SubjectAccessReviewStatus{Denied: true, Reason: `refused by guardrail "identity": the user has no name, or a group without one`}},
		"OtherMember":   {reason: "Of another cluster there is no grant.", ask: ask("list", "payments", "pods"), path: "/dev", options: gives},
		"NotAccepted":   {reason: "Nor of one that was not let in.", ask: ask("list", "payments", "pods"), path: "/new", options: gives},
		"Slash":         {reason: "As client-go may write it.", ask: ask("create", "other", "pods", "exec"), path: "/prod/", want: refused},
		"Query":         {reason: "As people may.", ask: ask("create", "other", "pods", "exec"), path: "?cluster=prod", want: refused},
		"Default":       {reason: "Whoever names none is the default.", ask: ask("create", "other", "pods", "exec"), path: "/", options: HandlerOptions{Cluster: "prod"}, want: refused},
		"Hub":           {reason: "Guardrails are about members.", ask: ask("create", "other", "pods", "exec"), path: "/"},
		"HubInFleet":    {reason: "And the hub may be one.", ask: ask("create", "other", "pods", "exec"), path: "/", options: HandlerOptions{Hub: "hub"}, want: refused},
		"HubGives":      {reason: "With grants of its own.", ask: ask("list", "payments", "pods"), path: "/hub", options: HandlerOptions{Hub: "hub", AllowFromGrants: true}, want: granted},
		"Way":           {reason: "The way is open for what a grant needs.", ask: through("get", "proxy.sallyport.dev", "prod"), path: "/", options: gives, want: granted},
		"WayInFleet":    {reason: "Also where the hub is one of the fleet.", ask: through("get", "proxy.sallyport.dev", "prod"), path: "/hub", options: HandlerOptions{Hub: "hub", AllowFromGrants: true}, want: granted},
		"WayVerb":       {reason: "And for no more.", ask: through("create", "proxy.sallyport.dev", "prod"), path: "/", options: gives},
		"WayListed":     {reason: "No request to it is a list.", ask: through("list", "proxy.sallyport.dev", "prod"), path: "/", options: gives},
		"WayOther":      {reason: "And to no other cluster.", ask: through("get", "proxy.sallyport.dev", "dev"), path: "/", options: gives},
		"WayAll":        {reason: "Nor to all at once.", ask: through("get", "proxy.sallyport.dev", "*"), path: "/", options: gives},
		"S17WayGroup":   {reason: "Nor in a group that looks alike.", ask: through("get", "proxy.sallyport.dev.example.org", "prod"), path: "/", options: gives},
		"WayKarmada":    {reason: "Nor by a proxy that does not lead there.", ask: through("get", "cluster.karmada.io", "prod"), path: "/", options: gives},
		"WayNotAllowed": {reason: "Nor to one that was not let in.", ask: through("get", "proxy.sallyport.dev", "new"), path: "/", options: gives},
		"WayExpired":    {reason: "Nor after its end.", ask: through("get", "proxy.sallyport.dev", "prod"), path: "/", options: gives, at: noon.Add(time.Hour)},
		"WayOnMember":   {reason: "On a member there is no such way.", ask: through("get", "proxy.sallyport.dev", "prod"), options: gives},
		"WayRBAC":       {reason: "Where RBAC is there, it decides.", ask: through("get", "proxy.sallyport.dev", "prod"), path: "/"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			tc.ask.User, tc.ask.Groups = "alice", []string{"devs"}
			if tc.user != "" {
				tc.ask.User = strings.TrimPrefix(tc.user, "-")
			}
			if tc.groups != nil {
				tc.ask.Groups = tc.groups
			}
			if tc.at.IsZero() {
				tc.at = noon
			}
			if tc.path == "" {
				tc.path = "/prod"
			}
			tc.options.Index, tc.options.Clock = fixed{index(t)}, testclock.NewFakePassiveClock(tc.at)
			for version, body := range reviews(t, tc.ask) {
				w := post(NewHandler(tc.options), Path+tc.path, body)
				var got authorizationv1.SubjectAccessReview
				if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || w.Code != http.StatusOK {
					t.Fatalf("%s: %d %s", version, w.Code, w.Body)
				}
				got.Status.Reason = number.ReplaceAllString(got.Status.Reason, "")
				if diff := cmp.Diff(tc.want, got.Status); diff != "" || got.APIVersion != group+version || got.Kind != kind {
					t.Errorf("%s: %s It is a %s of %s (-want +got):\n%s", version, tc.reason, got.Kind, got.APIVersion, diff)
				}
			}
		})
	}
}

// TestNoAnswer: what cannot be answered is an error with a reason, by which the API
// server logs it, and never an answer.
func TestNoAnswer(t *testing.T) {
	spec := ask("list", "payments", "pods")
	spec.User, spec.Groups = "alice", []string{"devs"}
	good := string(reviews(t, spec)["v1"])
	gives := HandlerOptions{Index: fixed{index(t)}, AllowFromGrants: true, Cluster: "prod", Clock: testclock.NewFakePassiveClock(noon)}
	if w := post(NewHandler(gives), Path, []byte(good)); !strings.Contains(w.Body.String(), `"allowed":true`) {
		t.Fatalf("what is good is answered with %d %s", w.Code, w.Body)
	}
	unknown, lapsed, full := gives, gives, gives
	unknown.Index = fixed{}
	lapsed.Ready = func(*http.Request) error { return errors.New("lapsed") }
	full.MaxRequests = 1
	for name, tc := range map[string]struct {
		reason       string
		options      *HandlerOptions
		method, path string
		body         string
		code         int
		says         string
	}{
		"Get":         {reason: "A review is posted.", method: http.MethodGet, code: 405, says: "posted"},
		"Empty":       {reason: "There is no review.", body: " ", code: 400, says: "not JSON"},
		"NoJSON":      {reason: "Nor here; and nothing is quoted.", body: "canary", code: 400, says: "not JSON"},
		"Kind":        {reason: "Another kind.", body: strings.Replace(good, `"SubjectAccessReview"`, `"TokenReview"`, 1), code: 400, says: "SubjectAccessReview"},
		"Version":     {reason: "A version that nobody knows.", body: strings.Replace(good, "k8s.io/v1", "k8s.io/v2", 1), code: 400, says: "v1beta1"},
		"Group":       {reason: "Another group.", body: strings.Replace(good, "authorization.k8s.io", "authorization.evil.io", 1), code: 400, says: "v1beta1"},
		"Large":       {reason: "Too large to be read.", body: good + strings.Repeat(" ", maxReview), code: 413, says: "larger"},
		"TwoNames":    {reason: "Which of the two?", path: "/dev?cluster=prod", code: 400, says: "name of one cluster"},
		"TwoQueries":  {reason: "Likewise.", path: "?cluster=prod&cluster=prod", code: 400, says: "name of one cluster"},
		"NoName":      {reason: "A slip is not to be taken for the hub.", path: "?cluster=", code: 400, says: "name of one cluster"},
		"BadName":     {reason: "No cluster is called so.", path: "?cluster=*", code: 400, says: "name of one cluster"},
		"BadQuery":    {reason: "What it says cannot be told.", path: "?cluster=prod;cluster=dev", code: 400, says: "name of one cluster"},
		"OtherPath":   {reason: "Nothing is there.", path: "/prod/x", code: 404},
		"S16Unknown":  {reason: "Before anything is known nothing is answered.", options: &unknown, code: 503, says: "not known"},
		"S16Lapsed":   {reason: "Nor when it is known no more.", options: &lapsed, code: 503, says: "not known"},
		"Overload":    {reason: "API servers ask again on this.", options: &full, code: 429, says: "too many"},
		"UnknownName": {reason: "Nobody is exempt by having no name.", options: &unknown, body: strings.Replace(good, `"alice"`, `""`, 1), code: 503, says: "not known"},
	} {
		if tc.options == nil {
			tc.options = &gives
		}
		if tc.method == "" {
			tc.method = http.MethodPost
		}
		if tc.body == "" {
			tc.body = good
		}
		registry := prometheus.NewRegistry()
		tc.options.Metrics, _ = NewMetrics(registry) // into an empty one
		h := NewHandler(*tc.options)
		if tc.options == &full {
			h.underWay.Add(1)
		}
		w := httptest.NewRecorder()
		paths(h).ServeHTTP(w, httptest.NewRequest(tc.method, Path+tc.path, strings.NewReader(tc.body)))
		if w.Code != tc.code || !strings.Contains(w.Body.String(), tc.says) || strings.Contains(w.Body.String(), "canary") || strings.Contains(w.Body.String(), "allowed") {
			t.Errorf("%s: %s Got %d %s; want %d that says %q.", name, tc.reason, w.Code, w.Body, tc.code, tc.says)
		}
		if n := testutil.CollectAndCount(tc.options.Metrics.reviews); n != 1 && tc.code != http.StatusNotFound {
			t.Errorf("%s: it is not counted", name)
		}
		if w.Header().Get("Retry-After") != "" {
			t.Errorf("%s: the API server is made to wait, in place of its failure policy", name)
		}
	}
}

// TestExemptWhileUnknown: who is to mend it gets past, to RBAC and no further.
func TestExemptWhileUnknown(t *testing.T) {
	h := NewHandler(HandlerOptions{Index: fixed{}, Cluster: "prod", AllowFromGrants: true, Exempt: []string{"root"}})
	spec := ask("create", "other", "pods", "exec")
	spec.User = "root"
	if w := post(h, Path, reviews(t, spec)["v1"]); w.Code != http.StatusOK || !strings.Contains(w.Body.String(), `{"allowed":false}`) {
		t.Errorf("got %d %s", w.Code, w.Body)
	}
}

// entries of a decision log.
type entries []*decisionlog.Entry

func (l *entries) Log(e *decisionlog.Entry) { *l = append(*l, e) }

// TestDecisionsAreLogged with what was decided by which layer, and told by its number.
func TestDecisionsAreLogged(t *testing.T) {
	type logged struct{ Cluster, Verdict, Layer string }
	tests := map[string]struct {
		path string
		ask  authorizationv1.SubjectAccessReviewSpec
		user string
		want []logged
	}{
		"Given":      {"/prod", ask("list", "payments", "pods"), "alice", []logged{{"prod", "allow", ""}}},
		"NotGranted": {"/prod", ask("list", "other", "pods"), "alice", []logged{{"prod", "no-opinion", "grant"}}},
		"Denied":     {"/prod", ask("create", "payments", "pods", "exec", "api-0"), "alice", []logged{{"prod", "deny", "guardrail"}}},
		"Exempt":     {"/prod", ask("create", "payments", "pods", "exec", "api-0"), "root", []logged{{"prod", "no-opinion", ""}}},
		"Way":        {"/", through("get", "proxy.sallyport.dev", "prod"), "alice", []logged{{"", "allow", "hub"}}},
		"Nothing":    {"/", ask("list", "payments", "pods"), "alice", nil},
	}
	for name, tc := range tests {
		var log entries
		h := NewHandler(HandlerOptions{Index: fixed{index(t)}, AllowFromGrants: true, Exempt: []string{"root"}, Log: &log, Clock: testclock.NewFakePassiveClock(noon)})
		tc.ask.User, tc.ask.Groups = tc.user, []string{"devs"}
		said := post(h, Path+tc.path, reviews(t, tc.ask)["v1"]).Body.String()
		var got []logged
		for _, e := range log {
			got = append(got, logged{e.Request.Cluster, e.Verdict, e.Layer})
			if e.Server != decisionlog.Authorizer || e.ID == "" || e.Snapshot == 0 || e.PolicyDigest == "" || !e.Time.Equal(noon) {
				t.Errorf("%s: %+v", name, e)
			}
			if e.Verdict == decisionlog.Deny && !strings.Contains(said, "(decision "+e.ID+")") {
				t.Errorf("%s: the answer does not name the decision: %s", name, said)
			}
		}
		if diff := cmp.Diff(tc.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// TestRefusalNamesTheException: who has a grant is told how to get past the guardrail.
func TestRefusalNamesTheException(t *testing.T) {
	ix := index(t, "input.request.resource != 'pods'")
	q := &effective.Request{Cluster: "prod", At: noon}
	spec := ask("list", "payments", "pods")
	spec.User, spec.Groups = "alice", []string{"devs"}
	if _, err := decode(string(reviews(t, spec)["v1"]), q); err != nil {
		t.Fatal(err)
	}
	d := ix.DecideConnect(q)
	if got, want := refusal(&d, "x-1"), noShell+stands+" (decision x-1)"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
