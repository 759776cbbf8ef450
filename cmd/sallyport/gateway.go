package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"
	"go.uber.org/zap/zapcore"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"

	"github.com/sallyport-dev/sallyport/internal/gateway"
)

func gatewayCommand() *cobra.Command {
	o := gateway.NewOptions()
	var kubeconfig string
	var debug, strict bool
	cmd := &cobra.Command{
		Use:   "gateway",
		Short: "Run the gateway to members",
		Long: `Run the gateway to members: an aggregated API server for proxy.sallyport.dev, by
which people reach members with plain kubectl. Each request is judged by guardrails,
grants and the hub before it is sent on, as the person who made it.

Replicas share nothing; run as many as you like. See docs/how-to/install-the-gateway.md.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			// Anybody can have a request refused, and a stack trace of it tells nothing.
			logger := zap.New(zap.UseDevMode(debug), zap.StacktraceLevel(zapcore.DPanicLevel))
			ctrl.SetLogger(logger)
			klog.SetLogger(logger.WithName("apiserver"))
			var err error
			if o.Hub, err = clientcmd.BuildConfigFromFlags("", kubeconfig); err != nil {
				return fmt.Errorf("cannot find the hub: %w", err)
			}
			o.Lenient = !strict
			o.Version, o.Traces.Version = version, version
			g, err := gateway.New(cmd.Context(), *o)
			if err != nil {
				return err
			}
			return g.Run(cmd.Context())
		},
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.StringVar(&kubeconfig, "kubeconfig", os.Getenv("KUBECONFIG"), "kubeconfig of the hub; empty inside a pod")
	f.StringVar(&o.Namespace, "namespace", orElse(os.Getenv("POD_NAMESPACE"), o.Namespace), "the gateway's own namespace: the routes to members are there")
	f.StringVar(&o.SallyportNamespace, "sallyport-namespace", o.SallyportNamespace, "the controller's namespace: what was made of bundles is there")

	f.StringVar(&o.Serving.Addr, "addr", o.Serving.Addr, "address to serve on")
	f.StringVar(&o.Serving.CertFile, "tls-cert-file", "", "certificate to serve with, in PEM; read again when it changes")
	f.StringVar(&o.Serving.KeyFile, "tls-private-key-file", "", "its key")
	f.BoolVar(&o.Serving.SelfSigned, "self-signed-certificate", false, "serve with a certificate that nobody can verify; to try things out")
	f.StringVar(&o.HealthAddr, "health-addr", o.HealthAddr, `address to serve /livez and /readyz on; "0" for none`)
	f.StringVar(&o.MetricsAddr, "metrics-addr", o.MetricsAddr, `address to serve Prometheus metrics on; "0" for none`)

	a := &o.Authentication
	f.BoolVar(&a.FrontProxy, "front-proxy", a.FrontProxy, "believe the hub's aggregation layer who somebody is")
	f.StringVar(&a.ClientCAFile, "client-ca-file", "", "authorities of client certificates, in PEM; empty for the hub's")
	f.StringVar(&a.ConfigFile, "authentication-config", "", "AuthenticationConfiguration of apiserver.config.k8s.io with the issuers of tokens")
	f.BoolVar(&a.TokenReview, "token-review", a.TokenReview, "ask the hub about tokens of no such issuer")
	f.StringSliceVar(&a.Audiences, "token-audiences", nil, "audiences of which a token has to be for one; empty for the hub's own")
	f.DurationVar(&a.TokenTTL, "token-cache-ttl", a.TokenTTL, "how long the hub's word on a token is kept, 10s at most")

	f.BoolVar(&strict, "strict", true, "no grant, no access; otherwise the hub decides where no grant does")
	f.StringSliceVar(&o.Exempt, "exempt-users", nil, "users, by name, whom neither guardrails nor the want of a grant stop")
	f.StringSliceVar(&o.Extra.Keys, "extra-keys", nil, "keys of the extra of people's identities that members are told, beside Kubernetes' own; to be as the controller has them")
	f.StringSliceVar(&o.Extra.Withheld, "withheld-extra-keys", nil, "those that members are not told; whoever has another one is refused")
	f.StringVar(&o.Help, "help-text", "", "what to tell who has no grant, such as where to ask for one")
	f.BoolVar(&o.RequireCeiling, "require-ceiling", false, "have namespaces without a ceiling grant nothing; to be as the controller has it")
	f.DurationVar(&o.MaxStaleness, "max-staleness", o.MaxStaleness, "how long to decide by what is known while the hub does not confirm it; negative for ever")
	f.DurationVar(&o.HubReviews.AllowTTL, "hub-allow-ttl", o.HubReviews.AllowTTL, "how long the hub's yes is kept; negative for not at all")
	f.DurationVar(&o.HubReviews.DenyTTL, "hub-deny-ttl", o.HubReviews.DenyTTL, "how long the hub's no is kept; negative for not at all")

	f.IntVar(&o.Limits.Requests, "max-requests", o.Limits.Requests, "requests to members that may be under way at once; 0 for any number")
	f.IntVar(&o.Limits.RequestsPerUser, "max-requests-per-user", o.Limits.RequestsPerUser, "those of one user")
	f.IntVar(&o.Limits.RequestsPerCluster, "max-requests-per-cluster", o.Limits.RequestsPerCluster, "those to one cluster, so that one that hangs holds up no other")
	f.IntVar(&o.Limits.Sessions, "max-sessions", o.Limits.Sessions, "watches, logs, execs and the like that may be under way at once; 0 for any number")
	f.IntVar(&o.Limits.SessionsPerUser, "max-sessions-per-user", o.Limits.SessionsPerUser, "those of one user")
	f.IntVar(&o.OwnRequests, "max-own-requests", o.OwnRequests, "requests for clusters and discovery that may be under way at once")
	f.DurationVar(&o.RequestTimeout, "request-timeout", o.RequestTimeout, "how long what is no session may take")
	f.DurationVar(&o.ShutdownDelay, "shutdown-delay", o.ShutdownDelay, "how long to go on after turning unready, until others have noticed")
	f.DurationVar(&o.DrainTimeout, "drain-timeout", o.DrainTimeout, "how long what is under way may then take to end before it is cut")

	f.BoolVar(&o.MemberHTTP2, "member-http2", false, "have requests to a member share an HTTP/2 connection")
	f.StringVar(&o.ClusterProxy.Address, "cluster-proxy", "", "HOST:PORT of the entrypoint of OCM's cluster-proxy, for members that are reached by it")
	f.StringVar(&o.ClusterProxy.CAFile, "cluster-proxy-ca-file", "", "authority of its certificate, in PEM")
	f.StringVar(&o.ClusterProxy.CertFile, "cluster-proxy-cert-file", "", "certificate to show it")
	f.StringVar(&o.ClusterProxy.KeyFile, "cluster-proxy-key-file", "", "the key of that certificate")

	o.Log.AddFlags(f)
	f.StringVar(&o.Traces.Endpoint, "otlp-endpoint", "", "HOST:PORT to send OpenTelemetry traces to, over gRPC; empty for none")
	f.BoolVar(&o.Traces.Insecure, "otlp-insecure", false, "send them without TLS")
	f.Float64Var(&o.Traces.Ratio, "otlp-ratio", o.Traces.Ratio, "share of requests that are traced, from 0 to 1")
	f.BoolVar(&debug, "debug", false, "log for people, and more")
	return cmd
}
