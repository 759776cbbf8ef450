package source

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"

	"github.com/go-git/go-git/v5/plumbing/format/packfile"
	"github.com/go-git/go-git/v5/storage/memory"
)

// unpack reads a pack into memory.
func unpack(r io.Reader, lim limits) (*memory.Storage, error) {
	pack, err := io.ReadAll(io.LimitReader(r, lim.pack+1))
	if err != nil {
		return nil, err
	}
	if int64(len(pack)) > lim.pack {
		return nil, fmt.Errorf("the commit is larger than the %d bytes that are fetched", lim.pack)
	}
	if err := checkLengths(pack, lim.unpacked); err != nil {
		return nil, err
	}
	store := memory.NewStorage()
	parser, err := packfile.NewParserWithStorage(packfile.NewScanner(bytes.NewReader(pack)), store)
	if err != nil {
		return nil, err
	}
	_, err = parser.Parse()
	return store, err
}

// checkLengths adds up what the pack says it unpacks to, before it is unpacked:
// a few kilobytes of a hostile pack would otherwise become gigabytes. The parser
// holds go-git to the declared lengths. A delta counts twice: as it is, and as
// the object that it becomes.
func checkLengths(pack []byte, limit int64) error {
	scanner := packfile.NewScanner(bytes.NewReader(pack))
	_, count, err := scanner.Header()
	if err != nil {
		return err
	}
	left := limit
	spend := func(n int64) error {
		if n < 0 || n > left {
			return fmt.Errorf("the commit has more than the %d bytes that it may have unpacked", limit)
		}
		left -= n
		return nil
	}
	for range count {
		header, err := scanner.NextObjectHeader()
		if err != nil {
			return err
		}
		if err := spend(header.Length); err != nil {
			return err
		}
		var head prefix
		if _, _, err := scanner.NextObject(&head); err != nil {
			return err
		}
		if header.Type.IsDelta() {
			if err := spend(head.deltaTarget()); err != nil {
				return err
			}
		}
	}
	return nil
}

// prefix keeps the first bytes that are written to it: enough for the two
// lengths at the head of a delta.
type prefix struct {
	buf [2 * binary.MaxVarintLen64]byte
	n   int
}

func (p *prefix) Write(b []byte) (int, error) {
	p.n += copy(p.buf[p.n:], b)
	return len(b), nil
}

// deltaTarget is the length of the object that the delta becomes, negative if
// there is none to be read.
func (p *prefix) deltaTarget() int64 {
	_, n := binary.Uvarint(p.buf[:p.n])
	if n <= 0 {
		return -1
	}
	size, n := binary.Uvarint(p.buf[n:p.n])
	if n <= 0 {
		return -1
	}
	return int64(size)
}
