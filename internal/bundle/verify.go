package bundle

import (
	"bytes"
	"cmp"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	opa "github.com/open-policy-agent/opa/v1/bundle"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
)

// Algorithms of signatures that are accepted. Those with a shared secret are not:
// who can verify with one can sign with it.
var Algorithms = []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512"}

// hashes of files that are accepted.
var hashes = []string{"SHA-256", "SHA-384", "SHA-512", "SHA-512-256"}

// minRSA is the least size of an RSA key, in bits.
const minRSA = 2048

// Signature is what a bundle says of its signature.
type Signature struct {
	// KeyID, Algorithm and Scope; KeyID and Scope may be empty.
	KeyID     string `json:"keyID,omitempty"`
	Algorithm string `json:"algorithm"`
	Scope     string `json:"scope,omitempty"`

	token string
}

// ErrUnsigned says that the bundle has no signature at all.
var ErrUnsigned = errors.New("is not signed")

// Signature of the bundle, as yet unverified. It is ErrUnsigned if there is none.
func (b *Bundle) Signature() (Signature, error) {
	raw, ok := b.files[signaturesFile]
	if !ok {
		return Signature{}, ErrUnsigned
	}
	var config opa.SignaturesConfig
	if err := json.Unmarshal(raw, &config); err != nil {
		return Signature{}, fmt.Errorf("has a %s that cannot be read: %w", signaturesFile, err)
	}
	if config.Plugin != "" && config.Plugin != "_default" {
		return Signature{}, fmt.Errorf("is signed with the plugin %q, which is not known here", config.Plugin)
	}
	if len(config.Signatures) != 1 {
		return Signature{}, fmt.Errorf("has %d signatures; it has to have one", len(config.Signatures))
	}
	s := Signature{token: config.Signatures[0]}
	parts := strings.Split(s.token, ".")
	if len(parts) != 3 {
		return Signature{}, errors.New("has a signature that is no JSON Web Token")
	}
	var header struct{ Alg, Kid string }
	var payload opa.DecodedSignature
	if err := errors.Join(decode(parts[0], &header), decode(parts[1], &payload)); err != nil {
		return Signature{}, fmt.Errorf("has a signature that cannot be read: %w", err)
	}
	s.Algorithm, s.KeyID, s.Scope = header.Alg, cmp.Or(header.Kid, payload.KeyID), payload.Scope
	return s, nil
}

func decode(part string, into any) error {
	raw, err := base64.RawURLEncoding.DecodeString(part)
	if err != nil {
		return err
	}
	return json.Unmarshal(raw, into)
}

// Verify that one of the keys signed all that is in the bundle, and return the
// signature. One that names no key is tried with each. Errors are worded to follow
// the name of the bundle.
func (b *Bundle) Verify(v *v1alpha1.BundleVerification) (Signature, error) {
	s, err := b.Signature()
	if err != nil {
		return Signature{}, err
	}
	if !slices.Contains(Algorithms, s.Algorithm) {
		return Signature{}, fmt.Errorf("is signed with the algorithm %q; accepted are %s", s.Algorithm, strings.Join(Algorithms, ", "))
	}
	if s.Scope != v.Scope {
		return Signature{}, fmt.Errorf("is signed for the scope %q, and not for %q", s.Scope, v.Scope)
	}
	err = fmt.Errorf("is signed with the key %q, which is not one of those that are trusted", s.KeyID)
	for i := range v.Keys {
		key := &v.Keys[i]
		if s.KeyID != "" && s.KeyID != key.ID {
			continue
		}
		if err = b.verifyWith(key, s); err == nil {
			s.KeyID = key.ID
			return s, nil
		}
	}
	return Signature{}, err
}

// VerifyUnsigned is for where no key is known and none is asked for. A bundle that
// is signed all the same is refused: it says who made it, and nobody can tell
// whether that is so.
func (b *Bundle) VerifyUnsigned() error {
	switch _, err := b.Signature(); {
	case errors.Is(err, ErrUnsigned):
		return nil
	case err != nil:
		return err
	}
	return errors.New("is signed, and there is no key to verify it with")
}

// theKey is what OPA is told that the one key it is to use is called.
const theKey = "key"

func (b *Bundle) verifyWith(key *v1alpha1.BundleKey, s Signature) error {
	algorithm := cmp.Or(key.Algorithm, "RS256")
	if algorithm != s.Algorithm {
		return fmt.Errorf("is signed with %s, and the key %q is for %s", s.Algorithm, key.ID, algorithm)
	}
	if err := CheckKey(key); err != nil {
		return fmt.Errorf("cannot be verified with the key %q, which %w", key.ID, err)
	}
	files, err := opa.VerifyBundleSignature(opa.SignaturesConfig{Signatures: []string{s.token}}, &opa.VerificationConfig{
		PublicKeys: map[string]*opa.KeyConfig{theKey: {Key: key.PublicKey, Algorithm: algorithm}}, KeyID: theKey, Scope: s.Scope,
	})
	if err != nil {
		return fmt.Errorf("is not signed with the key %q: %w", key.ID, err)
	}
	if files, err = cleanNames(files); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if !slices.Contains(hashes, files[name].Algorithm) {
			return fmt.Errorf("is signed with the digest %q of %q; accepted are %s", files[name].Algorithm, name, strings.Join(hashes, ", "))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(b.files)) {
		if name == signaturesFile {
			continue
		}
		if _, ok := files[name]; !ok {
			return fmt.Errorf("has %q, which the signature does not cover", name)
		}
		if err := opa.VerifyBundleFile(name, *bytes.NewBuffer(b.files[name]), files); err != nil {
			return fmt.Errorf("is not what was signed: %w", err)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		return fmt.Errorf("lacks %q, which was signed", name)
	}
	return nil
}

// cleanNames are the files of a signature by the paths that they have in a Bundle.
// opa sign names them as tar does.
func cleanNames(files map[string]opa.FileInfo) (map[string]opa.FileInfo, error) {
	out := make(map[string]opa.FileInfo, len(files))
	for name, info := range files {
		clean, err := cleanPath(name)
		if err != nil {
			return nil, fmt.Errorf("is signed for files of which it %w", err)
		}
		if _, ok := out[clean]; ok {
			return nil, fmt.Errorf("is signed for %q twice", clean)
		}
		out[clean] = info
	}
	return out, nil
}

// CheckKey reports whether a key is one that signatures of its algorithm can be
// verified with. Errors are worded to follow the name of the key.
func CheckKey(k *v1alpha1.BundleKey) error {
	key, err := parsePublicKey(k.PublicKey)
	if err != nil {
		return err
	}
	algorithm := cmp.Or(k.Algorithm, "RS256")
	curves := strings.HasPrefix(algorithm, "ES")
	switch key.(type) {
	case *rsa.PublicKey:
		if curves {
			return fmt.Errorf("is an RSA key, and %s takes one of ECDSA", algorithm)
		}
	case *ecdsa.PublicKey:
		if !curves {
			return fmt.Errorf("is an ECDSA key, and %s takes one of RSA", algorithm)
		}
	default:
		return errors.New("is neither an RSA nor an ECDSA key")
	}
	return nil
}

// parsePublicKey in PEM.
func parsePublicKey(text string) (any, error) {
	block, rest := pem.Decode([]byte(text))
	if block == nil || len(bytes.TrimSpace(rest)) > 0 {
		return nil, errors.New("is not one key in PEM")
	}
	var key any
	var err error
	switch block.Type {
	case "PUBLIC KEY":
		key, err = x509.ParsePKIXPublicKey(block.Bytes)
	case "RSA PUBLIC KEY":
		key, err = x509.ParsePKCS1PublicKey(block.Bytes)
	default:
		return nil, fmt.Errorf("is a %q and no public key", block.Type)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot be read: %w", err)
	}
	if k, ok := key.(*rsa.PublicKey); ok && k.N.BitLen() < minRSA {
		return nil, fmt.Errorf("has %d bits; the least is %d", k.N.BitLen(), minRSA)
	}
	return key, nil
}
