package compile

import (
	"slices"
	"strconv"
	"strings"
)

// targetWork is the weight, in bytes, above which a work is split. Open Cluster
// Management refuses a work above 500 KiB; the target is far below so that one
// grant's change rewrites little.
const targetWork = 64 << 10

// WorkPrefix begins the name of every work.
const WorkPrefix = "sallyport-access"

// shard is a leaf of the trie: the units whose hashes begin with the same bits.
type shard struct {
	name  string
	units []*unit
}

// shards divides units, which are sorted by hash, along the bits of their hashes
// until each part is light enough. Where a unit ends up depends on the units that
// share its prefix and on nothing else, so that a change moves few.
func shards(units []*unit) []shard {
	if len(units) == 0 {
		return nil
	}
	return divide(nil, units, 0, 0)
}

func divide(to []shard, units []*unit, prefix uint64, depth int) []shard {
	if len(units) == 0 {
		return to
	}
	weight, base := 0, 0
	for _, u := range units {
		weight, base = weight+u.weight, max(base, u.base)
	}
	if weight+base <= targetWork || len(units) == 1 {
		return append(to, shard{name: shardName(prefix, depth), units: units})
	}
	if depth == 64 {
		return fill(to, units, prefix)
	}
	bit := uint64(1) << (63 - depth)
	at, _ := slices.BinarySearchFunc(units, prefix|bit, func(u *unit, p uint64) int {
		if u.hash < p {
			return -1
		}
		return 1
	})
	to = divide(to, units[:at], prefix, depth+1)
	return divide(to, units[at:], prefix|bit, depth+1)
}

// fill divides units that have one hash, in their order. Chance does not make two
// of them, but whoever chooses names of namespaces can.
func fill(to []shard, units []*unit, prefix uint64) []shard {
	for n := 0; len(units) > 0; n++ {
		weight, end := units[0].weight, 1
		for end < len(units) && weight+units[end].weight+units[end].base <= targetWork {
			weight, end = weight+units[end].weight, end+1
		}
		to = append(to, shard{name: shardName(prefix, 64) + "-" + strconv.Itoa(n), units: units[:end:end]})
		units = units[end:]
	}
	return to
}

// shardName spells the prefix in bits: sallyport-access for the whole trie,
// sallyport-access-01 for a quarter of it. Long prefixes are spelled in hex with
// their length.
func shardName(prefix uint64, depth int) string {
	if depth == 0 {
		return WorkPrefix
	}
	if depth <= 16 {
		s := strconv.FormatUint(prefix>>(64-depth), 2)
		return WorkPrefix + "-" + strings.Repeat("0", depth-len(s)) + s
	}
	return WorkPrefix + "-x" + strconv.FormatUint(prefix, 16) + "-" + strconv.Itoa(depth)
}
