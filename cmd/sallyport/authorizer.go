package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"

	"github.com/sallyport-dev/sallyport/internal/authz"
)

func authorizerCommand() *cobra.Command {
	o := authz.NewOptions()
	var kubeconfig string
	var debug bool
	cmd := &cobra.Command{
		Use:   "authorizer",
		Short: "Run the authorization webhook for kube-apiservers",
		Long: `Run the authorization webhook: it answers SubjectAccessReviews of kube-apiservers, of
the hub or of members, by the guardrails and grants of the hub. It denies, or has no
opinion; with --allow-from-grants it also allows. "sallyport authorizer config" writes
what an API server needs to ask it.

Replicas share nothing; run as many as you like. See docs/how-to/authorization-webhook.md.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			logger := zap.New(zap.UseDevMode(debug))
			ctrl.SetLogger(logger)
			klog.SetLogger(logger.WithName("apiserver"))
			var err error
			if o.Hub, err = clientcmd.BuildConfigFromFlags("", kubeconfig); err != nil {
				return fmt.Errorf("cannot find the hub: %w", err)
			}
			o.Traces.Version = version
			s, err := authz.New(cmd.Context(), *o)
			if err != nil {
				return err
			}
			return s.Run(cmd.Context())
		},
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.StringVar(&kubeconfig, "kubeconfig", os.Getenv("KUBECONFIG"), "kubeconfig of the hub; empty inside a pod")
	f.StringVar(&o.SallyportNamespace, "sallyport-namespace", o.SallyportNamespace, "the controller's namespace: what was made of bundles is there")
	f.StringVar(&o.Addr, "addr", o.Addr, "address to serve on")
	f.StringVar(&o.CertFile, "tls-cert-file", "", "certificate to serve with, in PEM; read again when it changes")
	f.StringVar(&o.KeyFile, "tls-private-key-file", "", "its key")
	f.StringVar(&o.ClientCAFile, "client-ca-file", "", "authorities of API servers' client certificates, in PEM; read again when it changes")
	f.StringSliceVar(&o.ClientNames, "client-names", nil, "common names of the client certificates that may ask, NAME or NAME=CLUSTER for one that may ask about that cluster only; empty for all of that authority")
	f.StringVar(&o.HealthAddr, "health-addr", o.HealthAddr, `address to serve /healthz and /readyz on; "0" for none`)
	f.StringVar(&o.MetricsAddr, "metrics-addr", o.MetricsAddr, `address to serve Prometheus metrics on; "0" for none`)
	f.StringVar(&o.Cluster, "cluster", "", "cluster that a review is about which names none; empty for the hub's own, of which only the way to members is decided")
	f.StringVar(&o.HubCluster, "hub-cluster", "", "name of the hub as a member of its own fleet, so that guardrails and grants for it hold; empty where it is none")
	f.BoolVar(&o.AllowFromGrants, "allow-from-grants", false, "allow what a grant gives, so that it needs no RBAC")
	f.StringSliceVar(&o.Exempt, "exempt-users", nil, "users, by name, whom no guardrail stops")
	f.StringVar(&o.Help, "help-text", "", "what to tell whoever is refused by RBAC then, such as where to ask for a grant")
	f.IntVar(&o.MaxRequests, "max-requests", o.MaxRequests, "reviews that may be under way at once; 0 for any number")
	f.BoolVar(&o.RequireCeiling, "require-ceiling", false, "have namespaces without a ceiling grant nothing; to be as the controller has it")
	f.DurationVar(&o.MaxStaleness, "max-staleness", o.MaxStaleness, "how long to decide by what is known while the hub does not confirm it; negative for ever")
	f.DurationVar(&o.ShutdownDelay, "shutdown-delay", o.ShutdownDelay, "how long to go on after turning unready, until others have noticed")
	f.DurationVar(&o.DrainTimeout, "drain-timeout", o.DrainTimeout, "how long what is under way may then take to end before it is cut")
	o.Log.AddFlags(f)
	f.StringVar(&o.Traces.Endpoint, "otlp-endpoint", "", "HOST:PORT to send OpenTelemetry traces to, over gRPC; empty for none")
	f.BoolVar(&o.Traces.Insecure, "otlp-insecure", false, "send them without TLS")
	f.Float64Var(&o.Traces.Ratio, "otlp-ratio", o.Traces.Ratio, "share of requests that are traced, from 0 to 1")
	f.BoolVar(&debug, "debug", false, "log for people, and more")
	cmd.AddCommand(authorizerConfigCommand())
	return cmd
}

func authorizerConfigCommand() *cobra.Command {
	o := authz.NewConfigOptions()
	var out string
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Write what a kube-apiserver needs to ask the authorizer",
		Long: `Write two files for a kube-apiserver: authorization-config.yaml, for its flag
--authorization-config, and kubeconfig.yaml, by which it reaches the authorizer. Paths
are those on the API server's machine. System traffic is spared, and nothing that is
allowed is cached, since an API server cannot know when a grant ends.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			authorization, kubeconfig, err := authz.Config(o)
			if err != nil {
				return err
			}
			if out == "-" {
				_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s---\n%s", authorization, kubeconfig)
				return err
			}
			if err := os.MkdirAll(out, 0o755); err != nil {
				return err
			}
			return errors.Join(
				os.WriteFile(filepath.Join(out, "authorization-config.yaml"), authorization, 0o644),
				os.WriteFile(filepath.Join(out, "kubeconfig.yaml"), kubeconfig, 0o600),
			)
		},
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.StringVarP(&out, "out", "o", "-", `folder to write to; "-" for standard output`)
	f.StringVar(&o.Server, "server", "", "https URL of the authorizer, without path (required)")
	f.StringVar(&o.ServerName, "tls-server-name", "", "name in the authorizer's certificate, where it is not the URL's host")
	f.StringVar(&o.Cluster, "cluster", "", "cluster that the API server is of, as the fleet knows it; empty for a hub of which only the way to members is decided")
	f.StringVar(&o.FailurePolicy, "failure-policy", o.FailurePolicy, "Deny or NoOpinion: what holds where the authorizer does not answer")
	f.DurationVar(&o.Timeout, "timeout", o.Timeout, "how long the API server waits for an answer")
	f.DurationVar(&o.UnauthorizedTTL, "unauthorized-ttl", o.UnauthorizedTTL, "how long the API server keeps an answer that allows nothing; 0 for not at all")
	f.StringVar(&o.CAFile, "ca-file", o.CAFile, "authority of the authorizer's certificate")
	f.StringVar(&o.CertFile, "client-cert-file", o.CertFile, "certificate that the API server shows")
	f.StringVar(&o.KeyFile, "client-key-file", o.KeyFile, "its key")
	f.StringVar(&o.KubeconfigFile, "kubeconfig-file", o.KubeconfigFile, "where kubeconfig.yaml will be")
	f.StringSliceVar(&o.Spare, "spare-namespaces", o.Spare, "namespaces whose service accounts are not asked about, beside kube-system")
	f.BoolVar(&o.Node, "node", o.Node, "have the Node authorizer before RBAC")
	_ = cmd.MarkFlagRequired("server") // it is one
	return cmd
}
