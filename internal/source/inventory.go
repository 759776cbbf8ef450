package source

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"

	"k8s.io/apimachinery/pkg/types"
)

const (
	// maxPlain is up to where an inventory is kept readable.
	maxPlain = 700 << 10
	// maxStored leaves room in the 1 MiB of a ConfigMap for the rest.
	maxStored = 900 << 10
	// maxInflated bounds what a tampered ConfigMap can become in memory.
	maxInflated = 64 << 20
)

// Entry is what the inventory knows of one object.
type Entry struct {
	Ref
	// Revision and Author of the commit that last changed the content.
	Revision string `json:"revision"`
	Author   string `json:"author"`
	// Hash of the content as committed.
	Hash string `json:"hash"`
	// UID and Generation of the object after it was applied. Without a
	// generation it is not known to have been applied.
	UID        types.UID `json:"uid,omitempty"`
	Generation int64     `json:"generation,omitempty"`
}

// Inventory lists what the sync has applied, or is about to apply. It is never
// changed in place.
type Inventory map[Ref]Entry

// with returns an inventory in which the entries take the place of those of the
// same name.
func (inv Inventory) with(entries ...Entry) Inventory {
	next := maps.Clone(inv)
	if next == nil {
		next = Inventory{}
	}
	for _, e := range entries {
		next[e.Ref] = e
	}
	return next
}

func (inv Inventory) without(refs ...Ref) Inventory {
	next := maps.Clone(inv)
	for _, r := range refs {
		delete(next, r)
	}
	return next
}

func (inv Inventory) refs() []Ref {
	return slices.SortedFunc(maps.Keys(inv), compareRefs)
}

// encode returns one line of JSON per object, sorted, so that people can read and
// compare it; and the same compressed instead, if it is long.
func (inv Inventory) encode() (plain string, compressed []byte, err error) {
	var buf bytes.Buffer
	encoder := json.NewEncoder(&buf)
	encoder.SetEscapeHTML(false) // leaves the <> of an author
	for _, ref := range inv.refs() {
		if err := encoder.Encode(inv[ref]); err != nil {
			return "", nil, fmt.Errorf("cannot write inventory: %w", err)
		}
	}
	if buf.Len() <= maxPlain {
		return buf.String(), nil, nil
	}
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	if _, err := w.Write(buf.Bytes()); err != nil {
		return "", nil, fmt.Errorf("cannot compress inventory: %w", err)
	}
	if err := w.Close(); err != nil {
		return "", nil, fmt.Errorf("cannot compress inventory: %w", err)
	}
	if packed.Len() > maxStored {
		return "", nil, fmt.Errorf("cannot write inventory: %d objects do not fit into one ConfigMap; sync them by two paths, or by Flux", len(inv))
	}
	return "", packed.Bytes(), nil
}

func decodeInventory(plain string, compressed []byte) (Inventory, error) {
	data := []byte(plain)
	if len(compressed) > 0 {
		r, err := gzip.NewReader(bytes.NewReader(compressed))
		if err != nil {
			return nil, fmt.Errorf("cannot read inventory: %w", err)
		}
		if data, err = io.ReadAll(io.LimitReader(r, maxInflated)); err != nil {
			return nil, fmt.Errorf("cannot read inventory: %w", err)
		}
	}
	inv := Inventory{}
	decoder := json.NewDecoder(bytes.NewReader(data))
	for {
		var e Entry
		if err := decoder.Decode(&e); errors.Is(err, io.EOF) {
			return inv, nil
		} else if err != nil {
			return nil, fmt.Errorf("cannot read inventory: %w", err)
		}
		if e.Kind == "" || e.Name == "" {
			return nil, errors.New("cannot read inventory: an entry names no object")
		}
		inv[e.Ref] = e
	}
}
