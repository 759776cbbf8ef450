package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"k8s.io/client-go/rest"
)

// clientOf has connections of its own, as another kubectl has, and negotiates HTTP/2
// as client-go does.
func clientOf(tb testing.TB, config *rest.Config) *http.Client {
	tb.Helper()
	own := rest.CopyConfig(config)
	// One transport for each: client-go's cache would share one.
	own.Proxy = http.ProxyFromEnvironment
	c, err := rest.HTTPClientFor(own)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(c.CloseIdleConnections)
	return c
}

// closedLoop has each client send its next request when the last was answered, until
// b.N are: requests per second, and how long one takes.
func closedLoop(b *testing.B, clients int, config *rest.Config, path string) {
	b.Helper()
	all := make([]*http.Client, clients)
	for i := range all {
		all[i] = clientOf(b, config)
		get(b, all[i], config.Host+path) // the connection is there
	}
	took := make([][]time.Duration, clients)
	var next atomic.Int64
	var group sync.WaitGroup
	b.ResetTimer()
	begin := time.Now()
	for i, c := range all {
		group.Go(func() {
			for next.Add(1) <= int64(b.N) {
				began := time.Now()
				get(b, c, config.Host+path)
				took[i] = append(took[i], time.Since(began))
			}
		})
	}
	group.Wait()
	elapsed := time.Since(begin)
	b.StopTimer()
	sorted := slices.Concat(took...)
	slices.Sort(sorted)
	b.ReportMetric(float64(len(sorted))/elapsed.Seconds(), "req/s")
	b.ReportMetric(float64(sorted[len(sorted)/2]), "p50-ns")
	b.ReportMetric(float64(sorted[len(sorted)*99/100]), "p99-ns")
}

// get reads an answer whole. One that is not 200 ends the benchmark: it is no figure.
func get(tb testing.TB, c *http.Client, url string) {
	if err := fetch(tb.Context(), c, url); err != nil {
		tb.Error(err)
		panic(err)
	}
}

func fetch(ctx context.Context, c *http.Client, url string) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := c.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		said, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<10))
		return fmt.Errorf("%s: %s", resp.Status, said)
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}
