// Command floor is the least that a proxy to one member can be: TLS, a fixed
// identity, a pool of connections, and no decision. The benchmarks measure the
// gateway beside it.
package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"strings"
	"time"
)

func main() {
	var o options
	flag.StringVar(&o.addr, "addr", "", "address to listen on")
	flag.StringVar(&o.cert, "tls-cert", "", "its certificate")
	flag.StringVar(&o.key, "tls-key", "", "its key")
	flag.StringVar(&o.prefix, "prefix", "", "what is cut off paths")
	flag.StringVar(&o.member, "member", "", "URL of the member")
	flag.StringVar(&o.memberCA, "member-ca", "", "file with its CA")
	flag.StringVar(&o.token, "token-file", "", "file with the token to use there")
	flag.StringVar(&o.user, "user", "", "user to impersonate there")
	flag.StringVar(&o.group, "group", "", "group to impersonate there")
	flag.Parse()
	if err := serve(&o); err != nil {
		fmt.Fprintln(os.Stderr, "error: "+err.Error())
		os.Exit(1)
	}
}

type options struct {
	addr, cert, key, prefix, member, memberCA, token, user, group string
}

func serve(o *options) error {
	to, err := url.Parse(o.member)
	if err != nil {
		return err
	}
	ca, err := os.ReadFile(o.memberCA)
	if err != nil {
		return err
	}
	token, err := os.ReadFile(o.token)
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(ca) {
		return errors.New("there is no certificate in --member-ca")
	}
	proxy := &httputil.ReverseProxy{
		FlushInterval: -1,
		Transport: &http.Transport{
			TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}, MaxIdleConnsPerHost: 128, DisableCompression: true,
		},
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(to)
			r.Out.URL.Path = strings.TrimPrefix(r.In.URL.Path, o.prefix)
			h := r.Out.Header
			for name := range h {
				if strings.HasPrefix(name, "X-Remote-") || strings.HasPrefix(name, "Impersonate-") {
					h.Del(name)
				}
			}
			h.Set("Authorization", "Bearer "+string(token))
			h.Set("Impersonate-User", o.user)
			h.Set("Impersonate-Group", o.group)
		},
	}
	mux := http.NewServeMux()
	mux.Handle(o.prefix+"/", proxy)
	// What the aggregation layer asks before it sends anything.
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) })
	server := &http.Server{Addr: o.addr, Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	return server.ListenAndServeTLS(o.cert, o.key)
}
