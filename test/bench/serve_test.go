package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	authorizationv1 "k8s.io/api/authorization/v1"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/sallyport-dev/sallyport/internal/authz"
	"github.com/sallyport-dev/sallyport/internal/core/effective"
	"github.com/sallyport-dev/sallyport/internal/decisionlog"
)

// With these in its environment the program of the benchmarks is one of the servers that
// they measure, so that those are processes of their own.
const (
	serveEnv    = "SALLYPORT_BENCH_SERVE"
	serveDirEnv = "SALLYPORT_BENCH_DIR"
)

func TestMain(m *testing.M) {
	name := os.Getenv(serveEnv)
	if name == "" {
		os.Exit(m.Run())
	}
	if err := serveReviews(name, os.Getenv(serveDirEnv)); err != nil {
		fmt.Fprintln(os.Stderr, "error: "+err.Error())
		os.Exit(1)
	}
}

// serveReviews by mutual TLS, until there is no more to read. It prints its address.
func serveReviews(name, dir string) error {
	handler := http.Handler(http.HandlerFunc(noOpinion))
	if name == "authorizer" {
		var err error
		if handler, err = authorizer(); err != nil {
			return err
		}
	}
	file := func(name string) string { return filepath.Join(dir, name) }
	ca, err := os.ReadFile(file("tls.crt"))
	if err != nil {
		return err
	}
	clients := x509.NewCertPool()
	if !clients.AppendCertsFromPEM(ca) {
		return errors.New("there is no certificate")
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(listener.Addr())
	server := &http.Server{
		Handler: handler, ReadHeaderTimeout: 10 * time.Second,
		TLSConfig: &tls.Config{ClientCAs: clients, ClientAuth: tls.RequireAndVerifyClientCert, MinVersion: tls.VersionTLS12},
	}
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin) // until whoever started it has gone
		server.Close()
	}()
	if err := server.ServeTLS(listener, file("tls.crt"), file("tls.key")); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// noOpinion is the least that a webhook can do.
func noOpinion(w http.ResponseWriter, r *http.Request) {
	review := &authorizationv1.SubjectAccessReview{}
	if err := json.NewDecoder(r.Body).Decode(review); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(&authorizationv1.SubjectAccessReview{TypeMeta: review.TypeMeta}) // fails where nobody listens
}

// authorizer is Sallyport's, with what it counts and what it logs, which goes nowhere.
func authorizer() (http.Handler, error) {
	s := tenants(grants, members)
	all, err := fromLibrary("guardrail.yaml", inForce, 20)
	if err != nil {
		return nil, err
	}
	s.Guardrails = setOf(all...)
	metrics, err := authz.NewMetrics(prometheus.NewRegistry())
	if err != nil {
		return nil, err
	}
	o := decisionlog.NewOptions()
	o.Stdout = io.Discard
	log, err := decisionlog.New(*o)
	if err != nil {
		return nil, err
	}
	return authz.NewHandler(authz.HandlerOptions{
		Index: index{new(effective.Builder).Build(s)}, AllowFromGrants: true, Log: log, Metrics: metrics,
		Clock: clocktesting.NewFakePassiveClock(now),
	}), nil
}

// index that does not change.
type index struct{ *effective.Index }

func (i index) Current() *effective.Index { return i.Index }
