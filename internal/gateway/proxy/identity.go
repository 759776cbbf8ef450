package proxy

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"k8s.io/apiserver/pkg/authentication/user"

	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
	"github.com/sallyport-dev/sallyport/internal/core/rules"
)

const (
	impersonateUser  = "Impersonate-User"
	impersonateUID   = "Impersonate-Uid"
	impersonateGroup = "Impersonate-Group"
	impersonateExtra = "Impersonate-Extra-"
)

// identity is who a request is from, in the headers of Kubernetes' impersonation. It is a
// function of the user and of the groups that may be told, and of nothing else (S2).
type identity http.Header

// identityOf a user with the groups that a grant names on the cluster. An error is for
// the caller: what cannot be told exactly is not told at all (S5, S6).
func identityOf(u *guardrail.User, groups []string, extra extraHeaders) (identity, error) {
	if u.Name == "" {
		return nil, fmt.Errorf("the user has no name")
	}
	if err := sendable("the user's name", u.Name); err != nil {
		return nil, err
	}
	h := identity{impersonateUser: {u.Name}}
	if u.UID != "" {
		if err := sendable("the user's UID", u.UID); err != nil {
			return nil, err
		}
		h[impersonateUID] = []string{u.UID}
	}
	for _, g := range groups {
		switch g {
		case "":
			return nil, fmt.Errorf("the user has a group without a name")
		case user.SystemPrivilegedGroup, user.NodesGroup:
			continue // S7: no grant names them, and they are never told
		}
		if err := sendable("the name of a group", g); err != nil {
			return nil, err
		}
		h[impersonateGroup] = append(h[impersonateGroup], g)
	}
	for key, values := range u.Extra {
		header, known := extra[strings.ToLower(key)]
		if known && header == "" {
			continue // withheld, by name
		}
		// The member reads keys in lower case: what differs in case only would be one.
		if key == "" || key != strings.ToLower(key) {
			return nil, fmt.Errorf("the user has the extra attribute %q, whose key is empty or not in lower case", guardrail.Tidy(key))
		}
		// Left out, it could be one by which a member gives less.
		if !known {
			return nil, fmt.Errorf("the user has the extra attribute %q, which the gateway has not been told to present to members or to withhold", guardrail.Tidy(key))
		}
		for _, v := range values {
			if err := sendable("an extra attribute of the user", v); err != nil {
				return nil, err
			}
		}
		if len(values) > 0 {
			h[header] = slices.Clone(values)
		}
	}
	return h, nil
}

// Extra says what members are told of the extra of identities, beside what Kubernetes'
// own authenticators put there. Of what is not named here nobody knows what it means: it
// is neither told nor left out, and whoever has it is refused.
type Extra struct {
	// Keys that are told, which the controller has to know, too.
	Keys []string
	// Withheld are keys that are not, in any case of letters.
	Withheld []string
}

// Validate says what cannot be.
func (e *Extra) Validate() error {
	var errs []error
	for _, key := range e.Keys {
		errs = append(errs, rules.CheckExtraKey(key))
		if slices.ContainsFunc(e.Withheld, func(w string) bool { return strings.EqualFold(w, key) }) {
			errs = append(errs, fmt.Errorf("the key of extra %q is both told and withheld", key))
		}
	}
	if slices.Contains(e.Withheld, "") {
		errs = append(errs, errors.New("a key of extra to be withheld is empty"))
	}
	return errors.Join(errs...)
}

// extraHeaders are the headers by key; "" for what is withheld.
type extraHeaders map[string]string

func (e *Extra) headers() extraHeaders {
	out := extraHeaders{}
	for _, key := range slices.Concat(rules.ExtraKeys(), e.Keys) {
		out[key] = http.CanonicalHeaderKey(impersonateExtra + escapeKey(key))
	}
	for _, key := range e.Withheld {
		out[strings.ToLower(key)] = ""
	}
	return out
}

// logged is what of an extra is written down: the values of what members may be told.
// Of others, nobody has said that they are no secrets.
func (e extraHeaders) logged(extra map[string][]string) map[string][]string {
	told := func(key string) bool { return e[strings.ToLower(key)] != "" }
	all := true
	for key := range extra {
		all = all && told(key)
	}
	if all {
		return extra
	}
	out := make(map[string][]string, len(extra))
	for key, values := range extra {
		if out[key] = []string{}; told(key) {
			out[key] = values
		}
	}
	return out
}

// sendable refuses what a header would change: the receiver trims white space.
func sendable(what, s string) error {
	if s != strings.TrimSpace(s) || strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return fmt.Errorf("%s begins or ends with white space or has control characters, and cannot be told to a member", what)
	}
	return nil
}

// escapeKey writes what a header's name cannot have as %XX, by which the member reads it.
func escapeKey(key string) string {
	var b strings.Builder
	for i := range len(key) {
		if c := key[i]; c != '%' && isTokenByte(c) {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

// isTokenByte is RFC 9110's tchar.
func isTokenByte(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0
}

// set replaces all that the caller has said of who it is (S1, S2). The headers are those
// of the request to the member, without the hop-by-hop ones.
func (i identity) set(h http.Header) {
	for name, values := range h {
		switch {
		case isTheCallers(name):
			delete(h, name)
		case strings.EqualFold(name, websocketProtocols):
			if h[name] = withoutBearer(values); len(h[name]) == 0 {
				delete(h, name)
			}
		}
	}
	maps.Copy(h, i)
}

const (
	websocketProtocols = "Sec-Websocket-Protocol"
	// bearerProtocol is followed by a token, by which browsers tell Kubernetes who they
	// are (k8s.io/apiserver/pkg/authentication/request/websocket).
	bearerProtocol = "base64url.bearer.authorization.k8s.io."
)

// withoutBearer is the subprotocols of a WebSocket that are no credential.
func withoutBearer(values []string) []string {
	if !slices.ContainsFunc(values, func(v string) bool { return strings.Contains(strings.ToLower(v), bearerProtocol) }) {
		return values
	}
	var kept []string
	for _, v := range values {
		for p := range strings.SplitSeq(v, ",") {
			if p = strings.TrimSpace(p); !strings.HasPrefix(strings.ToLower(p), bearerProtocol) {
				kept = append(kept, p)
			}
		}
	}
	if len(kept) == 0 {
		return nil
	}
	return []string{strings.Join(kept, ", ")}
}

// isTheCallers reports whether a header is about who the caller is or by which way it
// came, however it is spelled: some servers read an underscore as a hyphen.
func isTheCallers(name string) bool {
	n := strings.ReplaceAll(strings.ToLower(name), "_", "-")
	switch n {
	case "authorization", "cookie", "forwarded", "x-real-ip":
		return true
	}
	for _, prefix := range []string{"impersonate-", "x-remote-", "x-forwarded-", "proxy-"} {
		if strings.HasPrefix(n, prefix) {
			return true
		}
	}
	return false
}
