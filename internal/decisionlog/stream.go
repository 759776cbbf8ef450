package decisionlog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	lumberjack "gopkg.in/natefinch/lumberjack.v2"
)

// stream is a destination that lines are appended to.
type stream struct {
	called string
	w      io.Writer
	closer io.Closer // nil for what is not ours to close
	// torn: the last write ended within a line.
	torn bool
}

func (s *stream) name() string { return s.called }

// gather is how long a line waits for others, to be written with them: to wake up and
// write for each costs more than to make it.
const gather = 10 * time.Millisecond

func (s *stream) batch() (int, time.Duration) { return 1024, gather }

// write does not try again: what is on a disk that was full cannot be told from what is
// not. The part of a line that may be there gets an end, so that it spoils no other.
func (s *stream) write(_ context.Context, lines []byte, _ func(error)) error {
	if s.torn {
		if _, err := s.w.Write([]byte{'\n'}); err != nil {
			return err
		}
		s.torn = false
	}
	n, err := s.w.Write(lines)
	if err == nil && n < len(lines) {
		err = io.ErrShortWrite
	}
	s.torn = err != nil && n > 0 && !bytes.HasSuffix(lines[:n], []byte{'\n'})
	return err
}

func (s *stream) close() error {
	if s.closer == nil {
		return nil
	}
	return s.closer.Close()
}

// openFile is a file that is rotated, and that nobody else may read.
func openFile(path string, o FileOptions) (destination, error) {
	if o.Size < 2 || o.Backups < 0 || o.Age < 0 {
		return nil, errors.New("the size of a file is 2 MiB at least, and neither number nor age of the old ones is negative")
	}
	// Rotation would make another of what is no file, and gives the next the mode of this.
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return nil, errors.New("it is no regular file")
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	err = errors.Join(f.Chmod(0o600), f.Close())
	if err != nil {
		return nil, fmt.Errorf("cannot keep others from reading it: %w", err)
	}
	rotated := &lumberjack.Logger{Filename: path, MaxSize: o.Size, MaxBackups: o.Backups, MaxAge: o.Age}
	return &stream{called: "file:" + path, w: rotated, closer: rotated}, nil
}
