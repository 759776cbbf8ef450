package proxy

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"

	"github.com/sallyport-dev/sallyport/internal/core/effective"
)

// watchBody ends a watch that is cut with an event that says why, as an API server ends
// one with an error. Only between two events can one be put, and only in JSON.
type watchBody struct {
	io.ReadCloser
	ctx   context.Context
	event func(cut) []byte
	// within an event: the last byte that was passed on did not end one.
	within bool
	last   io.Reader // what is still to be said
}

func watchBodyOf(resp *http.Response, ctx context.Context, q *effective.Request, id string) {
	if q.Verb != "watch" || resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Encoding") != "" ||
		!strings.HasPrefix(resp.Header.Get("Content-Type"), "application/json") {
		return
	}
	resp.Body = &watchBody{ReadCloser: resp.Body, ctx: ctx, event: func(c cut) []byte {
		raw, err := json.Marshal(map[string]any{"type": "ERROR", "object": c.status(q, id)})
		if err != nil { // strings and numbers
			return nil
		}
		return append(raw, '\n')
	}}
	// Its length is not known any more; watches have none.
	resp.ContentLength = -1
	resp.Header.Del("Content-Length")
}

// Read what the member says, and then why there is no more.
func (b *watchBody) Read(p []byte) (int, error) {
	if b.last != nil {
		return b.last.Read(p)
	}
	n, err := b.ReadCloser.Read(p)
	if n > 0 {
		b.within = p[n-1] != '\n'
	}
	if err == nil || b.within {
		return n, err
	}
	c, ok := cutOf(b.ctx)
	if !ok {
		return n, err
	}
	b.last = strings.NewReader(string(b.event(c)))
	return n, nil
}
