package source

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/types"
)

func randomHex() string {
	var b [16]byte
	_, _ = rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

func fleetInventory(n int) Inventory {
	inv := Inventory{}
	for i := range n {
		ref := Ref{Group: "access.sallyport.dev", Kind: "AccessGrant", Namespace: fmt.Sprintf("team-%d", i%50), Name: fmt.Sprintf("grant-%d", i)}
		inv[ref] = Entry{Ref: ref, Revision: "main@sha1:" + randomHex(), Author: "Ada <ada@example.org>", Hash: randomHex(), UID: types.UID(randomHex()), Generation: 1}
	}
	return inv
}

func TestInventoryRoundTrip(t *testing.T) {
	for name, tc := range map[string]struct {
		reason     string
		inventory  Inventory
		compressed bool
		err        string
	}{
		"Empty":      {"Nothing is nothing.", Inventory{}, false, ""},
		"Small":      {"People read it with kubectl.", fleetInventory(3), false, ""},
		"Large":      {"Ten thousand objects of as many commits fit into one ConfigMap.", fleetInventory(8000), true, ""},
		"Too large":  {"What does not fit is refused, not cut.", fleetInventory(30000), true, "do not fit into one ConfigMap"},
		"Odd author": {"An author cannot forge an entry.", Inventory{{Kind: "A", Name: "b"}: {Ref: Ref{Kind: "A", Name: "b"}, Author: "x\n{\"kind\":\"A\",\"name\":\"c\"}"}}, false, ""},
	} {
		t.Run(name, func(t *testing.T) {
			plain, packed, err := tc.inventory.encode()
			if (err == nil) != (tc.err == "") || err != nil && !strings.Contains(err.Error(), tc.err) {
				t.Fatalf("%s\ngot error %v, want %q", tc.reason, err, tc.err)
			}
			if err != nil {
				return
			}
			if (packed != nil) != tc.compressed || packed != nil && plain != "" {
				t.Errorf("%s\ngot %d plain and %d packed bytes", tc.reason, len(plain), len(packed))
			}
			got, err := decodeInventory(plain, packed)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.inventory, got); diff != "" {
				t.Errorf("%s\n-want +got\n%s", tc.reason, diff)
			}
		})
	}
}

func TestInventoryCorrupt(t *testing.T) {
	for name, text := range map[string]string{"Text": "hello", "Cut": `{"kind":"AccessGrant","na`, "NoName": `{"kind":"AccessGrant"}`} {
		if inv, err := decodeInventory(text, nil); err == nil {
			t.Errorf("%s: got %v: an inventory that cannot be read must not look empty", name, inv)
		}
	}
	if _, err := decodeInventory("", []byte("no gzip")); err == nil {
		t.Error("a broken archive must not look empty")
	}
}
