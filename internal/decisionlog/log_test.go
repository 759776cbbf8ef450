package decisionlog

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// told is what a log tells: how many entries, and how many are missing.
type told struct {
	IDs     []string
	Dropped map[string]uint64
}

func read(t *testing.T, log io.Reader) told {
	t.Helper()
	out := told{Dropped: map[string]uint64{}}
	lines := bufio.NewScanner(log)
	lines.Buffer(nil, maxLine)
	for lines.Scan() {
		var line struct {
			Entry
			Count   uint64            `json:"count"`
			Reasons map[string]uint64 `json:"reasons"`
		}
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			t.Fatalf("%v in %q", err, lines.Text())
		}
		if line.Event != EventDropped {
			out.IDs = append(out.IDs, line.ID)
			continue
		}
		var sum uint64
		for reason, n := range line.Reasons {
			out.Dropped[reason] += n
			sum += n
		}
		if sum != line.Count || sum == 0 {
			t.Errorf("%d are %v", line.Count, line.Reasons)
		}
	}
	return out
}

func entry(id int) *Entry { return &Entry{ID: fmt.Sprint(id), Event: EventRequest, Verdict: Deny} }

func ids(from, to int) (out []string) {
	for i := from; i < to; i++ {
		out = append(out, fmt.Sprint(i))
	}
	return out
}

func newLog(t *testing.T, change func(*Options)) *Log {
	t.Helper()
	o := NewOptions()
	change(o)
	l, err := New(*o)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func closed10s(t *testing.T, l *Log) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := l.Close(ctx); err != nil {
		t.Error(err)
	}
}

// gate is a writer that lets nothing pass while it is shut.
type gate struct {
	mu  sync.Mutex
	buf bytes.Buffer
	// entered has a signal for each write that waits.
	entered chan struct{}
	open    chan struct{}
}

func newGate() *gate { return &gate{entered: make(chan struct{}, 1000), open: make(chan struct{})} }

func (g *gate) Write(p []byte) (int, error) {
	g.entered <- struct{}{}
	<-g.open
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.buf.Write(p)
}

func TestStdout(t *testing.T) {
	var out bytes.Buffer
	l := newLog(t, func(o *Options) { o.Stdout = &out })
	for i := range 5000 {
		l.Log(entry(i))
	}
	closed10s(t, l)
	l.Log(entry(5000))
	if diff := cmp.Diff(told{ids(0, 5000), map[string]uint64{}}, read(t, &out)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if n := l.sinks[0].dropped[closed].Load(); n != 1 {
		t.Errorf("%d were dropped since the log was closed", n)
	}
	closed10s(t, l)
}

// TestQueueFull: who decides never waits, and the log says how large the hole is, after
// what was logged before it.
func TestQueueFull(t *testing.T) {
	out, registry := newGate(), prometheus.NewRegistry()
	l := newLog(t, func(o *Options) { o.Stdout, o.Queue, o.Metrics = out, 10, registry })
	l.Log(entry(0))
	<-out.entered // the writer is stuck with the first
	for i := range 25 {
		l.Log(entry(1 + i))
	}
	const metric = "sallyport_decision_log_dropped_total"
	want := `# HELP sallyport_decision_log_dropped_total Entries that did not get into the decision log, by reason.
# TYPE sallyport_decision_log_dropped_total counter
sallyport_decision_log_dropped_total{reason="closed",sink="stdout"} 0
sallyport_decision_log_dropped_total{reason="queue-full",sink="stdout"} 15
sallyport_decision_log_dropped_total{reason="rejected",sink="stdout"} 0
sallyport_decision_log_dropped_total{reason="write-failed",sink="stdout"} 0
# HELP sallyport_decision_log_queue_entries Entries that wait to be written to the decision log.
# TYPE sallyport_decision_log_queue_entries gauge
sallyport_decision_log_queue_entries{sink="stdout"} 10
`
	if err := testutil.GatherAndCompare(registry, strings.NewReader(want), metric, "sallyport_decision_log_queue_entries"); err != nil {
		t.Error(err)
	}
	close(out.open)
	closed10s(t, l)
	if diff := cmp.Diff(told{ids(0, 11), map[string]uint64{"queue-full": 15}}, read(t, &out.buf)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestQueueBytes: few large entries are as many small ones.
func TestQueueBytes(t *testing.T) {
	out := newGate()
	l := newLog(t, func(o *Options) { o.Stdout, o.QueueSize = out, 1 })
	l.Log(entry(0))
	<-out.entered
	for i := range 10 {
		e := entry(1 + i)
		e.User.Groups = []string{strings.Repeat("g", 300<<10)}
		l.Log(e)
	}
	if entries, size := l.sinks[0].queue.length(); entries != 3 || size > 1<<20 {
		t.Errorf("%d entries of %d bytes wait", entries, size)
	}
	close(out.open)
	closed10s(t, l)
	if diff := cmp.Diff(told{ids(0, 4), map[string]uint64{"queue-full": 7}}, read(t, &out.buf)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestManyWriters: every entry is in the log or counted, whoever logs while it closes.
func TestManyWriters(t *testing.T) {
	var out bytes.Buffer
	l := newLog(t, func(o *Options) { o.Stdout, o.Queue = &out, 100 })
	var all sync.WaitGroup
	half := make(chan struct{})
	for w := range 8 {
		all.Go(func() {
			for i := range 2000 {
				if i == 1000 && w == 0 {
					close(half)
				}
				l.Log(entry(i))
			}
		})
	}
	<-half
	closed10s(t, l)
	all.Wait()
	var dropped uint64
	s := l.sinks[0]
	for r := range s.dropped {
		dropped += s.dropped[r].Load()
	}
	got := read(t, &out)
	if n := uint64(len(got.IDs)); n != s.written.Load() || n+dropped != 16_000 {
		t.Errorf("%d are written, %d said to be, %d dropped", n, s.written.Load(), dropped)
	}
	if told := got.Dropped["queue-full"]; told != s.dropped[queueFull].Load() {
		t.Errorf("%d of %d are told", told, s.dropped[queueFull].Load())
	}
}

// TestSinksAreApart: a sink that hangs takes nothing from another.
func TestSinksAreApart(t *testing.T) {
	out := newGate()
	file := filepath.Join(t.TempDir(), "decisions.log")
	l := newLog(t, func(o *Options) { o.Stdout, o.Sinks = out, []string{"stdout", "file:" + file} })
	for i := range 100 {
		l.Log(entry(i))
	}
	ctx, cancel := context.WithCancel(context.Background())
	l.sinks[1].queue.close()
	<-l.sinks[1].done
	cancel()
	if err := l.Close(ctx); !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), `"stdout"`) {
		t.Errorf("Close: %v", err)
	}
	close(out.open)
	<-l.sinks[0].done
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(told{ids(0, 100), map[string]uint64{}}, read(t, bytes.NewReader(raw))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// full is a disk that has room for so many bytes.
type full struct {
	mu sync.Mutex
	bytes.Buffer
	room int
}

func (f *full) Write(p []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if n := min(f.room, len(p)); n < len(p) {
		f.room -= n
		f.Buffer.Write(p[:n])
		return n, errors.New("no space left")
	}
	f.room -= len(p)
	return f.Buffer.Write(p)
}

// TestDiskFull: what was torn spoils no other line, and what is missing is told as soon
// as there is room, though nothing else is logged.
func TestDiskFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := &full{room: 40}
		l := newLog(t, func(o *Options) { o.Stdout = disk })
		for i := range 2 {
			l.Log(entry(i))
			time.Sleep(gather) // of the bubble: it passes at once
			synctest.Wait()
		}
		torn := disk.String()
		if len(torn) != 40 {
			t.Fatalf("%q", torn)
		}
		disk.mu.Lock()
		disk.room = 1 << 20
		disk.mu.Unlock()
		time.Sleep(retell)
		synctest.Wait()
		l.Log(entry(2))
		closed10s(t, l)
		rest, ok := strings.CutPrefix(disk.String(), torn+"\n")
		if !ok {
			t.Fatalf("%q", disk.String())
		}
		if first, _, _ := strings.Cut(rest, "\n"); !strings.Contains(first, `"event":"dropped","count":2`) {
			t.Errorf("first is %q", first)
		}
		if diff := cmp.Diff(told{ids(2, 3), map[string]uint64{"write-failed": 2}}, read(t, strings.NewReader(rest))); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
}

// TestGather: lines are written together where there are many, and none waits for long.
func TestGather(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var writes []time.Duration
		start := time.Now()
		l := newLog(t, func(o *Options) {
			o.Stdout, o.Queue = writer(func(p []byte) { writes = append(writes, time.Since(start)) }), 100
		})
		for i := range 10 { // one each millisecond
			l.Log(entry(i))
			time.Sleep(time.Millisecond)
		}
		time.Sleep(time.Second)
		for i := range 80 { // and so many at once that nothing has to wait
			l.Log(entry(i))
		}
		synctest.Wait()
		l.Log(entry(0))
		closed10s(t, l) // which waits for nothing either
		want := []time.Duration{gather, time.Second + gather, time.Second + gather}
		if diff := cmp.Diff(want, writes); diff != "" {
			t.Errorf("writes (-want +got):\n%s", diff)
		}
	})
}

type writer func(p []byte)

func (w writer) Write(p []byte) (int, error) {
	w(p)
	return len(p), nil
}

// TestRotation: files are for their owner, have an end, and old ones go.
func TestRotation(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "decisions.log")
	if err := os.WriteFile(file, []byte("{\"id\":\"before\"}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	l := newLog(t, func(o *Options) {
		o.Sinks, o.File, o.Queue = []string{"file:" + file}, FileOptions{Size: 2, Backups: 2}, 20_000
	})
	for i := range 7000 {
		e := entry(i)
		e.Request.Path = strings.Repeat("p", 1000)
		l.Log(e)
	}
	closed10s(t, l)
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	var total int64
	for _, name := range files {
		info, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		total += info.Size()
		if info.Mode().Perm() != 0o600 || info.Size() > 2<<20 {
			t.Errorf("%s has mode %s and %d bytes", name, info.Mode(), info.Size())
		}
	}
	// How many old ones there are at this moment depends on whether the last was taken
	// away already.
	if len(files) < 3 || total < 4<<20 {
		t.Errorf("there are %v", files)
	}
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got := read(t, bytes.NewReader(raw)).IDs; len(got) == 0 || got[len(got)-1] != "6999" {
		t.Errorf("the last of %d is not there", len(got))
	}
}

func TestNil(t *testing.T) {
	var l *Log
	l.Log(entry(0))
	closed10s(t, l)
}

func BenchmarkLog(b *testing.B) {
	o := NewOptions()
	o.Stdout = io.Discard
	l, err := New(*o)
	if err != nil {
		b.Fatal(err)
	}
	e := typical()
	b.ReportAllocs()
	for b.Loop() {
		l.Log(e)
	}
	b.StopTimer()
	if err := l.Close(context.Background()); err != nil {
		b.Fatal(err)
	}
}
