package authz

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	testclock "k8s.io/utils/clock/testing"

	"github.com/sallyport-dev/sallyport/internal/core/effective"
	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
)

// TestS14KeptIsNoOther: whatever is asked when, and whichever index there is, the answer is
// the one that a handler gives which remembers nothing; and what is asked again is
// remembered.
func TestS14KeptIsNoOther(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	indexes := []*effective.Index{
		index(t), index(t), index(t, "input.request.verb != 'list'"),
		// One that looks at the instant, and one that cannot be evaluated for alice.
		index(t, "input.now < timestamp('2030-01-07T12:30:30Z')"), index(t, "input.request.user.extra['none'][0] != 'x' || input.request.user.name != 'alice'"), nil,
	}
	var asked [][]byte
	for _, spec := range []authorizationv1.SubjectAccessReviewSpec{
		ask("list", "payments", "pods"), ask("list", "payments", "secrets"), ask("get", "payments", "pods", "exec"), ask("create", "payments", "pods", "exec"),
		ask("get", "/debug/x"), through("get", "proxy.sallyport.dev", "prod"), through("create", "proxy.sallyport.dev", "prod"),
	} {
		for _, user := range []string{"alice", "root", "bob"} {
			spec.User, spec.Groups = user, []string{"devs"}
			for _, body := range reviews(t, spec) {
				asked = append(asked, body)
			}
		}
	}
	asked = append(asked, []byte("{}"))
	ix, clock := &moving{}, testclock.NewFakePassiveClock(noon)
	o := HandlerOptions{Index: ix, AllowFromGrants: true, Hub: "hub", Exempt: []string{"root"}, Clock: clock}
	keeps := NewHandler(o)
	hits := 0
	for range 20_000 {
		switch rnd.IntN(40) {
		case 0:
			ix.Store(indexes[rnd.IntN(len(indexes))])
		case 1:
			clock.SetTime(noon.Add(time.Duration(rnd.IntN(3)) * 30 * time.Minute))
		case 2:
			clock.SetTime(clock.Now().Add(time.Duration(rnd.IntN(20)) * time.Second))
		}
		body, path := asked[rnd.IntN(len(asked))], Path+[]string{"", "/prod", "/hub", "/dev", "/new"}[rnd.IntN(5)]
		g := keeps.kept.of.Load()
		if g != nil && g.index == ix.Load() && g.all[key(strings.TrimPrefix(strings.TrimPrefix(path, Path), "/"))+string(body)] != nil {
			hits++
		}
		got, want := post(keeps, path, body), post(NewHandler(o), path, body)
		if got, want := number.ReplaceAllString(got.Body.String(), ""), number.ReplaceAllString(want.Body.String(), ""); got != want {
			t.Fatalf("at %s, about %s, %s is answered with %s, want %s", clock.Now(), path, body, got, want)
		}
	}
	if hits == 0 {
		t.Error("nothing was remembered")
	}
}

// hasty is a guardrail that misses its deadline the first time.
type hasty struct{ asked *int }

func (h hasty) Timed() bool { return false }

func (h hasty) Check(*guardrail.Input) ([]guardrail.Violation, error) {
	if *h.asked++; *h.asked == 1 {
		return nil, errors.New("it took too long")
	}
	return nil, nil
}

// TestS16FailureIsNotKept: what could not be evaluated once is refused once.
func TestS16FailureIsNotKept(t *testing.T) {
	asked := 0
	o := gives(t)
	o.Index = fixed{indexBy(&guardrail.Guardrail{Name: "hasty", Digest: "hasty", Points: 1 << guardrail.Request, Check: hasty{&asked}})}
	h := NewHandler(o)
	spec := ask("list", "payments", "pods")
	spec.User, spec.Groups = "alice", []string{"devs"}
	for i, want := range []string{`"denied":true`, `"allowed":true`, `"allowed":true`, `"allowed":true`, `"allowed":true`} {
		if got := post(h, Path, reviews(t, spec)["v1"]).Body.String(); !strings.Contains(got, want) {
			t.Errorf("answer %d is %s, want %s", i, got, want)
		}
	}
	if asked != 3 {
		t.Errorf("the guardrail was asked %d times: its second answer holds, and is kept the next time", asked)
	}
}

// TestKeptIsBounded: neither many reviews nor large ones fill the memory.
func TestKeptIsBounded(t *testing.T) {
	h := NewHandler(gives(t))
	spec := ask("list", "payments", "pods")
	spec.Groups = []string{"devs"}
	for i := range mostKept + 10 {
		spec.User = fmt.Sprint("user-", i)
		body, err := json.Marshal(map[string]any{"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec})
		if err != nil {
			t.Fatal(err)
		}
		post(h, Path, body)
		if n := len(h.kept.of.Load().all); n > i {
			t.Fatalf("%d are kept, of %d that were asked once", n, i+1)
		}
		post(h, Path, body)
	}
	spec.User = strings.Repeat("u", largestKept)
	for range 2 {
		post(h, Path, reviews(t, spec)["v1"])
	}
	if n := len(h.kept.of.Load().all); n == 0 || n > mostKept {
		t.Errorf("%d are kept", n)
	}
	for key := range h.kept.of.Load().all {
		if len(key) > largestKept {
			t.Errorf("one of %d bytes is kept", len(key))
		}
	}
}
