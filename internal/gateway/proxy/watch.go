package proxy

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"

	"github.com/sallyport-dev/sallyport/internal/core/effective"
)

// sessionBody is what a member says in a session. Where that is cut, it does not end as
// if the member had no more to say: a watch ends with an event that says why, as an API
// server ends one with an error, and all else breaks off.
type sessionBody struct {
	io.ReadCloser
	ctx context.Context
	// event to end with; nil where it is no watch in JSON.
	event func(cut) []byte
	// within an event: the last byte that was passed on did not end one, and another
	// cannot follow.
	within bool
	last   io.Reader // what is still to be said
}

// sessionBodyOf an answer that may go on for long, unless it has switched protocols.
func sessionBodyOf(ctx context.Context, resp *http.Response, q *effective.Request, id string) {
	if resp.StatusCode == http.StatusSwitchingProtocols {
		return
	}
	b := &sessionBody{ReadCloser: resp.Body, ctx: ctx}
	resp.Body = b
	if q.Verb != "watch" || resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Encoding") != "" ||
		!strings.HasPrefix(resp.Header.Get("Content-Type"), "application/json") {
		return
	}
	b.event = func(c cut) []byte {
		raw, err := json.Marshal(map[string]any{"type": "ERROR", "object": c.status(q, id)})
		if err != nil { // strings and numbers
			return nil
		}
		return append(raw, '\n')
	}
	// Its length is not known any more; watches have none.
	resp.ContentLength = -1
	resp.Header.Del("Content-Length")
}

// Read what the member says, and then why there is no more.
func (b *sessionBody) Read(p []byte) (int, error) {
	if b.last != nil {
		return b.last.Read(p)
	}
	n, err := b.ReadCloser.Read(p)
	if n > 0 {
		b.within = p[n-1] != '\n'
	}
	if err == nil {
		return n, nil
	}
	c, ok := cutOf(b.ctx)
	switch {
	case !ok:
		return n, err
	case b.event == nil || b.within:
		// Not err: a member that has seen the connection go may have ended in good order.
		return n, c
	}
	b.last = bytes.NewReader(b.event(c))
	return n, nil
}
