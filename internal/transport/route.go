package transport

import (
	"fmt"
	"net/http"
	"net/url"
	"time"
)

// Route is the one way by which people's requests reach a member.
type Route struct {
	// Cluster by name.
	Cluster string
	// URL of the member's API server: https, a host, and perhaps a path that comes
	// before each request's own. Nothing else is in it.
	URL url.URL
	// Transport authenticates as the member's impersonator, and refuses with
	// ErrNobody a request that names nobody to impersonate. It follows no redirect. Its
	// connections are pooled, and belong to this member alone.
	Transport http.RoundTripper
}

// Unavailable says that a member cannot be reached now. Its text has no secret and no
// address in it.
type Unavailable struct {
	Cluster string
	// Reason is a phrase for people: "has no route yet", "does not answer".
	Reason string
	// RetryAfter is when it makes sense to ask again.
	RetryAfter time.Duration
}

// Error names the cluster.
func (u *Unavailable) Error() string { return fmt.Sprintf("cluster %q %s", u.Cluster, u.Reason) }
