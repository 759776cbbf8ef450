package examples

import (
	"os"
	"strings"
	"testing"
)

func TestRead(t *testing.T) {
	data, err := os.ReadFile("testdata/no-exec/examples.yaml")
	if err != nil {
		t.Fatal(err)
	}
	f, err := Read("examples.yaml", data)
	if err != nil {
		t.Fatal(err)
	}
	if len(f.Examples) != 6 || f.Examples[1].Messages[0].Field != "spec.reason" || f.Examples[5].Request.Name != "api-0" {
		t.Errorf("read %+v", f.Examples)
	}
}

func TestReadRefuses(t *testing.T) {
	const fine = "now: \"2026-01-05T10:00:00Z\"\nfleet: [{name: a}]\nexamples:\n- name: one\n  request: {user: {name: ann}, cluster: a, verb: get, path: /healthz}\n  expect: allowed\n"
	if _, err := Read("e.yaml", []byte(fine)); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct{ from, to, want string }{
		"UnknownField":        {"now:", "then: 1\nnow:", `e.yaml:1:1: then: unknown field`},
		"UnknownInExample":    {"expect:", "expects: x\n  expect:", `e.yaml:6:3: examples[0].expects: unknown field`},
		"UnknownInRequest":    {"verb: get", "verb: get, verbs: [a]", `e.yaml:5:55: examples[0].request.verbs: unknown field`},
		"WrongType":           {"verb: get", "verb: [get]", `e.yaml:5:44: examples[0].request.verb: cannot be of type array`},
		"Twice":               {"fleet: ", "now: x\nfleet: ", `e.yaml:2: key "now" already set in map`},
		"NoYAML":              {"fleet: ", "fleet: [", `e.yaml:2: did not find expected ',' or ']'`},
		"NoExpectation":       {"expect: allowed", "why: none", `e.yaml:4:3: examples[0].expect: must be allowed, refused, failed or unasked`},
		"NoMessages":          {"expect: allowed", "expect: refused", `e.yaml:4:3: examples[0]: what is refused needs the messages that people get`},
		"MessagesOfAllowed":   {"expect: allowed", "expect: allowed\n  messages: [a]", `e.yaml:7:3: examples[0].messages: only what is refused has messages`},
		"UnknownCluster":      {"cluster: a", "cluster: b", `e.yaml:5:32: examples[0].request.cluster: cluster "b" is not in fleet`},
		"NoInstant":           {"now: \"2026-01-05T10:00:00Z\"", "roles: {}", `there is no instant`},
		"Neither":             {"  request: {user: {name: ann}, cluster: a, verb: get, path: /healthz}\n", "", `must have either grant or request`},
		"NoExamples":          {"- name: one\n  request: {user: {name: ann}, cluster: a, verb: get, path: /healthz}\n  expect: allowed\n", "", `there are no examples`},
		"SecondDocument":      {"- name: one", "---\n- name: one", `e.yaml: one document is expected, not 2`},
		"UnknownInAMessage":   {"expect: allowed", "expect: refused\n  messages: [{massage: a}]", `massage: messages: unknown field`},
		"TheSameClusterTwice": {"{name: a}", "{name: a}, {name: a}", `fleet[1].name: each cluster needs a name of its own`},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Read("e.yaml", []byte(strings.Replace(fine, tc.from, tc.to, 1)))
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %v, want %q", err, tc.want)
			}
		})
	}
}

func FuzzRead(f *testing.F) {
	data, err := os.ReadFile("testdata/no-exec/examples.yaml")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte("a: &a [*a]\nexamples: *a"))
	f.Add([]byte("a: &a {<<: *a}"))
	f.Fuzz(func(_ *testing.T, data []byte) {
		_, _ = Read("e.yaml", data)
	})
}
