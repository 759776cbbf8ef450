package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"

	"github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/object"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp/capability"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp/sideband"
	"github.com/go-git/go-git/v5/plumbing/storer"
	"github.com/go-git/go-git/v5/plumbing/transport"
	githttp "github.com/go-git/go-git/v5/plumbing/transport/http"
	gitssh "github.com/go-git/go-git/v5/plumbing/transport/ssh"
)

// Remote is a branch of a repository. Each checkout is made from nothing, so that
// a force-pushed branch is like any other; it has only the tip of the branch,
// where the server can send that alone.
//
// It speaks Git's protocol through go-git's transports rather than its Remote,
// which takes its HTTP client and redirections of URLs from process-wide state.
// A file URL is opened in place: neither a git binary nor a copy is needed.
type Remote struct {
	options Options
	url     *url.URL
	limits  limits
	// busy holds a token while a fetch runs, even one that was given up, because
	// go-git's ssh dialler cannot be cancelled: hung ones must not add up.
	busy chan struct{}
}

// NewRemote returns the branch that the options name, without reaching for it.
func NewRemote(o Options) (*Remote, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	u, err := parseURL(o.URL)
	if err != nil {
		return nil, err
	}
	return &Remote{options: o, url: u, limits: defaultLimits, busy: make(chan struct{}, 1)}, nil
}

// Head returns the SHA of the tip of the branch.
func (r *Remote) Head(ctx context.Context) (string, error) {
	return fetch(ctx, r, func(ctx context.Context, creds credentials) (string, error) {
		if r.url.Scheme == "file" {
			_, hash, err := r.local()
			return hash.String(), err
		}
		session, err := r.dial(creds)
		if err != nil {
			return "", err
		}
		_, hash, err := r.tip(ctx, session)
		return hash.String(), errors.Join(err, session.Close())
	})
}

// Checkout returns the tip of the branch.
func (r *Remote) Checkout(ctx context.Context) (*Checkout, error) {
	return fetch(ctx, r, func(ctx context.Context, creds credentials) (*Checkout, error) {
		if r.url.Scheme == "file" {
			store, hash, err := r.local()
			if err != nil {
				return nil, err
			}
			return r.open(store, hash)
		}
		session, err := r.dial(creds)
		if err != nil {
			return nil, err
		}
		checkout, err := r.download(ctx, session)
		return checkout, errors.Join(err, session.Close())
	})
}

// fetch runs f with fresh credentials and the timeout, and removes from its error
// whatever is secret or changes from one attempt to the next.
func fetch[T any](ctx context.Context, r *Remote, f func(context.Context, credentials) (T, error)) (T, error) {
	var none T
	creds, err := readCredentials(r.options.AuthDir)
	if err != nil {
		return none, err
	}
	select {
	case r.busy <- struct{}{}:
	default:
		return none, errors.New("cannot fetch: an earlier fetch still hangs")
	}
	ctx, cancel := context.WithTimeout(ctx, r.options.Timeout)
	defer cancel()

	type result struct {
		value T
		err   error
	}
	done := make(chan result, 1)
	go func() {
		value, err := f(ctx, creds)
		<-r.busy
		done <- result{value, err}
	}()
	var got result
	select {
	case got = <-done:
	case <-ctx.Done():
		got.err = ctx.Err()
	}
	if got.err != nil {
		return none, fmt.Errorf("cannot fetch branch %q: %w", r.options.Branch, plainError(got.err, creds))
	}
	return got.value, nil
}

func (r *Remote) dial(creds credentials) (transport.UploadPackSession, error) {
	ep, err := transport.NewEndpoint(r.url.String())
	if err != nil {
		return nil, err
	}
	if r.url.Scheme == "ssh" {
		auth, err := creds.sshAuth(r.options.AuthDir, ep, r.options.Timeout)
		if err != nil {
			return nil, err
		}
		return gitssh.NewClient(nil).NewUploadPackSession(ep, auth)
	}
	auth, err := creds.httpAuth()
	if err != nil {
		return nil, err
	}
	client, err := creds.httpClient(r.options.Timeout)
	if err != nil {
		return nil, err
	}
	git := githttp.NewClientWithOptions(client, &githttp.ClientOptions{RedirectPolicy: githttp.FollowInitialRedirects})
	if auth == nil { // a nil *T in an interface would not be nil
		return git.NewUploadPackSession(ep, nil)
	}
	return git.NewUploadPackSession(ep, auth)
}

func (r *Remote) tip(ctx context.Context, session transport.UploadPackSession) (*packp.AdvRefs, plumbing.Hash, error) {
	refs, err := session.AdvertisedReferencesContext(ctx)
	if err != nil {
		return nil, plumbing.ZeroHash, err
	}
	hash, found := refs.References[plumbing.NewBranchReferenceName(r.options.Branch).String()]
	if !found {
		return nil, plumbing.ZeroHash, errNoBranch
	}
	return refs, hash, nil
}

func (r *Remote) download(ctx context.Context, session transport.UploadPackSession) (*Checkout, error) {
	refs, hash, err := r.tip(ctx, session)
	if err != nil {
		return nil, err
	}
	request := packp.NewUploadPackRequestFromCapabilities(refs.Capabilities)
	request.Wants = []plumbing.Hash{hash}
	if refs.Capabilities.Supports(capability.Shallow) {
		request.Depth = packp.DepthCommits(1)
		if err := request.Capabilities.Set(capability.Shallow); err != nil {
			return nil, err
		}
	}
	response, err := session.UploadPack(ctx, request)
	if err != nil {
		return nil, err
	}
	store, err := unpack(demultiplexed(request.Capabilities, response), r.limits)
	if err := errors.Join(err, response.Close()); err != nil {
		return nil, err
	}
	return r.open(store, hash)
}

// demultiplexed is the pack without the server's remarks on its progress.
func demultiplexed(caps *capability.List, r io.Reader) io.Reader {
	switch {
	case caps.Supports(capability.Sideband64k):
		return sideband.NewDemuxer(sideband.Sideband64k, r)
	case caps.Supports(capability.Sideband):
		return sideband.NewDemuxer(sideband.Sideband, r)
	default:
		return r
	}
}

func (r *Remote) local() (storer.EncodedObjectStorer, plumbing.Hash, error) {
	repo, err := git.PlainOpen(r.url.Path)
	if err != nil {
		return nil, plumbing.ZeroHash, err
	}
	ref, err := repo.Reference(plumbing.NewBranchReferenceName(r.options.Branch), true)
	if errors.Is(err, plumbing.ErrReferenceNotFound) {
		err = errNoBranch
	}
	if err != nil {
		return nil, plumbing.ZeroHash, err
	}
	return repo.Storer, ref.Hash(), nil
}

func (r *Remote) open(store storer.EncodedObjectStorer, hash plumbing.Hash) (*Checkout, error) {
	commit, err := object.GetCommit(store, hash)
	if err != nil {
		return nil, err
	}
	root, err := commit.Tree()
	if err != nil {
		return nil, err
	}
	return &Checkout{
		Commit: describe(r.options.Branch, commit),
		Files:  tree{root: root, maxFile: r.limits.file},
	}, nil
}
