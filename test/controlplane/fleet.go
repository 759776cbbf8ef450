package controlplane

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"
)

// Options say what Start starts. The zero value is a hub alone, in a temporary directory.
type Options struct {
	// Dir keeps everything the fleet writes: keys, kubeconfigs, logs, pids and the store. Empty means a fresh temporary
	// directory, which Fleet.Stop removes. A directory serves one fleet at a time, and none twice.
	Dir string
	// Members are the names of the member clusters: DNS labels, and not "hub".
	Members []string
	// ControllerManager runs kube-controller-manager on the hub: ClusterRole aggregation, namespace deletion, garbage
	// collection, default ServiceAccounts and their token Secrets.
	ControllerManager bool
	// HubFlags are additional flags of the hub's kube-apiserver: see ControlPlane.SetFlags.
	HubFlags []string
	// MemberControllerManager runs one on each member too.
	MemberControllerManager bool
	// Detach lets the processes outlive this one, until StopDetached(Dir). It needs a Dir.
	Detach bool
	// Log is told of slow steps, such as a build from source. nil discards.
	Log io.Writer
}

// Fleet is a hub and its members. Its methods may be called from several goroutines.
type Fleet struct {
	// Hub is the cluster "hub".
	Hub *ControlPlane

	options Options
	host    host
	ownsDir bool // the state directory is temporary
	etcd    *etcd

	mu        sync.Mutex
	members   map[string]*ControlPlane
	agents    []*process   // in the order of their start
	artifacts *http.Server // nil until one is served
}

// Start starts a hub and its members and returns when all are ready to serve. On error, nothing is left running.
func Start(ctx context.Context, options Options) (_ *Fleet, err error) {
	f := &Fleet{options: options, members: map[string]*ControlPlane{}}
	if options.Detach && options.Dir == "" {
		return nil, errors.New("cannot start a fleet: Detach needs a Dir, or nobody could find it again")
	}
	binaries, err := f.clusterBinaries(ctx)
	if err != nil {
		return nil, err
	}
	if err := f.prepareDir(); err != nil {
		return nil, fmt.Errorf("cannot start a fleet: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Stop())
		}
	}()

	if f.etcd, err = startEtcd(ctx, f.host, binaries[Etcd]); err != nil {
		return nil, err
	}
	f.Hub, err = newControlPlane("hub", f.host, binaries, f.etcd, options.ControllerManager)
	if err != nil {
		return nil, err
	}
	f.Hub.SetFlags(options.HubFlags...)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return f.Hub.Start(ctx) })
	for _, name := range options.Members {
		group.Go(func() error {
			_, err := f.addMember(ctx, name, binaries)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	return f, nil
}

func (f *Fleet) clusterBinaries(ctx context.Context) (map[string]string, error) {
	names := []string{Etcd, KubeAPIServer}
	if f.options.ControllerManager || f.options.MemberControllerManager {
		names = append(names, KubeControllerManager)
	}
	return Binaries(ctx, f.options.Log, names...)
}

func (f *Fleet) prepareDir() (err error) {
	f.host.detach = f.options.Detach
	if f.options.Dir == "" {
		f.ownsDir = true
		f.host.dir, err = os.MkdirTemp("", "sallyport-fleet-")
		return err
	}
	if f.host.dir, err = filepath.Abs(f.options.Dir); err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(f.host.dir, "etcd")); err == nil {
		return fmt.Errorf("%q holds the store of another fleet", f.host.dir)
	}
	return os.MkdirAll(f.host.dir, 0o755)
}

// Dir returns the state directory: Options.Dir, absolute, or the temporary directory made in its place.
func (f *Fleet) Dir() string { return f.host.dir }

// Member returns the member of that name. It panics if there is none, since only a typing error can ask for it.
func (f *Fleet) Member(name string) *ControlPlane {
	f.mu.Lock()
	defer f.mu.Unlock()
	member, ok := f.members[name]
	if !ok {
		panic(fmt.Sprintf("controlplane: no member %q", name))
	}
	return member
}

// Members returns the members, sorted by name.
func (f *Fleet) Members() []*ControlPlane {
	f.mu.Lock()
	defer f.mu.Unlock()
	var members []*ControlPlane
	for _, member := range f.members {
		members = append(members, member)
	}
	slices.SortFunc(members, func(a, b *ControlPlane) int { return strings.Compare(a.Name, b.Name) })
	return members
}

// AddMember starts one more member and returns it when it is ready to serve.
func (f *Fleet) AddMember(ctx context.Context, name string) (*ControlPlane, error) {
	binaries, err := f.clusterBinaries(ctx)
	if err != nil {
		return nil, err
	}
	return f.addMember(ctx, name, binaries)
}

func (f *Fleet) addMember(ctx context.Context, name string, binaries map[string]string) (*ControlPlane, error) {
	member, err := newControlPlane(name, f.host, binaries, f.etcd, f.options.MemberControllerManager)
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	_, taken := f.members[name]
	if !taken && name != f.Hub.Name {
		f.members[name] = member
	}
	f.mu.Unlock()
	if taken || name == f.Hub.Name {
		return nil, fmt.Errorf("cannot add member %q: the name is taken", name)
	}
	return member, member.Start(ctx)
}

// Stop stops all that the fleet started, agents first and etcd last, whether or not it is detached, and removes a
// temporary state directory. Stopping twice does nothing.
func (f *Fleet) Stop() error {
	f.mu.Lock()
	agents, artifacts := f.agents, f.artifacts
	f.agents, f.artifacts = nil, nil
	f.mu.Unlock()

	var errs []error
	for _, agent := range slices.Backward(agents) {
		errs = append(errs, agent.stop())
	}
	if artifacts != nil {
		errs = append(errs, artifacts.Close())
	}
	var planes errgroup.Group // each takes its second or two
	for _, member := range f.Members() {
		planes.Go(member.Stop)
	}
	if f.Hub != nil {
		planes.Go(f.Hub.Stop)
	}
	errs = append(errs, planes.Wait())
	if f.etcd != nil {
		errs = append(errs, f.etcd.stop())
	}
	if f.ownsDir {
		errs = append(errs, os.RemoveAll(f.host.dir))
	}
	return errors.Join(errs...)
}
