// Package caller tells who makes a request to the gateway, as it was authenticated.
package caller

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"hash"
	"maps"
	"slices"

	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/endpoints/request"

	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
)

// ErrNobody says that a request has nobody behind it, or somebody who cannot be told
// apart from nobody (S6).
var ErrNobody = errors.New("nobody is authenticated")

// From is the user in the context of a request, or ErrNobody.
func From(ctx context.Context) (*guardrail.User, error) {
	u, ok := request.UserFrom(ctx)
	if !ok || !Somebody(u) {
		return nil, ErrNobody
	}
	return &guardrail.User{Name: u.GetName(), UID: u.GetUID(), Groups: u.GetGroups(), Extra: u.GetExtra()}, nil
}

// Somebody is whether a user has a name, has no group without one, and is not what
// Kubernetes calls anonymous.
func Somebody(u user.Info) bool {
	return u != nil && u.GetName() != "" && u.GetName() != user.Anonymous &&
		!slices.Contains(u.GetGroups(), "") && !slices.Contains(u.GetGroups(), user.AllUnauthenticated)
}

// Key is of one identity: of its name, UID, groups and extra together. What differs in
// any of them has another.
type Key [sha256.Size]byte

// KeyOf a user.
func KeyOf(u *guardrail.User) Key {
	w := writer{sha256.New()}
	w.text(u.Name)
	w.text(u.UID)
	w.list(u.Groups)
	w.number(len(u.Extra))
	for _, k := range slices.Sorted(maps.Keys(u.Extra)) {
		w.text(k)
		w.list(u.Extra[k])
	}
	return Key(w.Sum(nil))
}

// writer of texts with their lengths, so that no two lists are written alike.
type writer struct{ hash.Hash }

func (w writer) number(n int) {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], uint64(n))
	w.Write(b[:])
}

func (w writer) text(s string) {
	w.number(len(s))
	w.Write([]byte(s))
}

func (w writer) list(of []string) {
	w.number(len(of))
	for _, s := range of {
		w.text(s)
	}
}
