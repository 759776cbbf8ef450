package guardrail

import (
	"strings"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
)

// Pattern is a name in which each * stands for any characters. The zero Pattern
// matches the empty name only.
type Pattern struct {
	// parts between the stars; one part is a name without any.
	parts []string
	whole string
}

var anything = NewPattern("*")

// NewPattern reads a pattern of the API.
func NewPattern(p v1alpha1.Pattern) Pattern {
	if !strings.Contains(string(p), "*") {
		return Pattern{whole: string(p)}
	}
	return Pattern{parts: strings.Split(string(p), "*")}
}

// Patterns reads patterns of the API.
func Patterns(in []v1alpha1.Pattern) []Pattern {
	out := make([]Pattern, 0, len(in))
	for _, p := range in {
		out = append(out, NewPattern(p))
	}
	return out
}

// Matches a name. It takes time linear in the name for each part.
func (p Pattern) Matches(name string) bool {
	if p.parts == nil {
		return p.whole == name
	}
	first, last := p.parts[0], p.parts[len(p.parts)-1]
	if len(name) < len(first)+len(last) || !strings.HasPrefix(name, first) || !strings.HasSuffix(name, last) {
		return false
	}
	name = name[len(first) : len(name)-len(last)]
	for _, part := range p.parts[1 : len(p.parts)-1] {
		i := strings.Index(name, part)
		if i < 0 {
			return false
		}
		name = name[i+len(part):]
	}
	return true
}
