package source

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"

	"github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/plumbing/transport"
	"github.com/skeema/knownhosts"
)

var errNoBranch = errors.New("the repository has no such branch")

// plainError is err in words that hold no secret and are the same whenever the
// same thing goes wrong: no local ports, no addresses of name servers.
func plainError(err error, creds credentials) error {
	var (
		dns *net.DNSError
		op  *net.OpError
		uri *url.Error
	)
	switch {
	case errors.Is(err, context.Canceled):
		return context.Canceled
	case errors.Is(err, context.DeadlineExceeded), isTimeout(err):
		return errors.New("the server does not answer in time")
	case errors.Is(err, transport.ErrAuthenticationRequired):
		return errors.New("the server requires other credentials than those in the auth folder")
	case errors.Is(err, transport.ErrAuthorizationFailed):
		return errors.New("the server denies access to the repository")
	case errors.Is(err, transport.ErrRepositoryNotFound), errors.Is(err, git.ErrRepositoryNotExists):
		return errors.New("the repository does not exist, or may not be seen with these credentials")
	case errors.Is(err, transport.ErrEmptyRemoteRepository):
		return errors.New("the repository is empty")
	case knownhosts.IsHostKeyChanged(err):
		return errors.New("the key of the host is not the one in known_hosts")
	case knownhosts.IsHostUnknown(err):
		return errors.New("the host is not in known_hosts")
	case errors.As(err, &dns):
		return fmt.Errorf("the name %q cannot be resolved", dns.Name)
	case errors.As(err, &op):
		return fmt.Errorf("cannot %s %s: %s", op.Op, op.Net, creds.redact(op.Err.Error()))
	case errors.As(err, &uri):
		return errors.New(creds.redact(uri.Err.Error()))
	default:
		return errors.New(printable(creds.redact(err.Error()), 512))
	}
}

func isTimeout(err error) bool {
	var timeout interface{ Timeout() bool }
	return errors.As(err, &timeout) && timeout.Timeout()
}
