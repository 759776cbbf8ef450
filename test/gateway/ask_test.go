package gateway_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/sallyport-dev/sallyport/internal/gateway/proxy"
)

// answer to one request, as it came: nothing is tried again and no redirect followed.
type answer struct {
	code   int
	header http.Header
	body   string
	status metav1.Status // if it is one
	err    error         // there was no answer
	took   time.Duration
}

// layer that refused, as the gateway tells it; "" if it does not.
func (a *answer) layer() string {
	if a.status.Details == nil {
		return ""
	}
	for _, c := range a.status.Details.Causes {
		if c.Type == proxy.CauseLayer {
			return c.Message
		}
	}
	return ""
}

// letThrough reports whether something else than a refusal was answered.
func (a *answer) letThrough() bool { return a.err == nil && a.code < http.StatusBadRequest }

// clientOf somebody, over HTTP/1.1 only if protocols are to be switched.
func clientOf(t *testing.T, config *rest.Config, protocols ...string) *http.Client {
	t.Helper()
	config = rest.CopyConfig(config)
	config.NextProtos = protocols
	c, err := rest.HTTPClientFor(config)
	if err != nil {
		t.Fatal(err)
	}
	c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return c
}

// ask sends a request. Headers are "Name: value".
func ask(ctx context.Context, c *http.Client, method, url string, headers ...string) *answer {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	var body io.Reader = http.NoBody
	if method == http.MethodPost || method == http.MethodPut || method == http.MethodPatch {
		body = strings.NewReader("{}")
	}
	request, err := http.NewRequestWithContext(ctx, method, url, body)
	if err != nil {
		return &answer{err: err}
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		request.Header.Add(name, value)
	}
	began := time.Now()
	response, err := c.Do(request)
	if err != nil {
		return &answer{err: err, took: time.Since(began)}
	}
	defer response.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(response.Body, 64<<10))
	a := &answer{code: response.StatusCode, header: response.Header, body: string(raw), err: err, took: time.Since(began)}
	_ = json.Unmarshal(raw, &a.status) // not every answer is one
	return a
}
