// Program konnectivity-agent is konnectivity's own agent, for a cluster whose DNS is stood in for.
//
// Where Open Cluster Management's cluster-proxy runs the agent, a Service of type ExternalName has the cluster's name resolve
// to the cluster's own API server. Here every name resolves to loopback, where the harness's API servers are: for this
// program alone, so that nobody else finds a member by that name.
package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/net/dns/dnsmessage"
	"sigs.k8s.io/apiserver-network-proxy/cmd/agent/app"
	"sigs.k8s.io/apiserver-network-proxy/cmd/agent/app/options"
)

func main() {
	net.DefaultResolver = &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		ours, theirs := net.Pipe()
		go func() {
			defer ours.Close()
			_ = answer(ours) // whoever asks sees that the connection is closed
		}()
		return theirs, nil
	}}
	o := options.NewGrpcProxyAgentOptions()
	if err := run(o); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// run the agent until it is told to stop, and then at once: by itself, it waits for a second signal.
func run(o *options.GrpcProxyAgentOptions) error {
	if err := o.Flags().Parse(os.Args[1:]); err != nil {
		return err
	}
	told, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	return new(app.Agent).Run(o, told.Done(), told.Done())
}

// answer one question of DNS, in the framing of TCP: IPv4 loopback is the address of any name, and there is no other.
func answer(conn io.ReadWriter) error {
	var size [2]byte
	if _, err := io.ReadFull(conn, size[:]); err != nil {
		return err
	}
	packed := make([]byte, binary.BigEndian.Uint16(size[:]))
	if _, err := io.ReadFull(conn, packed); err != nil {
		return err
	}
	var m dnsmessage.Message
	if err := m.Unpack(packed); err != nil {
		return err
	}
	if len(m.Questions) != 1 {
		return errors.New("not one question")
	}
	asked := m.Questions[0]
	m.Response, m.Additionals = true, nil
	if asked.Type == dnsmessage.TypeA {
		m.Answers = []dnsmessage.Resource{{
			Header: dnsmessage.ResourceHeader{Name: asked.Name, Type: asked.Type, Class: asked.Class},
			Body:   &dnsmessage.AResource{A: [4]byte{127, 0, 0, 1}},
		}}
	}
	packed, err := m.AppendPack(make([]byte, 2))
	if err != nil {
		return err
	}
	binary.BigEndian.PutUint16(packed, uint16(len(packed)-2))
	_, err = conn.Write(packed)
	return err
}
