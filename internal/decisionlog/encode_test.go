package decisionlog

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/google/go-cmp/cmp"
)

// filled is a value with all fields set, by reflection so that a new field cannot be
// forgotten.
func filled[T any](text func() string) T {
	var out T
	fill(reflect.ValueOf(&out).Elem(), text)
	return out
}

func fill(v reflect.Value, text func() string) {
	switch v.Kind() {
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			v.Set(reflect.ValueOf(time.Date(2026, 1, 5, 10, 0, 0, 123456789, time.UTC)))
			return
		}
		for i := range v.NumField() {
			fill(v.Field(i), text)
		}
	case reflect.String:
		v.SetString(text())
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(-42)
	case reflect.Uint64:
		v.SetUint(1<<64 - 1)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 3, 3))
		for i := range 3 {
			fill(v.Index(i), text)
		}
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		for range 3 {
			key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
			fill(key, text)
			fill(value, text)
			v.SetMapIndex(key, value)
		}
	default:
		panic(v.Type())
	}
}

func counted() func() string {
	n := 0
	return func() string { n++; return fmt.Sprintf("text %d é 東京", n) }
}

// TestEncode: a line is what encoding/json makes of an entry, whole and empty.
func TestEncode(t *testing.T) {
	for name, e := range map[string]Entry{"Full": filled[Entry](counted()), "Empty": {}, "NoGroups": {User: User{Groups: []string{}, Extra: map[string][]string{"a": nil, "b": {}}}}} {
		want, err := json.Marshal(&e)
		if err != nil {
			t.Fatal(err)
		}
		if name == "NoGroups" { // there is no null in the log
			want = bytes.Replace(want, []byte("null"), []byte("[]"), 1)
		}
		if diff := cmp.Diff(string(want)+"\n", string(appendEntry(nil, &e))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	d := Dropped{Version: Version, Time: time.Unix(0, 0).UTC(), Event: EventDropped, Count: 3, Reasons: map[string]uint64{"queue-full": 2, "closed": 1}}
	want, err := json.Marshal(&d)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want)+"\n", string(appendDropped([]byte("{}\n"), &d))[3:]); diff != "" {
		t.Errorf("dropped (-want +got):\n%s", diff)
	}
}

// TestOneLine: S25. Whatever a caller writes into names and paths, an entry is one line
// to everything that reads lines, says the same when it is read, and does nothing to a
// terminal.
func TestOneLine(t *testing.T) {
	hostile := []string{
		"\n", "\r\n", "\u2028", "\u2029", "\u0085", "\v", "\f", "\x00", "\x1b[2J", "\x7f", "\u009b31m", "\u202e", "\u2066", "\u200b", "\ufeff",
		"\U000e0041", `"`, `\`, `\n`, `","verdict":"allow"`, "\xff\xfe", "\xed\xa0\x80", "�", "🙂", "</script>", "",
	}
	i := -1
	e := filled[Entry](func() string { i++; return fmt.Sprintf("%d %s", i, hostile[i%len(hostile)]) })
	line := appendEntry(nil, &e)
	for _, r := range strings.TrimSuffix(string(line), "\n") {
		if unicode.IsControl(r) || unicode.In(r, unicode.Cf, unicode.Zl, unicode.Zp) {
			t.Errorf("%U is in the line", r)
		}
	}
	var got, want Entry
	if err := json.Unmarshal(line, &got); err != nil {
		t.Fatalf("%v\n%s", err, line)
	}
	slow, err := json.Marshal(&e)
	if err == nil {
		err = json.Unmarshal(slow, &want)
	}
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// FuzzEncode: any text comes back as encoding/json has it come back.
func FuzzEncode(f *testing.F) {
	f.Add("ann", "/api/v1/\u2028")
	f.Add("\xff\"\\", "\U000e0041\x1b")
	f.Fuzz(func(t *testing.T, name, path string) {
		e := Entry{User: User{Name: name, Extra: map[string][]string{name: {path}}}, Request: Request{Path: path}}
		line := appendEntry(nil, &e)
		if n := bytes.Count(line, []byte{'\n'}); n != 1 || len(line) > maxLine+maxLine/2 {
			t.Fatalf("%d lines, %d bytes", n, len(line))
		}
		var got, want Entry
		if err := json.Unmarshal(line, &got); err != nil {
			t.Fatalf("%v\n%s", err, line)
		}
		slow, err := json.Marshal(&e)
		if err == nil {
			err = json.Unmarshal(slow, &want)
		}
		if err != nil {
			t.Fatal(err)
		}
		if got.Truncated {
			return
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
}

// TestLongEntry: nobody can stay out of the log, or fill it, with long names and many
// groups.
func TestLongEntry(t *testing.T) {
	many := make([]string, 100_000)
	extra := map[string][]string{}
	for i := range many {
		many[i] = fmt.Sprintf("group-%d-%s", i, strings.Repeat("x", rand.IntN(20)))
		extra[many[i]] = many[i : i+1]
	}
	for name, change := range map[string]func(*Entry){
		"Path":     func(e *Entry) { e.Request.Path = "/" + strings.Repeat("\u202e", 1<<20) },
		"Groups":   func(e *Entry) { e.User.Groups = many },
		"Extra":    func(e *Entry) { e.User.Extra = extra },
		"ExtraOne": func(e *Entry) { e.User.Extra = map[string][]string{"a": many} },
		"Reasons":  func(e *Entry) { e.Reasons = make([]Reason, 100_000) },
		"Cut": func(e *Entry) {
			e.Request.Path, e.Request.Name = "/"+strings.Repeat("é", 1<<20), strings.Repeat("🙂", 100)+"\xff"
		},
		"All": func(e *Entry) {
			*e = filled[Entry](func() string { return strings.Repeat("\x00", 1<<16) + many[rand.IntN(len(many))] })
		},
	} {
		e := Entry{User: User{Name: "mallory"}, Verdict: Deny, Layer: LayerGrant}
		change(&e)
		line := appendEntry([]byte("before\n"), &e)[len("before\n"):]
		if len(line) > maxLine {
			t.Errorf("%s: the line has %d bytes", name, len(line))
		}
		var got Entry
		if err := json.Unmarshal(line, &got); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if !got.Truncated || got.Verdict != e.Verdict[:min(len(e.Verdict), len(got.Verdict))] && name != "All" {
			t.Errorf("%s: truncated %t, verdict %q", name, got.Truncated, got.Verdict)
		}
		if strings.Contains(got.Request.Path+got.Request.Name, "�") {
			t.Errorf("%s: a character was cut: %q %q", name, got.Request.Path, got.Request.Name)
		}
	}
}

func typical() *Entry {
	return &Entry{
		Version: Version, Time: time.Date(2026, 1, 5, 10, 0, 0, 123456789, time.UTC), ID: "2c7a5d0e-6c35-4f0a-9a53-0e6a9a6f7a11",
		Server: Gateway, Event: EventRequest,
		User: User{Name: "ann@example.com", UID: "u-1", Groups: []string{"payments-oncall", "system:authenticated"}, Extra: map[string][]string{"authentication.kubernetes.io/credential-id": {"X509SHA256=abc"}}},
		Request: Request{
			Cluster: "prod-eu-1", Verb: "get", APIVersion: "v1", Resource: "pods", Namespace: "payments", Name: "api-0",
			Path: "/api/v1/namespaces/payments/pods/api-0", Method: "GET", RemoteAddr: "10.0.0.1:4711",
		},
		Verdict: Allow, Grants: []Grant{{Namespace: "payments", Name: "oncall", Role: "AccessRole pod-operator", Revision: "main@sha1:9b1e5a3c4f0d2b7a8e6c1d3f5a7b9c0d2e4f6a8b"}},
		Snapshot: 7, PolicyDigest: strings.Repeat("ab", 32), LatencyMicros: 12, Status: 200,
	}
}

func BenchmarkEncode(b *testing.B) {
	e := typical()
	b.Run("Line", func(b *testing.B) {
		var buf []byte
		b.ReportAllocs()
		for b.Loop() {
			buf = appendEntry(buf[:0], e)
		}
		b.SetBytes(int64(len(buf)))
	})
	b.Run("encoding-json", func(b *testing.B) {
		var buf bytes.Buffer
		enc := json.NewEncoder(&buf)
		b.ReportAllocs()
		for b.Loop() {
			buf.Reset()
			if err := enc.Encode(e); err != nil {
				b.Fatal(err)
			}
		}
		b.SetBytes(int64(buf.Len()))
	})
}
