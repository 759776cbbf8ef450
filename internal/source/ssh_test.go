package source

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"
)

func newKey(t *testing.T) (ssh.Signer, string) {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(private, "")
	if err != nil {
		t.Fatal(err)
	}
	return signer, string(pem.EncodeToMemory(block))
}

// sshServer runs git-upload-pack for whoever has the key, and returns its address.
func sshServer(t *testing.T, host ssh.Signer, client ssh.PublicKey) string {
	t.Helper()
	if _, err := exec.LookPath("git"); err != nil {
		t.Skip("no git to serve with")
	}
	config := &ssh.ServerConfig{PublicKeyCallback: func(_ ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
		if string(key.Marshal()) != string(client.Marshal()) {
			return nil, fmt.Errorf("unknown key")
		}
		return nil, nil
	}}
	config.AddHostKey(host)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go serveSSH(conn, config)
		}
	}()
	return listener.Addr().String()
}

func serveSSH(conn net.Conn, config *ssh.ServerConfig) {
	defer conn.Close()
	_, channels, requests, err := ssh.NewServerConn(conn, config)
	if err != nil {
		return
	}
	go ssh.DiscardRequests(requests)
	for request := range channels {
		channel, requests, err := request.Accept()
		if err != nil {
			return
		}
		for r := range requests {
			if r.Type != "exec" {
				_ = r.Reply(false, nil)
				continue
			}
			_ = r.Reply(true, nil)
			var command struct{ Line string }
			_ = ssh.Unmarshal(r.Payload, &command)
			go func() {
				_, repo, _ := strings.Cut(command.Line, " ")
				git := exec.Command("git", "-c", "safe.directory=*", "upload-pack", strings.Trim(repo, "'"))
				stdin, _ := git.StdinPipe()
				go func() { _, _ = io.Copy(stdin, channel); _ = stdin.Close() }()
				git.Stdout, git.Stderr = channel, channel.Stderr()
				_ = git.Run()
				_, _ = channel.SendRequest("exit-status", false, []byte{0, 0, 0, 0})
				_ = channel.Close()
			}()
		}
	}
}

func TestCheckoutSSH(t *testing.T) {
	r := newRepository(t)
	sha := r.commit("first", map[string]any{"grants/a.yaml": "1"})
	host, _ := newKey(t)
	other, otherPEM := newKey(t)
	client, clientPEM := newKey(t)
	address := sshServer(t, host, client.PublicKey())
	known := knownhosts.Line([]string{address}, host.PublicKey())

	for name, tc := range map[string]struct {
		reason string
		auth   map[string]string
		want   string
	}{
		"Known":         {"The host and the key are the right ones.", map[string]string{"identity": clientPEM, "known_hosts": known}, ""},
		"NoKnownHosts":  {"A host that is not known is not trusted.", map[string]string{"identity": clientPEM}, "needs the file known_hosts"},
		"EmptyFile":     {"An empty file knows nobody.", map[string]string{"identity": clientPEM, "known_hosts": "\n"}, "needs the file known_hosts"},
		"OnlyComments":  {"Nor does a comment.", map[string]string{"identity": clientPEM, "known_hosts": "# none\n"}, "the host is not in known_hosts"},
		"OtherHost":     {"Another host's key is another's.", map[string]string{"identity": clientPEM, "known_hosts": knownhosts.Line([]string{"git.example.org"}, host.PublicKey())}, "the host is not in known_hosts"},
		"OtherHostKey":  {"Somebody is in between.", map[string]string{"identity": clientPEM, "known_hosts": knownhosts.Line([]string{address}, other.PublicKey())}, "the key of the host is not the one in known_hosts"},
		"NoIdentity":    {"No agent of the controller's host is asked.", map[string]string{"known_hosts": known}, "needs the file identity"},
		"BadIdentity":   {"The text of a key is not told.", map[string]string{"identity": "s3cret", "known_hosts": known}, "is no private key"},
		"WrongIdentity": {"The server knows whom it lets in.", map[string]string{"identity": otherPEM, "known_hosts": known}, "unable to authenticate"},
	} {
		t.Run(name, func(t *testing.T) {
			o := r.options()
			o.URL = "ssh://git@" + address + r.dir
			o.AuthDir = authDir(t, tc.auth)
			remote, err := NewRemote(o)
			r.must(err)
			if tc.want == "" {
				expectFile(t, remote, sha, "1")
				return
			}
			_, err = remote.Head(t.Context())
			if err == nil || !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), "s3cret") {
				t.Errorf("%s\ngot error %v, want one with %q", tc.reason, err, tc.want)
			}
		})
	}
}
