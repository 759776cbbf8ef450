// Command kubelet stands in for a node's kubelet, which cannot run where no container
// can: what kube-apiserver asks a kubelet for on behalf of kubectl logs, exec, attach,
// cp and port-forward. Everything before it is real, kubectl, the proxies between and
// kube-apiserver; the streams are Kubernetes' own, by k8s.io/cri-streaming.
//
// There are no containers. An exec runs its command on this machine in --dir, so that
// cp finds a file system; an attach answers with what it is sent, a forwarded port
// likewise; a log has numbered lines, and with follow it goes on until it is cut.
// It asks nobody who they are: it listens on loopback only, and is for tests.
package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"time"

	"k8s.io/cri-streaming/pkg/streaming/portforward"
	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
	utilexec "k8s.io/utils/exec"
)

const (
	idle    = 10 * time.Minute
	streams = 30 * time.Second
)

func main() {
	addr := flag.String("addr", "", "address on loopback to serve on")
	dir := flag.String("dir", "", "folder in which commands run")
	flag.Parse()
	if err := serve(*addr, *dir); err != nil {
		fmt.Fprintln(os.Stderr, "error: "+err.Error())
		os.Exit(1)
	}
}

func serve(addr, dir string) error {
	certificate, err := selfSigned()
	if err != nil {
		return err
	}
	node := container{dir: dir}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("GET /containerLogs/{namespace}/{pod}/{container}", logs)
	mux.HandleFunc("/exec/{namespace}/{pod}/{container}", func(w http.ResponseWriter, r *http.Request) {
		if o := options(w, r); o != nil {
			remotecommand.ServeExec(w, r, node, r.PathValue("pod"), "", r.PathValue("container"), r.Form["command"], o, idle, streams, remotecommand.SupportedStreamingProtocols)
		}
	})
	mux.HandleFunc("/attach/{namespace}/{pod}/{container}", func(w http.ResponseWriter, r *http.Request) {
		if o := options(w, r); o != nil {
			remotecommand.ServeAttach(w, r, node, r.PathValue("pod"), "", r.PathValue("container"), o, idle, streams, remotecommand.SupportedStreamingProtocols)
		}
	})
	mux.HandleFunc("/portForward/{namespace}/{pod}", func(w http.ResponseWriter, r *http.Request) {
		o, err := portforward.NewV4Options(r)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		portforward.ServePortForward(w, r, node, r.PathValue("pod"), "", o, idle, streams, portforward.SupportedProtocols)
	})
	server := &http.Server{
		Addr: addr, Handler: mux, ReadHeaderTimeout: streams,
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12},
	}
	return server.ListenAndServeTLS("", "")
}

func options(w http.ResponseWriter, r *http.Request) *remotecommand.Options {
	if err := r.ParseForm(); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return nil
	}
	o, err := remotecommand.NewOptions(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return nil
	}
	return o
}

// logs writes numbered lines: three, or tailLines; with follow another each 50 ms, and
// with limitBytes as many bytes as fast as they are read.
func logs(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	w.Header().Set("Content-Type", "text/plain")
	if limit, err := strconv.ParseInt(query.Get("limitBytes"), 10, 64); err == nil {
		long(w, limit)
		return
	}
	n := 3
	if tail, err := strconv.Atoi(query.Get("tailLines")); err == nil {
		n = tail
	}
	line := 0
	write := func() {
		line++
		fmt.Fprintf(w, "%s line %d\n", r.PathValue("pod"), line)
	}
	for range n {
		write()
	}
	if query.Get("follow") != "true" {
		return
	}
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		_ = http.NewResponseController(w).Flush() // fails where the other side has gone, as the next write
		select {
		case <-r.Context().Done():
			return
		case <-tick.C:
			write()
		}
	}
}

func long(w io.Writer, n int64) {
	chunk := make([]byte, 64<<10)
	for i := range chunk {
		chunk[i] = "0123456789abcdef\n"[i%17]
	}
	for n > 0 {
		part := chunk[:min(n, int64(len(chunk)))]
		if _, err := w.Write(part); err != nil {
			return
		}
		n -= int64(len(part))
	}
}

// container that there is none of.
type container struct{ dir string }

// ExecInContainer runs the command here.
func (c container) ExecInContainer(ctx context.Context, _, _, _ string, cmd []string, in io.Reader, out, errOut io.WriteCloser, _ bool, _ <-chan remotecommand.TerminalSize, _ time.Duration) error {
	if len(cmd) == 0 {
		return errors.New("there is no command")
	}
	run := exec.CommandContext(ctx, cmd[0], cmd[1:]...)
	run.Dir, run.Stdin, run.Stdout = c.dir, in, out
	run.Stderr = out
	if errOut != nil {
		run.Stderr = errOut
	}
	run.WaitDelay = time.Second // a stdin that nobody closes is not waited for
	err := run.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.Exited() {
		return utilexec.CodeExitError{Err: err, Code: exit.ExitCode()}
	}
	if errors.Is(err, exec.ErrWaitDelay) {
		return nil
	}
	return err
}

// AttachContainer says hello, and then what it is told.
func (c container) AttachContainer(ctx context.Context, name, _, _ string, in io.Reader, out, _ io.WriteCloser, _ bool, _ <-chan remotecommand.TerminalSize) error {
	if out == nil {
		return errors.New("nobody listens")
	}
	fmt.Fprintf(out, "attached to %s\n", name)
	if in == nil {
		<-ctx.Done()
		return nil
	}
	_, err := io.Copy(out, in)
	return err
}

// PortForward answers with what it is sent.
func (c container) PortForward(_ context.Context, _, _ string, _ int32, stream io.ReadWriteCloser) error {
	_, err := io.Copy(stream, stream)
	return err
}

// selfSigned certificate: kube-apiserver verifies kubelets only where it is told whose
// certificates they have.
func selfSigned() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{"localhost"},
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(30 * 24 * time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
}
