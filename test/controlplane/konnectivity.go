package controlplane

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"strings"
)

// Konnectivity is a konnectivity server as Open Cluster Management's cluster-proxy runs it, and what a client needs for it.
type Konnectivity struct {
	Address                   string // HOST:PORT
	CAFile, CertFile, KeyFile string

	fleet     *Fleet
	agentPort int
}

const konnectivityServer = "konnectivity-server"

// StartKonnectivity starts a server, which has no agents yet. Clients and agents show certificates of two authorities, and
// the host that is dialled chooses the agent.
func (f *Fleet) StartKonnectivity(ctx context.Context) (*Konnectivity, error) {
	k := &Konnectivity{fleet: f}
	k.CAFile, k.CertFile, k.KeyFile = k.pki("client-ca.crt"), k.pki("client.crt"), k.pki("client.key")
	for of, client := range map[string]string{"client": "proxy-client", "agent": "open-cluster-management:cluster-proxy:proxy-agent"} {
		if err := k.writePKI(of, client); err != nil {
			return nil, fmt.Errorf("cannot start %s: %w", konnectivityServer, err)
		}
	}
	return k, onFreePort(ctx, func(port int) (err error) {
		k.Address = address(port)
		if k.agentPort, err = freePort(); err != nil {
			return err
		}
		return k.Start(ctx)
	})
}

// Start starts the server again after Stop, where it was.
func (k *Konnectivity) Start(ctx context.Context) error {
	admin, err := freePort()
	if err != nil {
		return err
	}
	_, port, err := net.SplitHostPort(k.Address)
	if err != nil {
		return err
	}
	return k.fleet.startAgent(ctx, konnectivityServer, KonnectivityServer, "http", func(health int) []string {
		return []string{
			"--mode=grpc", "--proxy-strategies=destHost",
			"--server-bind-address=127.0.0.1", "--server-port=" + port,
			"--server-ca-cert=" + k.pki("client-ca.crt"), "--server-cert=" + k.pki("client-server.crt"), "--server-key=" + k.pki("client-server.key"),
			"--agent-bind-address=127.0.0.1", fmt.Sprintf("--agent-port=%d", k.agentPort),
			"--cluster-ca-cert=" + k.pki("agent-ca.crt"), "--cluster-cert=" + k.pki("agent-server.crt"), "--cluster-key=" + k.pki("agent-server.key"),
			"--health-bind-address=127.0.0.1", fmt.Sprintf("--health-port=%d", health),
			fmt.Sprintf("--admin-port=%d", admin),
			"--graceful-shutdown-timeout=1s", // else it waits for the tunnels that are to end
		}
	})
}

// Stop ends all tunnels. Agents come back to a server that is started again.
func (k *Konnectivity) Stop() error { return k.fleet.stopAgent(konnectivityServer) }

// StartAgent starts the agent of a member, and returns when the server has its tunnel. The server has it dial whatever is
// dialled by the member's name, or by the other names if there are any, and it finds all of them at loopback: see
// test/tools/konnectivity.
func (k *Konnectivity) StartAgent(ctx context.Context, member string, names ...string) error {
	if len(names) == 0 {
		names = []string{member}
	}
	admin, err := freePort()
	if err != nil {
		return err
	}
	name := konnectivityAgent(member)
	var listens int
	err = k.fleet.startAgent(ctx, name, KonnectivityAgent, "http", func(health int) []string {
		listens = health
		return []string{
			"--agent-id=" + member, "--agent-identifiers=" + url.Values{"host": names}.Encode(),
			"--proxy-server-host=127.0.0.1", fmt.Sprintf("--proxy-server-port=%d", k.agentPort),
			"--ca-cert=" + k.pki("agent-ca.crt"), "--agent-cert=" + k.pki("agent.crt"), "--agent-key=" + k.pki("agent.key"),
			"--sync-interval=100ms", "--probe-interval=100ms", "--sync-interval-cap=1s",
			"--health-server-host=127.0.0.1", fmt.Sprintf("--health-server-port=%d", health),
			fmt.Sprintf("--admin-server-port=%d", admin),
		}
	})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	if err := k.fleet.agent(name).awaitReady(ctx, answers("http://"+address(listens)+"/readyz")); err != nil {
		return fmt.Errorf("cannot start %s: %w", name, err)
	}
	return nil
}

// StopAgent ends the member's tunnel, and with it all connections to the member.
func (k *Konnectivity) StopAgent(member string) error {
	return k.fleet.stopAgent(konnectivityAgent(member))
}

// URL of a member as its agent dials it. The host is the member's name, which nobody else can resolve.
func (k *Konnectivity) URL(member string) string {
	direct := strings.TrimPrefix(k.fleet.Member(member).URL(), "https://")
	_, port, _ := net.SplitHostPort(direct) // it is made of the two
	return "https://" + net.JoinHostPort(member, port)
}

func konnectivityAgent(member string) string { return "konnectivity-agent-" + member }

func (k *Konnectivity) pki(file string) string {
	return filepath.Join(k.fleet.Dir(), "pki", "konnectivity", file)
}

// writePKI makes an authority, OF-ca.crt, with a pair for the server, OF-server.{crt,key}, and one for those who come to it
// there, OF.{crt,key}.
func (k *Konnectivity) writePKI(of, client string) error {
	ca, err := newAuthority("konnectivity " + of)
	if err != nil {
		return err
	}
	serving, err := ca.server()
	if err != nil {
		return err
	}
	theirs, err := ca.client(client)
	if err != nil {
		return err
	}
	return errors.Join(
		writeSecret(k.pki(of+"-ca.crt"), ca.pem),
		serving.write(k.pki(of+"-server")),
		theirs.write(k.pki(of)),
	)
}
