package caller

import (
	"testing"

	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/endpoints/request"

	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
)

func TestS6From(t *testing.T) {
	for name, tc := range map[string]struct {
		reason string
		user   user.Info
		ok     bool
	}{
		"Alice":      {"A name is enough.", &user.DefaultInfo{Name: "alice"}, true},
		"Nobody":     {"A context without a user is nobody's.", nil, false},
		"NoName":     {"A user without a name would be the gateway itself.", &user.DefaultInfo{Groups: []string{"dev"}}, false},
		"EmptyGroup": {"A group without a name is a mistake of who authenticated.", &user.DefaultInfo{Name: "alice", Groups: []string{"dev", ""}}, false},
		"Anonymous":  {"Anonymous is nobody.", &user.DefaultInfo{Name: user.Anonymous}, false},
		"Unauthenticated": {"Whatever the name.",
			&user.DefaultInfo{Name: "alice", Groups: []string{user.AllUnauthenticated}}, false},
	} {
		t.Run(name, func(t *testing.T) {
			ctx := t.Context()
			if tc.user != nil {
				ctx = request.WithUser(ctx, tc.user)
			}
			if u, err := From(ctx); (err == nil) != tc.ok || (u != nil) != tc.ok {
				t.Errorf("%s\ngot %v, %v", tc.reason, u, err)
			}
		})
	}
}

// TestKeyOf: S14. Who differs in anything has another key.
func TestKeyOf(t *testing.T) {
	users := []guardrail.User{
		{Name: "a"}, {Name: "a", UID: "1"}, {Name: "a1"},
		{Name: "a", Groups: []string{"b"}}, {Name: "a", Groups: []string{"b", "c"}}, {Name: "a", Groups: []string{"bc"}}, {Name: "a", Groups: []string{"b", "c", ""}},
		{Name: "a", Extra: map[string][]string{"b": {"c"}}}, {Name: "a", Extra: map[string][]string{"b": {"c", "d"}}},
		{Name: "a", Extra: map[string][]string{"b": {"c"}, "d": nil}}, {Name: "a", Groups: []string{"b"}, Extra: map[string][]string{"c": nil}},
	}
	for i := range users {
		for j := range users {
			if same := KeyOf(&users[i]) == KeyOf(&users[j]); same != (i == j) {
				t.Errorf("%+v and %+v: same key: %t", users[i], users[j], same)
			}
		}
	}
	many := guardrail.User{Name: "a", Extra: map[string][]string{"b": nil, "c": nil, "d": nil, "e": nil}}
	first := KeyOf(&many)
	for range 20 {
		if KeyOf(&many) != first {
			t.Fatal("a key depends on the order of a map")
		}
	}
}
