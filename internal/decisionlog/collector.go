package decisionlog

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"
)

// collector is a destination that takes lines by POST. A batch that it may have taken
// is sent again: lines may come twice, and have an ID.
type collector struct {
	called    string
	url       string
	client    *http.Client
	tokenFile string
	linger    time.Duration
	backoff   time.Duration
}

// maxBackoff between two requests.
const maxBackoff = 30 * time.Second

// maxToken is the most bytes of a token.
const maxToken = 64 << 10

func openCollector(u *url.URL, o HTTPOptions) (destination, error) {
	if o.Timeout <= 0 || o.Linger <= 0 || o.Backoff <= 0 {
		return nil, errors.New("its timeout has to be positive")
	}
	transport := &http.Transport{
		Proxy: http.ProxyFromEnvironment, TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12},
		ForceAttemptHTTP2: true, MaxIdleConns: 2, IdleConnTimeout: time.Minute, TLSHandshakeTimeout: o.Timeout,
	}
	if o.CAFile != "" {
		pem, err := os.ReadFile(o.CAFile)
		if err != nil {
			return nil, fmt.Errorf("cannot read its certificate authority: %w", err)
		}
		transport.TLSClientConfig.RootCAs = x509.NewCertPool()
		if !transport.TLSClientConfig.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("there is no certificate in %q", o.CAFile)
		}
	}
	c := &collector{
		called: withoutSecrets(u), url: u.String(), tokenFile: o.TokenFile, linger: o.Linger, backoff: o.Backoff,
		client: &http.Client{
			Transport: transport, Timeout: o.Timeout,
			// The token is for this collector, and for no other that it names.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
	if _, err := c.token(); err != nil {
		return nil, err
	}
	return c, nil
}

func (c *collector) name() string { return c.called }

func (c *collector) batch() (int, time.Duration) { return 1000, c.linger }

func (c *collector) close() error {
	c.client.CloseIdleConnections()
	return nil
}

// write until the collector takes the lines. What comes meanwhile waits in the queue,
// and is dropped where that is full.
func (c *collector) write(ctx context.Context, lines []byte, trouble func(error)) error {
	pause := c.backoff
	for {
		err := c.post(ctx, lines)
		if err == nil || errors.Is(err, errRejected) {
			return err
		}
		trouble(err)
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return err
		case <-timer.C:
		}
		pause = min(2*pause, maxBackoff)
	}
}

func (c *collector) post(ctx context.Context, lines []byte) error {
	token, err := c.token()
	if err != nil {
		return err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url, bytes.NewReader(lines))
	if err != nil {
		return fmt.Errorf("cannot make a request: %w", unwrapped(err))
	}
	r.Header.Set("Content-Type", "application/x-ndjson")
	r.Header.Set("User-Agent", "sallyport-decision-log")
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	answer, err := c.client.Do(r)
	if err != nil {
		return fmt.Errorf("cannot reach the collector: %w", unwrapped(err))
	}
	// What is left unread costs the connection, no more.
	_, _ = io.CopyN(io.Discard, answer.Body, 64<<10)
	_ = answer.Body.Close()
	switch answer.StatusCode {
	case http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType, http.StatusUnprocessableEntity:
		return fmt.Errorf("%w: status %d", errRejected, answer.StatusCode)
	}
	if answer.StatusCode/100 != 2 {
		return fmt.Errorf("the collector answered with status %d", answer.StatusCode)
	}
	return nil
}

// unwrapped is the error without the URL, in which there may be a secret.
func unwrapped(err error) error {
	var of *url.Error
	if errors.As(err, &of) {
		return of.Err
	}
	return err
}

// token to show; empty where there is none to be shown. A file that cannot be read is
// an error: nothing is sent without what the collector is to know us by.
func (c *collector) token() (string, error) {
	if c.tokenFile == "" {
		return "", nil
	}
	f, err := os.Open(c.tokenFile)
	if err != nil {
		return "", fmt.Errorf("cannot read the token: %w", err)
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxToken+1))
	if err != nil {
		return "", fmt.Errorf("cannot read the token: %w", err)
	}
	token := strings.TrimSpace(string(raw))
	if token == "" || len(raw) > maxToken || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
		return "", fmt.Errorf("%q holds no token", c.tokenFile)
	}
	return token, nil
}
