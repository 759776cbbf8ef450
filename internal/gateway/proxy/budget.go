package proxy

import "sync"

// Limits of what may be under way at once. 0 is no limit.
type Limits struct {
	// Requests that end by themselves: in total, of one user, and to one cluster, so that
	// one that hangs holds up nobody who goes elsewhere.
	Requests, RequestsPerUser, RequestsPerCluster int
	// Sessions that do not, such as watches, logs and exec.
	Sessions, SessionsPerUser int
}

// budget counts what is under way.
type budget struct {
	total, perUser, perCluster int

	mu  sync.Mutex
	all int
	of  map[string]int // by user
	to  map[string]int // by cluster
}

// take one for a user and a cluster, or say why not.
func (b *budget) take(user, cluster string) (release func(), why string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.perUser > 0 && b.of[user] >= b.perUser:
		return nil, "you have too many requests under way"
	case b.perCluster > 0 && b.to[cluster] >= b.perCluster:
		return nil, "too many requests to the cluster are under way"
	case b.total > 0 && b.all >= b.total:
		return nil, "too many requests are under way"
	}
	if b.of == nil {
		b.of, b.to = map[string]int{}, map[string]int{}
	}
	b.all++
	b.of[user]++
	b.to[cluster]++
	return func() { b.release(user, cluster) }, ""
}

func (b *budget) release(user, cluster string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.all--
	if b.of[user]--; b.of[user] == 0 {
		delete(b.of, user)
	}
	if b.to[cluster]--; b.to[cluster] == 0 {
		delete(b.to, cluster)
	}
}
