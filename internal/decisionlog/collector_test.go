package decisionlog

import (
	"bytes"
	"context"
	"encoding/pem"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr/funcr"
	"github.com/google/go-cmp/cmp"
)

// trips answers requests without a network, so that time passes at once in a bubble.
type trips struct {
	mu     sync.Mutex
	bodies [][]byte
	at     []time.Time
	answer func(n int, r *http.Request) (status int, err error)
}

func (f *trips) RoundTrip(r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	n := len(f.at)
	f.at = append(f.at, time.Now())
	f.mu.Unlock()
	status, err := f.answer(n, r)
	if err != nil {
		return nil, err
	}
	if status == http.StatusOK {
		f.mu.Lock()
		f.bodies = append(f.bodies, body)
		f.mu.Unlock()
	}
	return &http.Response{StatusCode: status, Body: http.NoBody, Request: r}, nil
}

func (f *trips) log() io.Reader { return bytes.NewReader(bytes.Join(f.bodies, nil)) }

const collectorURL = "https://logs.example.com/in?key=canary"

// collecting is a log to a collector that answers as it is told.
func collecting(t *testing.T, answer func(n int, r *http.Request) (int, error), change func(*Options)) (*Log, *trips) {
	t.Helper()
	l := newLog(t, func(o *Options) {
		o.Sinks = []string{collectorURL}
		change(o)
	})
	f := &trips{answer: answer}
	// Before anything is logged nobody looks at it.
	l.sinks[0].to.(*collector).client.Transport = f
	return l, f
}

// TestRetries: a collector that is down loses nothing that the queue can hold, is asked
// less and less, and operators are told when that begins and ends, without secrets.
func TestRetries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told []string
		l, f := collecting(t, func(n int, _ *http.Request) (int, error) {
			switch {
			case n == 0:
				return 0, errors.New("connection refused")
			case n < 10:
				return []int{500, 503, 429, 401, 404, 302}[n%6], nil
			}
			return 200, nil
		}, func(o *Options) {
			o.Queue = 100
			o.Logger = funcr.New(func(_, args string) { told = append(told, args) }, funcr.Options{})
		})
		start := time.Now()
		for i := range 50 {
			l.Log(entry(i))
		}
		synctest.Wait()
		time.Sleep(2 * time.Second)
		for i := range 150 { // 100 of which there is room for
			l.Log(entry(50 + i))
		}
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		closed10s(t, l)
		var pauses []string
		for _, at := range f.at[:11] {
			pauses = append(pauses, at.Sub(start).String())
			start = at
		}
		if diff := cmp.Diff("1s 500ms 1s 2s 4s 8s 16s 30s 30s 30s 30s", strings.Join(pauses, " ")); diff != "" {
			t.Errorf("pauses (-want +got):\n%s", diff)
		}
		got := read(t, f.log())
		if diff := cmp.Diff(map[string]uint64{"queue-full": 50}, got.Dropped); diff != "" || len(got.IDs) != 150 {
			t.Errorf("%d entries, dropped (-want +got):\n%s", len(got.IDs), diff)
		}
		if len(told) != 2 || !strings.Contains(told[0], "connection refused") || !strings.Contains(told[1], "written again") || strings.Contains(strings.Join(told, ""), "canary") {
			t.Errorf("operators are told %q", told)
		}
	})
}

// TestRejected: a batch that a collector will never take does not stop those after it.
func TestRejected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, f := collecting(t, func(n int, _ *http.Request) (int, error) {
			if n == 0 {
				return http.StatusRequestEntityTooLarge, nil
			}
			return 200, nil
		}, func(*Options) {})
		l.Log(entry(0))
		time.Sleep(2 * time.Second)
		l.Log(entry(1))
		time.Sleep(2 * time.Second)
		closed10s(t, l)
		if diff := cmp.Diff(told{ids(1, 2), map[string]uint64{"rejected": 1}}, read(t, f.log())); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
}

// TestLinger: few entries are sent together, and none waits for long.
func TestLinger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, f := collecting(t, func(int, *http.Request) (int, error) { return 200, nil }, func(*Options) {})
		start := time.Now()
		for i := range 30 {
			l.Log(entry(i))
			time.Sleep(100 * time.Millisecond)
		}
		synctest.Wait()
		if waited := time.Since(start); waited != 3*time.Second || len(f.at) < 2 || len(f.at) > 3 {
			t.Errorf("%d requests after %s", len(f.at), waited)
		}
		closed10s(t, l)
		if diff := cmp.Diff(ids(0, 30), read(t, f.log()).IDs); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
}

// TestCloseWhileDown: a collector that is down does not keep a server from ending, and
// what is lost is counted.
func TestCloseWhileDown(t *testing.T) {
	for name, answer := range map[string]func(int, *http.Request) (int, error){
		"Down":  func(int, *http.Request) (int, error) { return 503, nil },
		"Hangs": func(_ int, r *http.Request) (int, error) { <-r.Context().Done(); return 0, r.Context().Err() },
	} {
		synctest.Test(t, func(t *testing.T) {
			l, _ := collecting(t, answer, func(o *Options) { o.HTTP.Timeout = time.Hour })
			for i := range 5000 {
				l.Log(entry(i))
			}
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			start := time.Now()
			err := l.Close(ctx)
			if took := time.Since(start); !errors.Is(err, context.DeadlineExceeded) || took != 5*time.Second {
				t.Errorf("%s: Close: %v after %s", name, err, took)
			}
			if n := l.sinks[0].dropped[closed].Load(); n != 5000 {
				t.Errorf("%s: %d are counted as lost", name, n)
			}
		})
	}
}

// TestCollector: the real thing. The certificate is verified, the token is read anew for
// each request, and goes to no other server.
func TestCollector(t *testing.T) {
	var mu sync.Mutex
	var body bytes.Buffer
	var tokens []string
	elsewhere := httptest.NewTLSServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		t.Errorf("a redirect was followed, with %q", r.Header.Get("Authorization"))
	}))
	defer elsewhere.Close()
	fails := 2
	seen := make(chan string, 100)
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		tokens = append(tokens, r.Header.Get("Authorization"))
		defer func() { seen <- r.Header.Get("Authorization") }()
		if fails--; fails >= 0 {
			http.Redirect(w, r, elsewhere.URL, http.StatusTemporaryRedirect)
			return
		}
		if r.Method != http.MethodPost || r.Header.Get("Content-Type") != "application/x-ndjson" || r.URL.Path != "/in" {
			t.Errorf("%s %s of %s", r.Method, r.URL, r.Header.Get("Content-Type"))
		}
		if _, err := body.ReadFrom(r.Body); err != nil {
			t.Error(err)
		}
	}))
	defer server.Close()
	dir := t.TempDir()
	ca, token := filepath.Join(dir, "ca.crt"), filepath.Join(dir, "token")
	certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	for name, content := range map[string]string{ca: string(certificate), token: "one\n"} {
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	l := newLog(t, func(o *Options) {
		o.Sinks, o.HTTP.CAFile, o.HTTP.TokenFile = []string{server.URL + "/in"}, ca, token
		o.HTTP.Linger, o.HTTP.Backoff = time.Millisecond, time.Millisecond
	})
	l.Log(entry(0))
	for range 3 {
		<-seen
	}
	if err := os.WriteFile(token, []byte("two"), 0o600); err != nil {
		t.Fatal(err)
	}
	l.Log(entry(1))
	closed10s(t, l)
	if diff := cmp.Diff([]string{"Bearer one", "Bearer one", "Bearer one", "Bearer two"}, tokens); diff != "" {
		t.Errorf("tokens (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(told{ids(0, 2), map[string]uint64{}}, read(t, &body)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}

	// Without the authority, nothing is said to whoever it is.
	tokens = nil
	l = newLog(t, func(o *Options) { o.Sinks, o.HTTP.TokenFile = []string{server.URL + "/in"}, token })
	err := l.sinks[0].to.(*collector).post(context.Background(), []byte("{}\n"))
	if err == nil || !strings.Contains(err.Error(), "certificate") || len(tokens) > 0 {
		t.Errorf("%v, with tokens %q", err, tokens)
	}
	closed10s(t, l)
}
