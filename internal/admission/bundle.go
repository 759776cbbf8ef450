package admission

import (
	"context"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
)

// bundle is refused if no bundle could ever be verified with its keys, or if its
// match cannot be read.
func (h *Handler) bundle(_ context.Context, b *v1alpha1.GuardrailBundle) answer {
	path := field.NewPath("spec")
	var errs field.ErrorList
	if _, err := guardrail.NewMatch(b.Spec.Match); err != nil {
		errs = append(errs, field.Invalid(path.Child("match"), field.OmitValueType{}, err.Error()))
	}
	if v := b.Spec.Verification; v != nil {
		for i := range v.Keys {
			if err := checkKey(&v.Keys[i]); err != nil {
				errs = append(errs, field.Invalid(path.Child("verification", "keys").Index(i).Child("publicKey"), field.OmitValueType{}, err.Error()))
			}
		}
	}
	if len(errs) > 0 {
		return refuseFields(v1alpha1.GroupVersion.WithKind(v1alpha1.GuardrailBundleKind).GroupKind(), b.Name, errs)
	}
	return allow()
}

// checkKey reports whether the key is one, and one for its algorithm.
func checkKey(k *v1alpha1.BundleKey) error {
	block, _ := pem.Decode([]byte(k.PublicKey))
	if block == nil {
		return errors.New("is not in PEM")
	}
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		if key, err = x509.ParsePKCS1PublicKey(block.Bytes); err != nil {
			return errors.New("is no public key")
		}
	}
	switch key := key.(type) {
	case *rsa.PublicKey:
		if strings.HasPrefix(k.Algorithm, "ES") {
			return fmt.Errorf("is an RSA key, and %s takes one of ECDSA", k.Algorithm)
		}
		if bits := key.N.BitLen(); bits < 2048 {
			return fmt.Errorf("has %d bits, and fewer than 2048 are not safe", bits)
		}
	case *ecdsa.PublicKey:
		if !strings.HasPrefix(k.Algorithm, "ES") {
			return fmt.Errorf("is an ECDSA key, and %s takes one of RSA", k.Algorithm)
		}
	default:
		return errors.New("is neither an RSA nor an ECDSA key")
	}
	return nil
}
