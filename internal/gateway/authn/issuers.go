package authn

import (
	"context"
	"errors"
	"fmt"
	"os"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apiserver/pkg/apis/apiserver"
	"k8s.io/apiserver/pkg/apis/apiserver/install"
	"k8s.io/apiserver/pkg/apis/apiserver/validation"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	authenticationcel "k8s.io/apiserver/pkg/authentication/cel"
	tokenunion "k8s.io/apiserver/pkg/authentication/token/union"
	"k8s.io/apiserver/pkg/server/dynamiccertificates"
	"k8s.io/apiserver/plugin/pkg/authenticator/token/oidc"
)

// issuersOf a configuration tell tokens. Their keys are read in the background, and read
// again when a token has one that is not known; ready is nil once all have been read.
func issuersOf(ctx context.Context, file string) (_ authenticator.Token, ready func() error, _ error) {
	compiler := authenticationcel.NewDefaultCompiler()
	config, err := readConfig(file, compiler)
	if err != nil {
		return nil, nil, err
	}
	var tokens []authenticator.Token
	var checks []func() error
	for _, jwt := range config.JWT {
		o := oidc.Options{JWTAuthenticator: jwt, Compiler: compiler, SupportedSigningAlgs: oidc.AllValidSigningAlgorithms()}
		if ca := jwt.Issuer.CertificateAuthority; ca != "" {
			if o.CAContentProvider, err = dynamiccertificates.NewStaticCAContent("issuer", []byte(ca)); err != nil {
				return nil, nil, fmt.Errorf("issuer %q: %w", jwt.Issuer.URL, err)
			}
		}
		issuer, err := oidc.New(ctx, o)
		if err != nil {
			return nil, nil, fmt.Errorf("issuer %q: %w", jwt.Issuer.URL, err)
		}
		tokens = append(tokens, issuer)
		checks = append(checks, issuer.HealthCheck)
	}
	return tokenunion.NewFailOnError(tokens...), func() error {
		var errs []error
		for _, check := range checks {
			errs = append(errs, check())
		}
		return errors.Join(errs...)
	}, nil
}

func readConfig(file string, compiler authenticationcel.Compiler) (*apiserver.AuthenticationConfiguration, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	scheme := runtime.NewScheme()
	install.Install(scheme)
	object, err := runtime.Decode(serializer.NewCodecFactory(scheme, serializer.EnableStrict).UniversalDecoder(), data)
	if err != nil {
		return nil, err
	}
	config, ok := object.(*apiserver.AuthenticationConfiguration)
	if !ok {
		return nil, fmt.Errorf("it is a %T", object)
	}
	if config.Anonymous != nil && config.Anonymous.Enabled {
		return nil, errors.New("it lets anonymous people in, which the gateway does not")
	}
	if err := validation.ValidateAuthenticationConfiguration(compiler, config, nil).ToAggregate(); err != nil {
		return nil, err
	}
	return config, nil
}
