package controlplane

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/http"
	"time"
)

// prober asks loopback ports whether they serve. It verifies no certificate, since some agents make their own, and has
// nothing to give away.
var prober = &http.Client{
	Timeout: 5 * time.Second,
	Transport: &http.Transport{
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true},
		DisableKeepAlives: true,
	},
}

// answers returns a check that is nil once a GET of the URL is answered with 200.
func answers(url string) func(context.Context) error { return answersTo(prober, url) }

// answersTo is answers for a client with credentials.
func answersTo(client *http.Client, url string) func(context.Context) error {
	return func(ctx context.Context) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		resp, err := client.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("GET %s: %s", url, resp.Status)
		}
		return nil
	}
}
