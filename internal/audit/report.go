package audit

import (
	"crypto/sha256"
	"encoding/binary"
	"maps"
	"slices"
	"strings"

	orv1 "github.com/openreports/reports-api/apis/openreports.io/v1alpha1"
	"k8s.io/apimachinery/pkg/types"
)

// Name of a report, which the prefix of a shard follows.
const Name = "sallyport-guardrails"

// Bounds of one report. The API server takes 1.5 MiB; tools that hold all reports,
// and people, are better off with less.
const (
	// MaxResults in a report.
	MaxResults = 300
	// MaxBytes of a report, as JSON.
	MaxBytes = 256 << 10
	// budget for what entries weigh leaves room for the report around them.
	budget = MaxBytes - 8<<10
)

// Report is one that there should be. It is immutable.
type Report struct {
	// Namespace is that of the grants; empty for a fleet-wide report.
	Namespace string
	Name      string
	// Summary counts every objection, and each grant without any as passed. In a
	// fleet-wide report it counts guardrails.
	Summary orv1.ReportSummary
	// Digest of what the report is made of.
	Digest [sha256.Size]byte

	entries []entry // sorted by key
}

// Results of the report, in order and without timestamps: made anew each time.
func (r *Report) Results() []orv1.ReportResult {
	var out []orv1.ReportResult
	for _, e := range r.entries {
		out = e.appendResults(out)
	}
	return out
}

// Reports that an audit comes to, sorted by namespace and name: for each namespace
// with grants, and, in the namespace "", for the fleet. They depend on what is in
// the audit and not on its order, and refer to the audit.
func Reports(a *Audit) []*Report { return reports(a, tallies(a)) }

func reports(a *Audit, guardrails []*tally) []*Report {
	of := map[string][]leaf{}
	for i := range a.Grants {
		g := &a.Grants[i]
		of[g.Namespace] = append(of[g.Namespace], newLeaf(g))
	}
	fleet := make([]leaf, 0, len(guardrails))
	for _, t := range guardrails {
		fleet = append(fleet, newLeaf(t))
	}
	out := divide(nil, "", fleet, 0)
	for _, namespace := range slices.Sorted(maps.Keys(of)) {
		out = divide(out, namespace, of[namespace], 0)
	}
	var buf []byte
	for _, r := range out {
		buf = r.finish(buf[:0])
	}
	return out
}

// leaf of the trie: an entry with the hash of its key.
type leaf struct {
	entry
	hash           uint64
	results, bytes int
}

func newLeaf(e entry) leaf {
	sum := sha256.Sum256([]byte(e.key()))
	l := leaf{entry: e, hash: binary.BigEndian.Uint64(sum[:])}
	l.results, l.bytes = e.weigh()
	return l
}

// divide leaves that share the first depth bits into reports: into one if they
// fit, or else by the next bit. Leaves may come in any order.
func divide(to []*Report, namespace string, leaves []leaf, depth int) []*Report {
	if len(leaves) == 0 {
		return to
	}
	results, bytes := 0, 0
	for i := range leaves {
		results += leaves[i].results
		bytes += leaves[i].bytes
	}
	if results <= MaxResults && bytes <= budget || len(leaves) == 1 || depth == 64 {
		r := &Report{Namespace: namespace, Name: shardName(leaves[0].hash, depth), entries: make([]entry, 0, len(leaves))}
		for i := range leaves {
			r.entries = append(r.entries, leaves[i].entry)
		}
		return append(to, r)
	}
	bit := uint64(1) << (63 - depth)
	var halves [2][]leaf
	for i := range leaves {
		half := 0
		if leaves[i].hash&bit != 0 {
			half = 1
		}
		halves[half] = append(halves[half], leaves[i])
	}
	to = divide(to, namespace, halves[0], depth+1)
	return divide(to, namespace, halves[1], depth+1)
}

// shardName spells the first depth bits.
func shardName(hash uint64, depth int) string {
	if depth == 0 {
		return Name
	}
	b := []byte(Name + "-")
	for i := range depth {
		b = append(b, '0'+byte(hash>>(63-i)&1))
	}
	return string(b)
}

// takesOver reports whether results may have moved to a report from one that goes:
// one of the two is divided further than the other.
func takesOver(r *Report, old types.NamespacedName) bool {
	return r.Namespace == old.Namespace && (strings.HasPrefix(r.Name, old.Name) || strings.HasPrefix(old.Name, r.Name))
}

// finish sorts what the report is made of, counts it, and digests it in buf.
func (r *Report) finish(buf []byte) []byte {
	slices.SortFunc(r.entries, func(a, b entry) int { return strings.Compare(a.key(), b.key()) })
	for _, e := range r.entries {
		e.count(&r.Summary)
		buf = e.appendDigest(buf)
	}
	r.Digest = sha256.Sum256(buf)
	return buf
}

// appendStrings so that no two lists look the same.
func appendStrings(to []byte, parts ...string) []byte {
	for _, s := range parts {
		to = append(binary.AppendUvarint(to, uint64(len(s))), s...)
	}
	return to
}

func appendInts(to []byte, parts ...int) []byte {
	for _, n := range parts {
		to = binary.AppendVarint(to, int64(n))
	}
	return to
}
