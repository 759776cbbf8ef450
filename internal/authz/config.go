package authz

import (
	"cmp"
	"errors"
	"fmt"
	"net/url"
	"path"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	apiserverv1 "k8s.io/apiserver/pkg/apis/apiserver/v1"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/yaml"
)

// ConfigOptions of Config. Paths are those on the machine of the API server.
type ConfigOptions struct {
	// Cluster that the API server is of, as a member of the fleet; empty for a hub of
	// which only the way to members is decided.
	Cluster string
	// Server is the authorizer's URL: https, without path.
	Server string
	// ServerName is the name in its certificate, where that is not the URL's host.
	ServerName string
	// CAFile verifies it; CertFile and KeyFile are for the API server.
	CAFile, CertFile, KeyFile string
	// KubeconfigFile is where the API server is to find the kubeconfig.
	KubeconfigFile string
	// FailurePolicy where there is no answer: Deny or NoOpinion.
	FailurePolicy string
	// Timeout of one review.
	Timeout time.Duration
	// UnauthorizedTTL is how long what is not allowed is kept: no opinion, too, so that a
	// guardrail that comes is in force after it at the latest. None if zero.
	UnauthorizedTTL time.Duration
	// Spare are namespaces whose service accounts are not asked about, beside kube-system:
	// the authorizer's own, or nothing would start.
	Spare []string
	// Node has the Node authorizer between the webhook and RBAC, as for a cluster with
	// nodes.
	Node bool
}

// NewConfigOptions has the defaults.
func NewConfigOptions() *ConfigOptions {
	const dir = "/etc/kubernetes/sallyport/"
	return &ConfigOptions{
		CAFile: dir + "ca.crt", CertFile: dir + "client.crt", KeyFile: dir + "client.key", KubeconfigFile: dir + "kubeconfig.yaml",
		FailurePolicy: apiserverv1.FailurePolicyDeny, Timeout: 3 * time.Second, UnauthorizedTTL: time.Second,
		Spare: []string{"sallyport-system", "sallyport-gateway", "sallyport-authorizer"}, Node: true,
	}
}

// maxTTL bounds for how long a guardrail that is new may not hold.
const maxTTL = 10 * time.Second

// Config is an AuthorizationConfiguration for kube-apiserver, and the kubeconfig that it
// names, both in YAML.
//
// What is allowed is not kept: kube-apiserver keeps an answer by the request alone, and
// knows neither when a grant ends nor when it is revoked (S14).
func Config(o *ConfigOptions) (authorization, kubeconfig []byte, err error) {
	server, err := url.Parse(o.Server)
	switch {
	case err != nil || server.Scheme != "https" || server.Host == "" || strings.Trim(server.Path, "/") != "" || server.RawQuery != "" || server.User != nil:
		return nil, nil, errors.New("the server has to be an https URL without path and query")
	case o.Cluster != "" && !isName(o.Cluster):
		return nil, nil, fmt.Errorf("%q is no name of a cluster", o.Cluster)
	case o.FailurePolicy != apiserverv1.FailurePolicyDeny && o.FailurePolicy != apiserverv1.FailurePolicyNoOpinion:
		return nil, nil, fmt.Errorf("the failure policy %q is neither Deny nor NoOpinion", o.FailurePolicy)
	case o.UnauthorizedTTL < 0 || o.UnauthorizedTTL > maxTTL:
		return nil, nil, errors.New("what is not allowed is kept for no longer than " + maxTTL.String() + ": so long a new guardrail does not hold")
	case o.Timeout <= 0 || o.Timeout > 30*time.Second:
		return nil, nil, errors.New("the timeout has to be above 0 and no more than 30s")
	}
	for _, file := range []string{o.CAFile, o.CertFile, o.KeyFile, o.KubeconfigFile} {
		if !path.IsAbs(file) {
			return nil, nil, fmt.Errorf("%q is no absolute path", file)
		}
	}
	server.Path = path.Join(Path, o.Cluster)
	if authorization, err = yaml.Marshal(o.authorization()); err != nil {
		return nil, nil, fmt.Errorf("cannot encode the configuration: %w", err)
	}
	kubeconfig, err = clientcmd.Write(clientcmdapi.Config{
		Clusters: map[string]*clientcmdapi.Cluster{"sallyport": {Server: server.String(), TLSServerName: o.ServerName, CertificateAuthority: o.CAFile}},
		AuthInfos: map[string]*clientcmdapi.AuthInfo{"kube-apiserver": {
			ClientCertificate: o.CertFile, ClientKey: o.KeyFile,
		}},
		Contexts:       map[string]*clientcmdapi.Context{"sallyport": {Cluster: "sallyport", AuthInfo: "kube-apiserver"}},
		CurrentContext: "sallyport",
	})
	return authorization, kubeconfig, err
}

func (o *ConfigOptions) authorization() *apiserverv1.AuthorizationConfiguration {
	out := &apiserverv1.AuthorizationConfiguration{
		TypeMeta: metav1.TypeMeta{APIVersion: apiserverv1.SchemeGroupVersion.String(), Kind: "AuthorizationConfiguration"},
		Authorizers: []apiserverv1.AuthorizerConfiguration{{
			Type: string(apiserverv1.TypeWebhook), Name: "sallyport",
			Webhook: &apiserverv1.WebhookConfiguration{
				Timeout: metav1.Duration{Duration: o.Timeout}, FailurePolicy: o.FailurePolicy,
				SubjectAccessReviewVersion: "v1", MatchConditionSubjectAccessReviewVersion: "v1",
				AuthorizedTTL: metav1.Duration{Duration: time.Second}, CacheAuthorizedRequests: ptr.To(false),
				UnauthorizedTTL: metav1.Duration{Duration: cmp.Or(o.UnauthorizedTTL, time.Second)}, CacheUnauthorizedRequests: ptr.To(o.UnauthorizedTTL > 0),
				ConnectionInfo: apiserverv1.WebhookConnectionInfo{
					Type: apiserverv1.AuthorizationWebhookConnectionInfoTypeKubeConfigFile, KubeConfigFile: ptr.To(o.KubeconfigFile),
				},
				MatchConditions: o.matchConditions(),
			},
		}},
	}
	if o.Node {
		out.Authorizers = append(out.Authorizers, apiserverv1.AuthorizerConfiguration{Type: "Node", Name: "node"})
	}
	out.Authorizers = append(out.Authorizers, apiserverv1.AuthorizerConfiguration{Type: "RBAC", Name: "rbac"})
	return out
}

// matchConditions spare the traffic of the system: the API server itself, its
// controllers, nodes, and the programs without which nobody could answer. So are its
// health checks: whoever looks at them would take it for dead with the authorizer.
func (o *ConfigOptions) matchConditions() []apiserverv1.WebhookMatchCondition {
	out := []apiserverv1.WebhookMatchCondition{
		{Expression: `request.user != "system:apiserver" && !request.user.startsWith("system:kube-")`},
		{Expression: notIn("system:nodes")},
		{Expression: `!has(request.nonResourceAttributes) || !(request.nonResourceAttributes.path in ["/healthz", "/livez", "/readyz"])`},
	}
	for _, ns := range append([]string{"kube-system"}, o.Spare...) {
		out = append(out, apiserverv1.WebhookMatchCondition{Expression: notIn("system:serviceaccounts:" + ns)})
	}
	return out
}

// notIn a group. CEL's strings are quoted as Go's are.
func notIn(group string) string {
	return fmt.Sprintf("!has(request.groups) || !(%q in request.groups)", group)
}
