package bundle

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
)

// Revision of a bundle: a number, and after one of - + @ whatever its author wants
// to say of it. Only the number counts.
type Revision struct {
	Number uint64
	text   string
}

// ParseRevision reads a revision such as 42 or 1732350000+4f2c1e.
func ParseRevision(s string) (Revision, error) {
	digits := s
	if i := strings.IndexAny(s, "-+@"); i >= 0 {
		digits = s[:i]
	}
	n, err := strconv.ParseUint(digits, 10, 63)
	switch {
	case s == "":
		return Revision{}, fmt.Errorf("the manifest has no revision, which has to be a number that grows, such as 42")
	case err != nil || len(s) > 253 || digits[0] == '+':
		return Revision{}, fmt.Errorf("revision %q does not begin with a number that grows, such as 42 or 42+4f2c1e", s)
	}
	return Revision{n, s}, nil
}

// String is the revision as its author wrote it.
func (r Revision) String() string { return r.text }

// Compare revisions by their number.
func (r Revision) Compare(o Revision) int { return cmp.Compare(r.Number, o.Number) }
