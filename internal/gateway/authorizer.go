package gateway

import (
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/authorization/authorizerfactory"
	"k8s.io/client-go/kubernetes"

	"github.com/sallyport-dev/sallyport/internal/gateway/hub"
)

// newAuthorizer asks the hub about what is asked of the gateway itself. Unlike Kubernetes'
// own, it lets nobody through before: system:masters is the hub's to know.
func newAuthorizer(client kubernetes.Interface) (authorizer.Authorizer, error) {
	a, err := authorizerfactory.DelegatingAuthorizerConfig{
		SubjectAccessReviewClient: client.AuthorizationV1(),
		AllowCacheTTL:             hub.DefaultTTL, DenyCacheTTL: hub.DefaultTTL,
		WebhookRetryBackoff: &wait.Backoff{Duration: 100 * time.Millisecond, Factor: 2, Jitter: .2, Steps: 3},
	}.New()
	if err != nil {
		return nil, fmt.Errorf("cannot delegate authorization to the hub: %w", err)
	}
	return a, nil
}
