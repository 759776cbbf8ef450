package source

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/go-git/go-git/v5/plumbing/transport"
	githttp "github.com/go-git/go-git/v5/plumbing/transport/http"
	gitssh "github.com/go-git/go-git/v5/plumbing/transport/ssh"
	"golang.org/x/crypto/ssh"
)

// Files of an auth folder, named as Flux names the keys of its Git Secrets.
const (
	usernameFile    = "username"
	passwordFile    = "password"
	bearerTokenFile = "bearerToken"
	caFile          = "ca.crt"
	certFile        = "tls.crt"
	keyFile         = "tls.key"
	identityFile    = "identity"
	knownHostsFile  = "known_hosts"
)

// credentials are the files of an auth folder, by name. Its text is never shown.
type credentials map[string][]byte

// String keeps credentials out of any log that is handed them by mistake.
func (credentials) String() string { return "[credentials]" }

// GoString implements fmt.GoStringer for %#v.
func (credentials) GoString() string { return "[credentials]" }

// readCredentials reads the auth folder. No folder means no credentials.
func readCredentials(dir string) (credentials, error) {
	creds := credentials{}
	if dir == "" {
		return creds, nil
	}
	if _, err := os.Stat(dir); err != nil {
		return nil, fmt.Errorf("cannot read auth folder: %w", err)
	}
	for _, name := range []string{usernameFile, passwordFile, bearerTokenFile, caFile, certFile, keyFile, identityFile, knownHostsFile} {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("cannot read auth file: %w", err)
		}
		creds[name] = data
	}
	return creds, nil
}

// text is a file without the newline that editors leave at its end.
func (c credentials) text(name string) string { return strings.TrimSpace(string(c[name])) }

// redact removes every secret from s, in the forms in which a server could send
// it back. It is the last line of defence: nothing is meant to hold them.
func (c credentials) redact(s string) string {
	secrets := []string{
		c.text(bearerTokenFile),
		c.text(passwordFile),
		base64.StdEncoding.EncodeToString([]byte(c.text(usernameFile) + ":" + c.text(passwordFile))),
		c.text(identityFile),
		c.text(keyFile),
	}
	for _, secret := range secrets {
		// A shorter secret would tear words apart, and ":" is nobody's.
		if len(secret) >= 4 {
			s = strings.ReplaceAll(s, secret, "[redacted]")
			s = strings.ReplaceAll(s, url.QueryEscape(secret), "[redacted]")
		}
	}
	return s
}

func (c credentials) httpAuth() (githttp.AuthMethod, error) {
	token, password := c.text(bearerTokenFile), c.text(passwordFile)
	switch {
	case token != "" && password != "":
		return nil, errors.New("auth folder has both bearerToken and password: leave one")
	case token != "":
		return &githttp.TokenAuth{Token: token}, nil
	case password != "":
		return &githttp.BasicAuth{Username: c.text(usernameFile), Password: password}, nil
	case c.text(usernameFile) != "":
		return nil, errors.New("auth folder has a username but no password")
	default:
		return nil, nil
	}
}

// httpClient trusts the system's authorities and those of ca.crt.
func (c credentials) httpClient(timeout time.Duration) (*http.Client, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if pem := c[caFile]; pem != nil {
		pool, err := x509.SystemCertPool()
		if err != nil {
			pool = x509.NewCertPool()
		}
		if !pool.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("auth file %s holds no certificate", caFile)
		}
		config.RootCAs = pool
	}
	if c[certFile] != nil || c[keyFile] != nil {
		pair, err := tls.X509KeyPair(c[certFile], c[keyFile])
		if err != nil {
			return nil, fmt.Errorf("auth files %s and %s are no pair", certFile, keyFile)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return &http.Client{
		Timeout: timeout,
		Transport: &http.Transport{
			Proxy:               http.ProxyFromEnvironment,
			TLSClientConfig:     config,
			TLSHandshakeTimeout: timeout,
			DisableKeepAlives:   true,
		},
		CheckRedirect: func(req *http.Request, _ []*http.Request) error {
			if req.URL.Scheme != "https" {
				return errors.New("redirected away from https")
			}
			return nil
		},
	}, nil
}

// sshAuth is a key that is used only with a host whose own key is known.
type sshAuth struct {
	*gitssh.PublicKeys
	timeout time.Duration
}

// ClientConfig implements gitssh.AuthMethod.
func (a sshAuth) ClientConfig() (*ssh.ClientConfig, error) {
	config, err := a.PublicKeys.ClientConfig()
	if err != nil {
		return nil, err
	}
	config.Timeout = a.timeout
	return config, nil
}

// sshAuth fails without known_hosts. Without that, go-git would read the files of
// whoever runs the controller, and whoever can intercept the connection could
// grant access.
func (c credentials) sshAuth(dir string, ep *transport.Endpoint, timeout time.Duration) (gitssh.AuthMethod, error) {
	if c.text(identityFile) == "" {
		return nil, fmt.Errorf("ssh needs the file %s in the auth folder", identityFile)
	}
	if len(bytes.TrimSpace(c[knownHostsFile])) == 0 {
		return nil, fmt.Errorf("ssh needs the file %s in the auth folder: a host that is not known is not trusted", knownHostsFile)
	}
	user := ep.User
	if user == "" {
		user = gitssh.DefaultUsername
	}
	keys, err := gitssh.NewPublicKeys(user, c[identityFile], c.text(passwordFile))
	if err != nil {
		return nil, fmt.Errorf("auth file %s is no private key, or %s does not open it", identityFile, passwordFile)
	}
	hosts, err := gitssh.NewKnownHostsDb(filepath.Join(dir, knownHostsFile))
	if err != nil {
		return nil, fmt.Errorf("auth file %s cannot be read as OpenSSH's known_hosts", knownHostsFile)
	}
	port := ep.Port
	if port == 0 {
		port = gitssh.DefaultPort
	}
	keys.HostKeyCallback = hosts.HostKeyCallback()
	keys.HostKeyAlgorithms = hosts.HostKeyAlgorithms(net.JoinHostPort(ep.Host, fmt.Sprint(port)))
	return sshAuth{PublicKeys: keys, timeout: timeout}, nil
}
