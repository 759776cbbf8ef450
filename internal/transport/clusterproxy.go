package transport

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	konnectivity "sigs.k8s.io/apiserver-network-proxy/konnectivity-client/pkg/client"
)

// ClusterProxy is the entrypoint of Open Cluster Management's cluster-proxy: the
// konnectivity server to which members' agents hold tunnels. The host to dial is the
// cluster's name, by which the server finds the agent, and which the agent resolves to
// its own API server. Nothing else tells members apart here: an agent may claim another's
// name. So what is dialled is not trusted until it has shown the member's certificate.
//
// Each connection has a tunnel of its own, as the client of konnectivity wants it. But all
// tunnels to an agent share one stream, in which nothing overtakes: what is not read from
// one holds up the others. So requests to these members share HTTP/2 connections, which
// are always read from, and hold back a single request whose answer is not read; and what
// has switched protocols is read ahead of its reader, up to a bound.
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
	// The tunnel outlives the dialling, and until then ends with its context: by itself, the
	// client waits for a server that says nothing.
	alive, end := context.WithCancel(context.WithoutCancel(ctx))
	outlives := context.AfterFunc(ctx, end)
	tunnel, err := konnectivity.CreateSingleUseGrpcTunnelWithContext(ctx, alive, p.Address,
		grpc.WithTransportCredentials(creds),
		grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) { return direct(ctx, "tcp", address) }))
	if err != nil {
		end()
		return nil, fmt.Errorf("cannot open a tunnel: %w", err)
	}
	conn, err := tunnel.DialContext(ctx, network, address)
	if err != nil {
		end()
		return nil, fmt.Errorf("cannot dial through the tunnel: %w", err)
	}
	if !outlives() {
		end()
		return nil, fmt.Errorf("cannot dial through the tunnel: %w", context.Cause(ctx))
	}
	return newTunnelledConn(conn, address, end), nil
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
