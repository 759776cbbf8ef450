package install

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// Until polls for a condition, which says what is still missing or "".
func Until(ctx context.Context, limit time.Duration, missing func(context.Context) string) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	tick := time.NewTicker(25 * time.Millisecond)
	defer tick.Stop()
	last := ""
	for {
		if said := missing(ctx); said == "" {
			return nil
		} else if ctx.Err() == nil {
			last = said
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("not within %s: %s", limit, strings.TrimSpace(last))
		case <-tick.C:
		}
	}
}
