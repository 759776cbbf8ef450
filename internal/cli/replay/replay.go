package replay

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/sallyport-dev/sallyport/internal/core/effective"
	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
	"github.com/sallyport-dev/sallyport/internal/decisionlog"
)

// replay of logs.
type replay struct {
	timeline timeline
	at       time.Time // zero for the instant of each request
	write    writer
	complain func(format string, args ...any)
	sum      summary
}

// maxLine is the most bytes of a line. The log itself has none that is longer than a
// MiB.
const maxLine = 4 << 20

func (p *replay) file(name string, stdin io.Reader) error {
	in := stdin
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return fmt.Errorf("cannot read the log: %w", err)
		}
		defer f.Close()
		in = f
	}
	lines := bufio.NewReaderSize(in, 64<<10)
	for n := 1; ; n++ {
		line, err := readLine(lines)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = p.line(name, n, line)
		} else if !errors.Is(err, errLong) {
			return fmt.Errorf("cannot read the log: %s:%d: %w", name, n, err)
		}
		var failed errWrite
		if errors.As(err, &failed) {
			return err
		}
		if err != nil {
			p.sum.Unreadable++
			p.complain("%s:%d: %v", name, n, err)
		}
	}
}

var errLong = fmt.Errorf("a line of more than %d bytes", maxLine)

// readLine without its end. Of one that is too long, nothing is kept.
func readLine(r *bufio.Reader) ([]byte, error) {
	var line []byte
	long := false
	for {
		part, err := r.ReadSlice('\n')
		if long = long || len(line)+len(part) > maxLine; !long {
			line = append(line, part...)
		}
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case errors.Is(err, io.EOF) && len(part)+len(line) == 0 && !long:
			return nil, err
		case err != nil && !errors.Is(err, io.EOF):
			return nil, err
		case long:
			return nil, errLong
		}
		return bytes.TrimSpace(line), nil
	}
}

// line of a log: a decision, or a hole.
func (p *replay) line(file string, n int, line []byte) error {
	if len(line) == 0 {
		return nil
	}
	var e struct {
		decisionlog.Entry
		Count uint64 `json:"count"`
		// Reasons of a decision are a list, and those of a hole are counts.
		Reasons json.RawMessage `json:"reasons"`
	}
	if err := json.Unmarshal(line, &e); err != nil {
		return fmt.Errorf("no line of a decision log: %w", err)
	}
	switch {
	case e.Version != decisionlog.Version:
		return fmt.Errorf("no line of a decision log that is known here: its version is %q", e.Version)
	case e.Event == decisionlog.EventDropped:
		p.sum.Dropped += e.Count
		return nil
	case e.Event != decisionlog.EventRequest && e.Event != decisionlog.EventSession, e.Time.IsZero():
		return errors.New("no line of a decision log: there is no event or no time in it")
	}
	if len(e.Reasons) > 0 {
		if err := json.Unmarshal(e.Reasons, &e.Entry.Reasons); err != nil {
			return fmt.Errorf("no line of a decision log: %w", err)
		}
	}
	if why := skipped(&e.Entry); why != "" {
		p.sum.skip(why)
		return nil
	}
	p.sum.Replayed++
	d := compare(&e.Entry, p.decide(&e.Entry))
	if d == nil {
		return nil
	}
	p.sum.Differ++
	d.File, d.Line = file, n
	if err := p.write.difference(d); err != nil {
		return errWrite{err}
	}
	return nil
}

// errWrite is wrapped where there is nobody to tell.
type errWrite struct{ error }

func (e errWrite) Error() string { return "cannot write the differences: " + e.error.Error() }

// skipped is why an entry cannot be decided anew; empty where it can.
func skipped(e *decisionlog.Entry) string {
	switch e.Layer {
	case "", decisionlog.LayerGuardrail, decisionlog.LayerGrant:
	default:
		return e.Layer
	}
	switch {
	case e.Truncated: // of groups that are not there nothing can be said
		return "truncated"
	case e.Snapshot == 0:
		return "nothing-known"
	case e.Verdict != decisionlog.Deny && slices.ContainsFunc(e.Reasons, counts):
		return "exempt"
	}
	return ""
}

// decide as Kubernetes names the request. What cannot be evaluated is asked again, since
// a deadline that was missed on a busy machine says nothing of the request.
func (p *replay) decide(e *decisionlog.Entry) *decisionlog.Entry {
	q := &effective.Request{
		User:    guardrail.User{Name: e.User.Name, UID: e.User.UID, Groups: e.User.Groups, Extra: e.User.Extra},
		Cluster: e.Request.Cluster, Verb: e.Request.Verb, ResourceRequest: e.Request.Resource != "",
		APIGroup: e.Request.APIGroup, APIVersion: e.Request.APIVersion, Resource: e.Request.Resource, Subresource: e.Request.Subresource,
		Namespace: e.Request.Namespace, Name: e.Request.Name, Path: e.Request.Path, At: e.Time,
	}
	if !p.at.IsZero() {
		q.At = p.at
	}
	ix := p.timeline.index(q.At)
	d := ix.DecideConnect(q)
	for range retries {
		if !slices.ContainsFunc(d.Reasons, func(r guardrail.Reason) bool { return r.Failed }) {
			break
		}
		d = ix.DecideConnect(q)
	}
	return decisionlog.Of(e.Server, q, &d)
}

const retries = 2
