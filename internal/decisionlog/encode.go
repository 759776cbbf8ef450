package decisionlog

import (
	"maps"
	"math"
	"slices"
	"strconv"
	"time"
	"unicode"
	"unicode/utf8"
)

// The most bytes of a line, and what is left of a text and of a list where it would
// have more: a caller decides how long names and paths are, and shall be able neither to
// fill the log with one request nor to stay out of it.
const (
	maxLine    = 1 << 20
	shortText  = 256
	shortLists = 32
)

// appendEntry appends the line of an entry: what encoding/json makes of it, but that
// every character is escaped which ends a line somewhere, turns the direction of
// writing, or is obeyed by a terminal. It is written by hand since it is for every
// request: it takes a third of the time, and allocates nothing.
func appendEntry(to []byte, e *Entry) []byte {
	x := encoder{b: to, text: math.MaxInt, lists: math.MaxInt, limit: len(to) + maxLine}
	x.entry(e)
	if !x.over {
		return x.b
	}
	short := *e
	short.Truncated = true
	x = encoder{b: x.b[:len(to)], text: shortText, lists: shortLists, limit: math.MaxInt}
	x.entry(&short)
	return x.b
}

// appendDropped appends the line of a hole.
func appendDropped(to []byte, d *Dropped) []byte {
	x := encoder{b: to, text: math.MaxInt, lists: math.MaxInt, limit: math.MaxInt}
	x.open()
	x.string("version", d.Version)
	x.time("time", d.Time)
	x.string("event", d.Event)
	x.key("count")
	x.b = strconv.AppendUint(x.b, d.Count, 10)
	x.key("reasons")
	x.open()
	for _, reason := range slices.Sorted(maps.Keys(d.Reasons)) {
		x.key(reason)
		x.b = strconv.AppendUint(x.b, d.Reasons[reason], 10)
	}
	x.close('}')
	x.close('}')
	return append(x.b, '\n')
}

type encoder struct {
	b []byte
	// text and lists are the most bytes and elements of one.
	text, lists int
	// limit that b is not to reach; over says that it would have.
	limit int
	over  bool
}

func (x *encoder) entry(e *Entry) {
	x.open()
	x.string("version", e.Version)
	x.time("time", e.Time)
	x.string("id", e.ID)
	x.string("server", e.Server)
	x.string("event", e.Event)
	x.key("user")
	x.user(&e.User)
	x.key("request")
	x.request(&e.Request)
	x.string("verdict", e.Verdict)
	x.optional("layer", e.Layer)
	list(x, "reasons", e.Reasons, x.reason)
	list(x, "grants", e.Grants, x.grant)
	x.key("snapshot")
	x.b = strconv.AppendUint(x.b, e.Snapshot, 10)
	x.optional("policyDigest", e.PolicyDigest)
	x.int("latencyMicros", e.LatencyMicros)
	if e.Status != 0 {
		x.int("status", int64(e.Status))
	}
	x.optionalBool("truncated", e.Truncated)
	x.close('}')
	x.b = append(x.b, '\n')
}

func (x *encoder) user(u *User) {
	x.open()
	x.string("name", u.Name)
	x.optional("uid", u.UID)
	list(x, "groups", u.Groups, x.element)
	if len(u.Extra) > 0 {
		x.key("extra")
		x.extra(u.Extra)
	}
	x.close('}')
}

func (x *encoder) extra(extra map[string][]string) {
	left := x.lists
	x.open()
	keys := make([]string, 0, 8) // on the stack, as they are few
	for k := range extra {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for _, k := range keys {
		if left <= 0 || x.over {
			break
		}
		x.comma()
		x.quote(k)
		x.b = append(x.b, ':', '[')
		for _, v := range extra[k] {
			if left <= 0 || x.over {
				break
			}
			x.element(&v)
			left--
		}
		x.close(']')
		left--
	}
	x.close('}')
}

func (x *encoder) request(r *Request) {
	x.open()
	x.string("cluster", r.Cluster)
	x.string("verb", r.Verb)
	x.optional("apiGroup", r.APIGroup)
	x.optional("apiVersion", r.APIVersion)
	x.optional("resource", r.Resource)
	x.optional("subresource", r.Subresource)
	x.optional("namespace", r.Namespace)
	x.optional("name", r.Name)
	x.optional("path", r.Path)
	x.optional("method", r.Method)
	x.optional("remoteAddr", r.RemoteAddr)
	x.close('}')
}

func (x *encoder) reason(r *Reason) {
	x.open()
	x.string("guardrail", r.Guardrail)
	x.string("enforcement", r.Enforcement)
	x.string("message", r.Message)
	x.optionalBool("failed", r.Failed)
	x.optional("detail", r.Detail)
	x.optional("exception", r.Exception)
	x.close('}')
}

func (x *encoder) grant(g *Grant) {
	x.open()
	x.string("namespace", g.Namespace)
	x.string("name", g.Name)
	x.optional("role", g.Role)
	x.int("rule", int64(g.Rule))
	x.optional("revision", g.Revision)
	x.close('}')
}

func (x *encoder) element(s *string) {
	x.comma()
	x.quote(*s)
}

// list of what has any.
func list[T any](x *encoder, key string, all []T, one func(*T)) {
	if len(all) == 0 {
		return
	}
	x.key(key)
	x.b = append(x.b, '[')
	for i := range all[:min(len(all), x.lists)] {
		if x.over {
			break
		}
		one(&all[i])
	}
	x.close(']')
}

// comma where something is before.
func (x *encoder) comma() {
	if last := x.b[len(x.b)-1]; last != '{' && last != '[' && last != ':' {
		x.b = append(x.b, ',')
	}
}

// open an object.
func (x *encoder) open() {
	if len(x.b) > 0 && x.b[len(x.b)-1] == '}' { // the next of a list
		x.b = append(x.b, ',')
	}
	x.b = append(x.b, '{')
}

// close an object or a list.
func (x *encoder) close(c byte) { x.b = append(x.b, c) }

// key that needs no escapes.
func (x *encoder) key(k string) {
	x.comma()
	x.b = append(x.b, '"')
	x.b = append(x.b, k...)
	x.b = append(x.b, '"', ':')
}

func (x *encoder) string(key, s string) {
	x.key(key)
	x.quote(s)
}

func (x *encoder) optional(key, s string) {
	if s != "" {
		x.string(key, s)
	}
}

func (x *encoder) optionalBool(key string, v bool) {
	if v {
		x.key(key)
		x.b = append(x.b, "true"...)
	}
}

func (x *encoder) int(key string, n int64) {
	x.key(key)
	x.b = strconv.AppendInt(x.b, n, 10)
}

func (x *encoder) time(key string, t time.Time) {
	x.key(key)
	x.b = append(x.b, '"')
	x.b = t.AppendFormat(x.b, time.RFC3339Nano)
	x.b = append(x.b, '"')
}

// quote a text.
func (x *encoder) quote(s string) {
	if len(s) > x.limit-len(x.b) {
		x.over = true
		s = ""
	}
	cut := len(s) > x.text
	if cut {
		s = s[:x.text]
		for i := len(s) - 1; i >= len(s)-utf8.UTFMax; i-- { // to the last whole character
			if utf8.RuneStart(s[i]) {
				if !utf8.FullRuneInString(s[i:]) {
					s = s[:i]
				}
				break
			}
		}
	}
	x.b = append(x.b, '"')
	x.b = appendEscaped(x.b, s)
	if cut {
		x.b = append(x.b, "…"...)
	}
	x.b = append(x.b, '"')
}

func appendEscaped(b []byte, s string) []byte {
	plain := 0 // from here on nothing had to be escaped
	for i := 0; i < len(s); {
		if c := s[i]; c >= 0x20 && c < 0x7f && c != '"' && c != '\\' {
			i++
			continue
		}
		r, size := utf8.DecodeRuneInString(s[i:])
		if r >= 0xa0 && r != utf8.RuneError && !unicode.In(r, unicode.Cf, unicode.Zl, unicode.Zp) {
			i += size
			continue
		}
		b = append(b, s[plain:i]...)
		b = appendEscape(b, r)
		i += size
		plain = i
	}
	return append(b, s[plain:]...)
}

const hexDigits = "0123456789abcdef"

func appendEscape(b []byte, r rune) []byte {
	switch {
	case r == '"', r == '\\':
		return append(b, '\\', byte(r))
	case r == '\n':
		return append(b, '\\', 'n')
	case r == '\r':
		return append(b, '\\', 'r')
	case r == '\t':
		return append(b, '\\', 't')
	case r > 0xffff:
		r -= 0x10000
		return appendEscape(appendEscape(b, 0xd800+r>>10), 0xdc00+r&0x3ff)
	}
	return append(b, '\\', 'u', hexDigits[r>>12&0xf], hexDigits[r>>8&0xf], hexDigits[r>>4&0xf], hexDigits[r&0xf])
}
