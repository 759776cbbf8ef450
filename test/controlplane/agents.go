package controlplane

import (
	"context"
	"fmt"
	"slices"
)

// startAgent runs a program that Stop stops, on a free port of its own, and returns when that answers at /healthz by
// scheme, http or https.
func (f *Fleet) startAgent(ctx context.Context, name, binary, scheme string, args func(port int) []string) error {
	binaries, err := Binaries(ctx, f.options.Log, binary)
	if err != nil {
		return err
	}
	return f.StartProgram(ctx, name, binaries[binary], scheme, args)
}

// StartProgram starts a program of the caller's beside the fleet, such as a controller of the hub: on a free port of its
// own, with its log in logs/<name>.log. It returns when the program answers at /healthz there by scheme, http or https,
// and Stop, or StopDetached, stops it before the control planes.
func (f *Fleet) StartProgram(ctx context.Context, name, path, scheme string, args func(port int) []string) error {
	if f.agent(name) != nil {
		return fmt.Errorf("cannot start %s: it runs already", name)
	}
	err := onFreePort(ctx, func(port int) error {
		p, err := f.host.start(ctx, program{
			name: name, binary: path, args: args(port),
			// For those that take no flag for it; and none is ever to find the kubeconfig of whoever runs this.
			env:   []string{"KUBECONFIG=" + f.Hub.Kubeconfig()},
			ready: answers(scheme + "://" + address(port) + "/healthz"),
		})
		if err != nil {
			return err
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		f.agents = append(f.agents, p)
		return nil
	})
	if err != nil {
		return fmt.Errorf("cannot start %s: %w", name, err)
	}
	return nil
}

// stopAgent stops the agent of that name, if one runs.
func (f *Fleet) stopAgent(name string) error {
	if p := f.agent(name); p != nil {
		return p.stop()
	}
	return nil
}

// agent returns the running agent of that name, or nil.
func (f *Fleet) agent(name string) *process {
	f.mu.Lock()
	defer f.mu.Unlock()
	i := slices.IndexFunc(f.agents, func(p *process) bool { return p.name == name && p.running() })
	if i < 0 {
		return nil
	}
	return f.agents[i]
}
