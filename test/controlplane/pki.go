package controlplane

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// validity of every certificate: long enough for a demo left running over a holiday, and no longer.
const validity = 30 * 24 * time.Hour

// authority is a certificate authority. A cluster has three that must not be mixed up: one for its serving certificate,
// one for its clients, and one for the front proxy. If the last two were one, any user could pose as the front proxy
// and so as anyone.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  []byte
}

// keyPair is a certificate and its private key, in PEM.
type keyPair struct{ cert, key []byte }

func newAuthority(name string) (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: name},
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
	der, err := sign(template, template, key, key)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return &authority{cert: cert, key: key, pem: encodeCert(der)}, nil
}

// client issues a certificate that Kubernetes reads as a user (the common name) in groups (the organizations).
func (a *authority) client(user string, groups ...string) (keyPair, error) {
	return a.issue(&x509.Certificate{
		Subject:     pkix.Name{CommonName: user, Organization: groups},
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
}

// server issues a serving certificate for loopback and the given names.
func (a *authority) server(names ...string) (keyPair, error) {
	return a.issue(&x509.Certificate{
		Subject:     pkix.Name{CommonName: "localhost"},
		DNSNames:    append([]string{"localhost"}, names...),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
}

func (a *authority) issue(template *x509.Certificate) (keyPair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return keyPair{}, err
	}
	der, err := sign(template, a.cert, key, a.key)
	if err != nil {
		return keyPair{}, err
	}
	keyPEM, err := encodeKey(key)
	return keyPair{cert: encodeCert(der), key: keyPEM}, err
}

func sign(template, parent *x509.Certificate, key, signer *ecdsa.PrivateKey) ([]byte, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, err
	}
	template.SerialNumber = serial
	template.NotBefore = time.Now().Add(-time.Minute) // for a clock that steps back a little
	template.NotAfter = template.NotBefore.Add(validity)
	return x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
}

func encodeCert(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func encodeKey(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, err
	}
	// Not PKCS #8: the API server takes only this form for the key of its ServiceAccount tokens.
	return pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}), nil
}

// pki is what one cluster trusts and signs with.
type pki struct {
	dir                         string // where the files of files() are
	serving, client, frontProxy *authority
}

// newPKI makes the authorities and keys of a cluster and writes into dir what its API server reads:
//
//	ca.crt                    signs tls.crt; clients trust it
//	client-ca.crt             signs users
//	front-proxy-ca.crt        signs front-proxy-client.{crt,key}, the aggregator's own certificate
//	tls.{crt,key}             serving certificate
//	service-accounts.key      signs ServiceAccount tokens
func newPKI(dir, cluster string) (*pki, error) {
	p := &pki{dir: dir}
	var err error
	for _, ca := range []struct {
		into **authority
		name string
	}{{&p.serving, "serving"}, {&p.client, "client"}, {&p.frontProxy, "front-proxy"}} {
		if *ca.into, err = newAuthority(cluster + " " + ca.name); err != nil {
			return nil, err
		}
	}
	tls, err := p.serving.server("kubernetes.default.svc", cluster)
	if err != nil {
		return nil, err
	}
	proxy, err := p.frontProxy.client("front-proxy-client")
	if err != nil {
		return nil, err
	}
	signer, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	tokens, err := encodeKey(signer)
	if err != nil {
		return nil, err
	}
	return p, errors.Join(
		writeSecret(p.path("ca.crt"), p.serving.pem),
		writeSecret(p.path("client-ca.crt"), p.client.pem),
		writeSecret(p.path("front-proxy-ca.crt"), p.frontProxy.pem),
		tls.write(p.path("tls")),
		proxy.write(p.path("front-proxy-client")),
		writeSecret(p.path("service-accounts.key"), tokens),
	)
}

func (p *pki) path(name string) string { return filepath.Join(p.dir, name) }

// write puts the pair into base.crt and base.key.
func (k keyPair) write(base string) error {
	return errors.Join(writeSecret(base+".crt", k.cert), writeSecret(base+".key", k.key))
}

// writeSecret writes a file that only its owner can read, and its folder.
func writeSecret(path string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		return fmt.Errorf("cannot write %q: %w", path, err)
	}
	return nil
}
