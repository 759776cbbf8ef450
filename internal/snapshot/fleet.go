package snapshot

import (
	"context"
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/sallyport-dev/sallyport/internal/core/fleet"
	"github.com/sallyport-dev/sallyport/internal/inventory"
)

// Inventory tells what the fleet is. Where it is in doubt it returns an error: an
// empty fleet would revoke everything.
type Inventory interface {
	Fleet(ctx context.Context) (*fleet.Fleet, []inventory.Problem, error)
	Placements(ctx context.Context) (map[types.NamespacedName][]string, error)
}

// Fleet remembers the fleet and the placements. What cannot be read is as it was read
// last: an inventory that does not answer must neither revoke anything nor keep a
// grant from expiring. The zero Fleet is ready for use, by one goroutine at a time.
type Fleet struct {
	fleet      *fleet.Fleet
	placements map[types.NamespacedName][]string
	problems   []inventory.Problem
}

// Read the fleet and the placements. It is an error if either was never read.
func (f *Fleet) Read(ctx context.Context, from Inventory) (*fleet.Fleet, map[types.NamespacedName][]string, error) {
	problems, err := f.readFleet(ctx, from)
	if err != nil {
		return nil, nil, err
	}
	f.tell(ctx, problems)
	placements, err := from.Placements(ctx)
	switch {
	case err == nil:
		f.placements = placements
	case f.placements != nil:
		log.FromContext(ctx).Error(err, "Cannot read placements; going on with the last ones")
	default:
		return nil, nil, fmt.Errorf("cannot read placements: %w", err)
	}
	return f.fleet, f.placements, nil
}

func (f *Fleet) readFleet(ctx context.Context, from Inventory) ([]inventory.Problem, error) {
	now, problems, err := from.Fleet(ctx)
	switch {
	case err == nil:
		f.fleet = now
		return problems, nil
	case f.fleet != nil:
		log.FromContext(ctx).Error(err, "Cannot read the fleet; going on with the last one")
		return []inventory.Problem{{Source: "fleet", Message: err.Error()}}, nil
	default:
		return nil, fmt.Errorf("cannot read the fleet: %w", err)
	}
}

// tell operators of problems with the inventory, each when it comes and when it goes.
func (f *Fleet) tell(ctx context.Context, problems []inventory.Problem) {
	logger := log.FromContext(ctx)
	for _, p := range problems {
		if !slices.Contains(f.problems, p) {
			logger.Info("Problem with the inventory", "source", p.Source, "problem", p.Message)
		}
	}
	for _, p := range f.problems {
		if !slices.Contains(problems, p) {
			logger.Info("Problem with the inventory is gone", "source", p.Source, "problem", p.Message)
		}
	}
	f.problems = problems
}
