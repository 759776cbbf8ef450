package proxy

import "sync"

// Limits of what may be under way at once. 0 is no limit.
type Limits struct {
	// Requests that end by themselves: in total, and of one user.
	Requests, RequestsPerUser int
	// Sessions that do not, such as watches, logs and exec.
	Sessions, SessionsPerUser int
}

// budget counts what is under way.
type budget struct {
	total, perUser int
	mu             sync.Mutex
	all            int
	of             map[string]int
}

// take one for a user, or say why not.
func (b *budget) take(user string) (release func(), why string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.perUser > 0 && b.of[user] >= b.perUser:
		return nil, "you have too many requests under way"
	case b.total > 0 && b.all >= b.total:
		return nil, "too many requests are under way"
	}
	if b.of == nil {
		b.of = map[string]int{}
	}
	b.all++
	b.of[user]++
	return func() { b.release(user) }, ""
}

func (b *budget) release(user string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.all--
	if b.of[user]--; b.of[user] == 0 {
		delete(b.of, user)
	}
}
