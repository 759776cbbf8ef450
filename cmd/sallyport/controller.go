package main

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/clientcmd"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"

	"github.com/sallyport-dev/sallyport/controllers"
	"github.com/sallyport-dev/sallyport/internal/source"
)

func controllerCommand() *cobra.Command {
	o := controllers.Options{}
	git := source.Options{Name: source.DefaultName}
	var kubeconfig, executor, impersonator string
	var qps float32
	var debug bool
	cmd := &cobra.Command{
		Use:   "controller",
		Short: "Run the controllers on a hub",
		Long: `Run the controllers on a hub: compile the AccessGrants of the hub into RBAC on
the hub and on the members of its fleet, and keep it so.

With --git-url the controller brings the grants from a Git repository itself.
Leave it out where Flux or Argo CD does.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctrl.SetLogger(zap.New(zap.UseDevMode(debug)))
			var err error
			if o.Executor, err = parseName(executor); err != nil {
				return fmt.Errorf("--executor: %w", err)
			}
			if o.Impersonator, err = parseName(impersonator); err != nil {
				return fmt.Errorf("--impersonator: %w", err)
			}
			if git.URL != "" {
				git.Namespace = o.Namespace
				if err := git.Validate(); err != nil {
					return err
				}
				o.Git = &git
			} else if err := gitFlagsAlone(cmd); err != nil {
				return err
			}
			// An empty path falls back on the service account of the pod.
			config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
			if err != nil {
				return fmt.Errorf("cannot find the hub: %w", err)
			}
			config.QPS, config.Burst = qps, int(2*qps)
			mgr, err := controllers.NewManager(config, o)
			if err != nil {
				return err
			}
			return mgr.Start(cmd.Context())
		},
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.StringVar(&kubeconfig, "kubeconfig", os.Getenv("KUBECONFIG"), "kubeconfig of the hub; empty inside a pod")
	f.StringVar(&o.Namespace, "namespace", orElse(os.Getenv("POD_NAMESPACE"), "sallyport-system"), "Sallyport's own namespace: kubeconfig Secrets, leases and state are there")
	f.BoolVar(&o.LeaderElect, "leader-elect", false, "have one of several replicas work at a time")
	f.StringVar(&o.MetricsAddr, "metrics-addr", ":8080", `address to serve Prometheus metrics on; "0" for none`)
	f.StringVar(&o.ProbeAddr, "health-addr", ":8081", `address to serve /healthz and /readyz on; "0" for none`)
	f.StringVar(&o.EventsAddr, "events-addr", "", "URL of Flux's notification-controller, to send events to")
	f.StringVar(&executor, "executor", "", "NAMESPACE/NAME of the service account on members with whose rights OCM's work agent applies; empty for the agent's own")
	f.StringVar(&o.GatewayNamespace, "gateway-namespace", "", "namespace of the gateway, where routes to members are written for it; empty where there is no gateway")
	f.StringVar(&impersonator, "impersonator", "sallyport-system/sallyport-impersonator", "NAMESPACE/NAME of the service account on members as which the gateway comes to them; it is made where it is missing, and config/rbac has rights by its name")
	f.StringSliceVar(&o.ExtraKeys, "extra-keys", nil, "keys of the extra of people's identities that the gateway may tell members, beside Kubernetes' own; to be as the gateway has them")
	f.IntVar(&o.Writers, "writers", 8, "writes to the hub that may be under way at once")
	f.Float32Var(&qps, "kube-api-qps", 200, "requests to the hub per second, on average")
	f.DurationVar(&o.Resync, "direct-resync", 30*time.Second, "how often members with a kubeconfig are looked at")
	f.DurationVar(&o.Grace, "revocation-grace", 30*time.Second, "how long members may take to confirm a revocation before it is called residual access")
	f.StringVar(&o.WebhookAddr, "webhook-addr", ":9443", `address to serve the admission webhook on; "0" for none`)
	f.StringVar(&o.WebhookCertDir, "webhook-cert-dir", "", "folder with the webhook's tls.crt and tls.key; empty to have them made and renewed")
	f.BoolVar(&o.Reports, "reports", true, "write openreports.io policy reports, where the hub has them")
	f.BoolVar(&o.LegacyReports, "legacy-reports", false, "write wgpolicyk8s.io policy reports, where the hub has them")
	f.BoolVar(&o.RequireCeiling, "require-ceiling", false, "have namespaces without a ceiling grant nothing")
	f.BoolVar(&debug, "debug", false, "log for people, and more")
	f.StringVar(&git.URL, "git-url", "", "repository to sync grants from: https://, ssh:// or file://")
	f.StringVar(&git.Branch, "git-branch", "main", "branch to follow")
	f.StringVar(&git.Path, "git-path", "", "folder within the repository; empty for its root")
	f.StringVar(&git.AuthDir, "git-auth-dir", "", "folder with the files of a Flux Git Secret, such as username and password, or identity and known_hosts")
	f.DurationVar(&git.Interval, "git-interval", time.Minute, "how often to look for commits")
	f.DurationVar(&git.Timeout, "git-timeout", time.Minute, "how long a fetch may take")
	f.BoolVar(&git.AllowEmpty, "git-allow-empty", false, "take a missing --git-path for an empty one, and so prune everything")
	return cmd
}

// gitFlagsAlone refuses what would silently do nothing.
func gitFlagsAlone(cmd *cobra.Command) error {
	for _, name := range []string{"git-branch", "git-path", "git-auth-dir", "git-interval", "git-timeout", "git-allow-empty"} {
		if cmd.Flags().Changed(name) {
			return fmt.Errorf("--%s needs --git-url", name)
		}
	}
	return nil
}

func parseName(s string) (types.NamespacedName, error) {
	if s == "" {
		return types.NamespacedName{}, nil
	}
	namespace, name, ok := strings.Cut(s, "/")
	if !ok || namespace == "" || name == "" || strings.Contains(name, "/") {
		return types.NamespacedName{}, errors.New("must be NAMESPACE/NAME")
	}
	return types.NamespacedName{Namespace: namespace, Name: name}, nil
}

func orElse(s, otherwise string) string {
	if s != "" {
		return s
	}
	return otherwise
}
