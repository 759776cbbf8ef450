package gateway_test

import (
	"bufio"
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// person at a terminal, with kubectl and a kubeconfig of one server.
type person struct {
	t          *testing.T
	program    string
	kubeconfig string
	cache      string
	env        []string
}

// at has somebody use kubectl with a server as it is: its URL is all that kubectl knows.
func (w *world) at(t *testing.T, config *rest.Config) *person {
	t.Helper()
	dir := t.TempDir()
	out := clientcmdapi.NewConfig()
	out.Clusters["it"] = &clientcmdapi.Cluster{Server: config.Host, CertificateAuthorityData: config.CAData}
	out.AuthInfos["me"] = &clientcmdapi.AuthInfo{ClientCertificateData: config.CertData, ClientKeyData: config.KeyData}
	out.Contexts["it"] = &clientcmdapi.Context{Cluster: "it", AuthInfo: "me", Namespace: payments}
	out.CurrentContext = "it"
	p := &person{t: t, program: w.kubectl, kubeconfig: filepath.Join(dir, "kubeconfig"), cache: filepath.Join(dir, "cache")}
	if err := clientcmd.WriteToFile(*out, p.kubeconfig); err != nil {
		t.Fatal(err)
	}
	return p
}

// with environment variables besides.
func (p *person) with(env ...string) *person {
	out := *p
	out.env = append(append([]string{}, p.env...), env...)
	return &out
}

func (p *person) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, p.program, args...)
	cmd.Env = append(append(os.Environ(), "KUBECONFIG="+p.kubeconfig, "KUBECACHEDIR="+p.cache), p.env...)
	cmd.WaitDelay = 10 * time.Second
	return cmd
}

// run kubectl with something to read, until it ends by itself.
func (p *person) run(in string, args ...string) (out, errOut string, err error) {
	ctx, cancel := context.WithTimeout(p.t.Context(), patience)
	defer cancel()
	cmd := p.command(ctx, args...)
	var o, e bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(in), &o, &e
	err = cmd.Run()
	return o.String(), e.String(), err
}

// does what has to succeed, and returns what is printed.
func (p *person) does(in string, args ...string) string {
	p.t.Helper()
	out, errOut, err := p.run(in, args...)
	if err != nil {
		p.t.Errorf("kubectl %s: %v: %s", strings.Join(args, " "), err, errOut)
	}
	return out
}

// can waits until something succeeds: rights arrive a moment after a grant.
func (p *person) can(args ...string) {
	p.t.Helper()
	until(p.t, "kubectl "+strings.Join(args, " "), func(ctx context.Context) string {
		cmd := p.command(ctx, args...)
		if out, err := cmd.CombinedOutput(); err != nil {
			return string(out)
		}
		return ""
	})
}

// running is a kubectl that goes on until it is cut.
type running struct {
	t     *testing.T
	what  string
	cmd   *exec.Cmd
	lines chan string
	ended chan struct{}
	// at and said are of its end.
	at   time.Time
	said bytes.Buffer
}

// starts kubectl, whose stdin is nothing that ever ends.
func (p *person) starts(args ...string) *running {
	p.t.Helper()
	r := &running{t: p.t, what: strings.Join(args, " "), lines: make(chan string, 1024), ended: make(chan struct{})}
	ctx, cancel := context.WithCancel(p.t.Context())
	r.cmd = p.command(ctx, args...)
	r.cmd.Stderr = &r.said
	in, inWriter, err := os.Pipe()
	if err != nil {
		p.t.Fatal(err)
	}
	r.cmd.Stdin = in
	out, err := r.cmd.StdoutPipe()
	if err != nil {
		p.t.Fatal(err)
	}
	if err := r.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	go func() {
		defer close(r.ended)
		for s := bufio.NewScanner(out); s.Scan(); {
			select {
			case r.lines <- s.Text():
			default: // enough was seen
			}
		}
		_ = r.cmd.Wait() // that it ended is what matters
		r.at = time.Now()
	}()
	p.t.Cleanup(func() {
		cancel()
		<-r.ended
		_ = in.Close()
		_ = inWriter.Close()
	})
	return r
}

// sees the next line that has something in it, and returns it.
func (r *running) sees(what string) string {
	r.t.Helper()
	patient := time.After(patience)
	for {
		select {
		case line := <-r.lines:
			if strings.Contains(line, what) {
				return line
			}
		case <-r.ended:
			select { // of what it said last
			case line := <-r.lines:
				if strings.Contains(line, what) {
					return line
				}
			default:
			}
			r.t.Fatalf("kubectl %s ended before %q was seen: %s", r.what, what, r.said.String())
		case <-patient:
			r.t.Fatalf("kubectl %s never said %q", r.what, what)
		}
	}
}

// ends by itself; the instant.
func (r *running) ends() time.Time {
	r.t.Helper()
	select {
	case <-r.ended:
	case <-time.After(patience):
		r.t.Fatalf("kubectl %s goes on", r.what)
	}
	return r.at
}
