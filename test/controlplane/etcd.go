package controlplane

import (
	"context"
	"fmt"
	"path/filepath"
)

// etcd is the one store of all clusters of a fleet.
type etcd struct {
	*process
	url string
}

func startEtcd(ctx context.Context, h host, binary string) (*etcd, error) {
	e := &etcd{}
	err := onFreePort(ctx, func(port int) (err error) {
		e.url = "http://" + address(port)
		e.process, err = h.start(ctx, program{
			name:   "etcd",
			binary: binary,
			args: []string{
				"--data-dir=" + filepath.Join(h.dir, "etcd"),
				"--listen-client-urls=" + e.url,
				"--advertise-client-urls=" + e.url,
				"--listen-peer-urls=http://127.0.0.1:0", // no peer ever connects
				"--unsafe-no-fsync",                     // what a test writes need not survive a power cut
				"--log-level=warn",
			},
			ready: answers(e.url + "/health"),
		})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("cannot start etcd: %w", err)
	}
	return e, nil
}
