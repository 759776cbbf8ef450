package bundle

import (
	"cmp"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	opa "github.com/open-policy-agent/opa/v1/bundle"
	opautil "github.com/open-policy-agent/opa/v1/util"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
)

// Signer is who signs a bundle, and for what.
type Signer struct {
	// Key is a private key in PEM, without passphrase.
	Key string
	// KeyID by which those who verify know the public key.
	KeyID string
	// Algorithm is one of Algorithms; RS256 if empty.
	Algorithm string
	// Scope that those who verify have to ask for; empty for none.
	Scope string
}

// Sign a bundle, in place of whoever signed it before, and return the archive. It is
// the signature that opa sign makes.
func Sign(archive []byte, s Signer) ([]byte, error) {
	s.Algorithm = cmp.Or(s.Algorithm, "RS256")
	if !slices.Contains(Algorithms, s.Algorithm) {
		return nil, fmt.Errorf("cannot sign with the algorithm %q: it is none of %s", s.Algorithm, strings.Join(Algorithms, ", "))
	}
	public, err := publicKey(s.Key)
	if err != nil {
		return nil, fmt.Errorf("cannot sign with the key: it %w", err)
	}
	b, err := Open(archive)
	if err != nil {
		return nil, fmt.Errorf("cannot sign the bundle: it %w", err)
	}
	delete(b.files, signaturesFile)
	files, err := b.hash()
	if err != nil {
		return nil, fmt.Errorf("cannot sign the bundle: %w", err)
	}
	token, err := s.token(files)
	if err != nil {
		return nil, fmt.Errorf("cannot sign with the key as %s: %w", s.Algorithm, err)
	}
	if b.files[signaturesFile], err = json.MarshalIndent(opa.SignaturesConfig{Signatures: []string{token}}, "", " "); err != nil {
		return nil, err
	}
	// Nobody is to find out only at the other end.
	key := v1alpha1.BundleKey{ID: s.KeyID, Algorithm: s.Algorithm, PublicKey: public}
	if _, err := b.Verify(&v1alpha1.BundleVerification{Keys: []v1alpha1.BundleKey{key}, Scope: s.Scope}); err != nil {
		return nil, fmt.Errorf("cannot sign the bundle: it would not be accepted: it %w", err)
	}
	return pack(b.files)
}

// hash of each file, of data and manifest that of the value.
func (b *Bundle) hash() ([]opa.FileInfo, error) {
	const algorithm = opa.SHA256
	hasher, err := opa.NewSignatureHasher(algorithm)
	if err != nil {
		return nil, err
	}
	var files []opa.FileInfo
	for _, name := range slices.Sorted(maps.Keys(b.files)) {
		var value any = b.files[name]
		if opa.IsStructuredDoc(name) {
			value = nil
			if err := opautil.Unmarshal(b.files[name], &value); err != nil {
				return nil, fmt.Errorf("cannot read %q: %w", name, err)
			}
		}
		sum, err := hasher.HashFile(value)
		if err != nil {
			return nil, err
		}
		files = append(files, opa.NewFile(name, hex.EncodeToString(sum), algorithm.String()))
	}
	return files, nil
}

// token is the signature. OPA takes a scope from a file of claims and from nowhere
// else.
func (s *Signer) token(files []opa.FileInfo) (string, error) {
	claims := ""
	if s.Scope != "" {
		f, err := os.CreateTemp("", "claims-*.json")
		if err != nil {
			return "", err
		}
		claims = f.Name()
		defer func() { _ = os.Remove(claims) }() // there is nothing secret in it
		err = json.NewEncoder(f).Encode(map[string]string{"scope": s.Scope, "keyid": s.KeyID})
		if err := errors.Join(err, f.Close()); err != nil {
			return "", err
		}
	}
	return opa.GenerateSignedToken(files, opa.NewSigningConfig(s.Key, s.Algorithm, claims), s.KeyID)
}

// AlgorithmFor is the usual algorithm for a private or public key in PEM. Errors are
// worded to follow the name of the key.
func AlgorithmFor(key string) (string, error) {
	public := key
	if block, _ := pem.Decode([]byte(key)); block != nil && strings.HasSuffix(block.Type, "PRIVATE KEY") {
		var err error
		if public, err = publicKey(key); err != nil {
			return "", err
		}
	}
	parsed, err := parsePublicKey(public)
	if err != nil {
		return "", err
	}
	switch k := parsed.(type) {
	case *rsa.PublicKey:
		return "RS256", nil
	case *ecdsa.PublicKey:
		switch k.Curve.Params().BitSize {
		case 256:
			return "ES256", nil
		case 384:
			return "ES384", nil
		case 521:
			return "ES512", nil
		}
	}
	return "", errors.New("is neither an RSA key nor one on the curves P-256, P-384 and P-521")
}

// publicKey in PEM that goes with a private one.
func publicKey(private string) (string, error) {
	if !strings.HasPrefix(private, "-----BEGIN") { // OPA would take it for a path
		return "", errors.New("is not in PEM")
	}
	block, _ := pem.Decode([]byte(private))
	if block == nil {
		return "", errors.New("is not in PEM")
	}
	var key any
	var err error
	switch block.Type {
	case "RSA PRIVATE KEY":
		key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	case "PRIVATE KEY":
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	case "EC PRIVATE KEY":
		key, err = x509.ParseECPrivateKey(block.Bytes)
	default:
		return "", fmt.Errorf("is a %q; it has to be a private key without passphrase", block.Type)
	}
	if err != nil {
		return "", errors.New("is a private key that cannot be read")
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return "", errors.New("is not for signing")
	}
	raw, err := x509.MarshalPKIXPublicKey(signer.Public())
	if err != nil {
		return "", err
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: raw})), nil
}
