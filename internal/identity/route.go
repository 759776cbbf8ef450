package identity

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"time"

	"github.com/sallyport-dev/sallyport/internal/core/fleet"
	"github.com/sallyport-dev/sallyport/internal/inventory"
)

// Route is how the gateway reaches one member, and as whom. The zero Route leads
// nowhere.
type Route struct {
	inventory.Endpoint
	// Token of the impersonator.
	Token string
	// Expires is when the token does; zero for never.
	Expires time.Time
	// Renew is when another token is to be asked for; zero where its issuer does that
	// by itself.
	Renew time.Time
	// Account that the token is of: namespace/name, and "@" and its UID where that is
	// known.
	Account string
}

// leadsWhere reports whether two routes lead to the same server by the same CA.
func (r *Route) leadsWhere(e inventory.Endpoint) bool {
	return r.Server == e.Server && r.ServerName == e.ServerName && r.ClusterProxy == e.ClusterProxy && bytes.Equal(r.CA, e.CA)
}

// Issuer of the impersonator's tokens.
type Issuer interface {
	// Route to the member, now. held is the route that the gateway has, or zero:
	// where it is still good it comes back as it was. The error wraps ErrWaits,
	// inventory.ErrNoEndpoint or a *transport.Refusal where trying again by itself
	// will not help.
	Route(ctx context.Context, m *fleet.Member, held Route) (Route, error)
}

// ErrWaits says that somebody else has to do something first. What it is wrapped in
// says what.
var ErrWaits = errors.New("the token is not there")

// renewal is when a token that was issued now is to be replaced: at two thirds of its
// life, so that a member may be away for the rest of it.
func renewal(now, expires time.Time) time.Time { return now.Add(expires.Sub(now) * 2 / 3) }

// expiry that a token claims for itself; zero for one that claims none, as those
// in Secrets of service accounts do. It is not verified: whoever takes the token
// does that.
func expiry(token string) time.Time {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return time.Time{}
	}
	raw, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return time.Time{}
	}
	var claims struct {
		Exp int64 `json:"exp"`
	}
	if json.Unmarshal(raw, &claims) != nil || claims.Exp <= 0 {
		return time.Time{}
	}
	return time.Unix(claims.Exp, 0)
}

// isToken reports whether it could be one: what goes into a header has no blanks.
func isToken(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' })
}
