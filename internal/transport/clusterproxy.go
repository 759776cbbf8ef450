package transport

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	konnectivity "sigs.k8s.io/apiserver-network-proxy/konnectivity-client/pkg/client"
)

// ClusterProxy is the entrypoint of Open Cluster Management's cluster-proxy: the
// konnectivity server to which members' agents hold tunnels. The host to dial is the
// cluster's name, by which the server finds the agent.
type ClusterProxy struct {
	// Address of the entrypoint, HOST:PORT.
	Address string
	// CAFile verifies it; CertFile and KeyFile are for the gateway. They are read for each
	// connection, and so may be replaced.
	CAFile, CertFile, KeyFile string
}

// Validate says what is missing.
func (p *ClusterProxy) Validate() error {
	if _, _, err := net.SplitHostPort(p.Address); err != nil {
		return fmt.Errorf("cannot use address of cluster-proxy: %w", err)
	}
	_, err := p.credentials()
	return err
}

// Dial opens a tunnel, which ends with the connection.
func (p *ClusterProxy) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	creds, err := p.credentials()
	if err != nil {
		return nil, err
	}
	// The tunnel outlives the dialling, and so is not of its context.
	alive, end := context.WithCancel(context.WithoutCancel(ctx))
	tunnel, err := konnectivity.CreateSingleUseGrpcTunnelWithContext(ctx, alive, p.Address, grpc.WithTransportCredentials(creds))
	if err != nil {
		end()
		return nil, fmt.Errorf("cannot open a tunnel: %w", err)
	}
	conn, err := tunnel.DialContext(ctx, network, address)
	if err != nil {
		end()
		return nil, fmt.Errorf("cannot dial through the tunnel: %w", err)
	}
	return &tunnelledConn{Conn: conn, end: sync.OnceFunc(end)}, nil
}

func (p *ClusterProxy) credentials() (credentials.TransportCredentials, error) {
	ca, err := os.ReadFile(p.CAFile)
	if err != nil {
		return nil, fmt.Errorf("cannot read the CA of cluster-proxy: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(ca) {
		return nil, errors.New("there is no certificate in the CA of cluster-proxy")
	}
	pair, err := tls.LoadX509KeyPair(p.CertFile, p.KeyFile)
	if err != nil {
		return nil, errors.New("cannot read the gateway's key pair for cluster-proxy") // the error may quote it
	}
	return credentials.NewTLS(&tls.Config{RootCAs: roots, Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}), nil
}

type tunnelledConn struct {
	net.Conn
	end func()
}

// Close ends the tunnel too.
func (c *tunnelledConn) Close() error {
	defer c.end()
	return c.Conn.Close()
}
