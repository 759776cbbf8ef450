package cel

import "github.com/sallyport-dev/sallyport/internal/core/guardrail"

// Remembered is how many requests a check remembers that it let pass.
func Remembered(c guardrail.Check) int {
	p := c.(*check).passes
	if p == nil {
		return 0
	}
	p.mu.RLock()
	defer p.mu.RUnlock()
	return len(p.all)
}
