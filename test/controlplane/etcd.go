package controlplane

import (
	"context"
	"fmt"
	"net/http"
	"path/filepath"
)

// etcd is the one store of all clusters of a fleet.
type etcd struct {
	*process
	url string
}

func startEtcd(ctx context.Context, dir, binary string, detach bool) (*etcd, error) {
	e := &etcd{}
	err := onFreePort(ctx, func(port int) error {
		e.url = "http://" + address(port)
		var err error
		e.process, err = startProcess(dir, "etcd", detach, binary,
			"--data-dir="+filepath.Join(dir, "etcd"),
			"--listen-client-urls="+e.url,
			"--advertise-client-urls="+e.url,
			"--listen-peer-urls=http://127.0.0.1:0", // no peer ever connects
			"--unsafe-no-fsync",                     // what a test writes need not survive a power cut
			"--log-level=warn",
		)
		if err != nil {
			return err
		}
		if err := e.awaitReady(ctx, func(ctx context.Context) error { return probe(ctx, http.DefaultClient, e.url+"/health") }); err != nil {
			_ = e.stop()
			return err
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("cannot start etcd: %w", err)
	}
	return e, nil
}

// probe returns nil when a GET of the URL is answered with 200.
func probe(ctx context.Context, client *http.Client, url string) error {
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
