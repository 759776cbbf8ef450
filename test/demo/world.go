package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"

	"github.com/sallyport-dev/sallyport/controllers"
	"github.com/sallyport-dev/sallyport/test/controlplane"
	"github.com/sallyport-dev/sallyport/test/install"
)

// member of the fleet.
type member struct{ name, env, region string }

var members = []member{{"prod-eu-1", "prod", "eu"}, {"prod-us-1", "prod", "us"}, {"dev-1", "dev", "eu"}}

func (m member) labels() map[string]string {
	return map[string]string{"env": m.env, "region": m.region}
}

var prods = []string{"prod-eu-1", "prod-us-1"}

// namespace is the team's: of its grants on the hub, of its pods on members.
const namespace = "payments"

// world is all that runs.
type world struct {
	dir    string // .demo, absolute
	fleet  *controlplane.Fleet
	hub    client.WithWatch
	people map[string]*rest.Config
	repo   *repository

	sallyport *install.Installation
}

// boot starts the world. On error nothing is left running.
func boot(ctx context.Context, out *screen, dir string, keep bool) (_ *world, err error) {
	w := &world{dir: dir, people: map[string]*rest.Config{}}
	log, err := w.log("demo")
	if err != nil {
		return nil, err
	}
	ctrl.SetLogger(zap.New(zap.WriteTo(log)))
	step := func(what string, do func() error) {
		if err != nil {
			return
		}
		began := time.Now()
		out.doing(what)
		if err = do(); err == nil {
			out.done(what, time.Since(began))
		}
	}
	defer func() {
		if err != nil && w.fleet != nil {
			err = errors.Join(err, w.fleet.Stop())
		}
		if err != nil {
			err = errors.Join(err, empty(dir, "bin", "logs"))
		}
	}()

	out.heading("The world")
	step("programs of Kubernetes 1.37 and OCM 1.0", func() error { return w.programs(ctx, out) })
	step("Sallyport, built from this repository", func() error { return w.buildSallyport(ctx) })
	step("hub, prod-eu-1 and prod-us-1 (env=prod), dev-1 (env=dev)", func() error { return w.start(ctx, keep) })
	step("OCM on the hub, and its work agent for each member", func() error { return w.joinOCM(ctx) })
	step("three pods and a Secret in namespace payments on each member", func() error { return w.furnish(ctx) })
	step("Git repository "+short(filepath.Join(dir, "repo")), func() (err error) {
		w.repo, err = newRepository(filepath.Join(dir, "repo"))
		return err
	})
	step("Sallyport: CRDs, RBAC, policy; the controller syncs the repository", func() error { return w.install(ctx) })
	step("kubeconfigs of administrators and people", w.writeKubeconfigs)
	step("Sallyport's gateway on the hub, with a token for each member", func() error {
		if err := w.openMembers(ctx); err != nil {
			return err
		}
		return w.openGateway(ctx)
	})
	if err != nil {
		return nil, err
	}
	return w, nil
}

// log opens a file for what is of no interest on the screen.
func (w *world) log(name string) (*os.File, error) {
	path := filepath.Join(w.dir, "logs", name+".log")
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	return os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
}

// programs brings what will run. On a new machine it takes most of the time.
func (w *world) programs(ctx context.Context, out *screen) error {
	_, err := controlplane.Binaries(ctx, progress{out},
		controlplane.Etcd, controlplane.KubeAPIServer, controlplane.KubeControllerManager,
		controlplane.OCMWork, controlplane.Kubectl, controlplane.Kubelet)
	return err
}

func (w *world) start(ctx context.Context, keep bool) (err error) {
	o := controlplane.Options{Dir: w.dir, ControllerManager: true, Detach: keep}
	for _, m := range members {
		o.Members = append(o.Members, m.name)
	}
	if w.fleet, err = controlplane.Start(ctx, o); err != nil {
		return err
	}
	if w.hub, err = newClient(w.fleet.Hub.AdminConfig()); err != nil {
		return err
	}
	for _, p := range []person{alice, bob} {
		if w.people[p.name], err = w.fleet.Hub.User(p.name, p.groups...); err != nil {
			return err
		}
	}
	return nil
}

func (w *world) joinOCM(ctx context.Context) error {
	if err := w.fleet.InstallOCM(ctx); err != nil {
		return err
	}
	return each(ctx, func(ctx context.Context, m member) error {
		if err := w.fleet.CreateManagedCluster(ctx, m.name, m.labels()); err != nil {
			return err
		}
		return w.fleet.StartWorkAgent(ctx, m.name)
	})
}

// furnish gives the members something to see, and something not to see. Pods are not
// run: a stand-in for a kubelet answers for their logs.
func (w *world) furnish(ctx context.Context) error {
	return each(ctx, func(ctx context.Context, m member) error {
		plane := w.fleet.Member(m.name)
		if err := w.fleet.StartKubelet(ctx, plane); err != nil {
			return err
		}
		for _, pod := range []string{"api-0", "vault-0", "worker-0"} {
			if err := plane.RunPod(ctx, namespace, pod); err != nil {
				return err
			}
		}
		c, err := newClient(plane.AdminConfig())
		if err != nil {
			return err
		}
		return c.Create(ctx, &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "card-keys"}, StringData: map[string]string{"key": "not for everyone"},
		})
	})
}

// each does something for all members at the same time.
func each(ctx context.Context, do func(context.Context, member) error) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, m := range members {
		group.Go(func() error { return do(ctx, m) })
	}
	return group.Wait()
}

// newClient reads and writes past any cache.
func newClient(config *rest.Config) (client.WithWatch, error) {
	scheme, err := controllers.Scheme()
	if err != nil {
		return nil, err
	}
	return client.NewWithWatch(config, client.Options{Scheme: scheme})
}
