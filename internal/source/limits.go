package source

import (
	"errors"
	"fmt"
	"io/fs"
)

// limits bound what a commit can make the controller hold.
type limits struct {
	pack     int64 // bytes that the server sends
	unpacked int64 // bytes of all objects of the fetched commit
	file     int64 // bytes of one file that is read
	total    int64 // bytes of all files that are read
	files    int   // files that are read
	objects  int   // objects that are built
}

var defaultLimits = limits{
	pack:     64 << 20,
	unpacked: 192 << 20,
	file:     4 << 20,
	total:    32 << 20,
	files:    10_000,
	objects:  20_000,
}

// reader reads the files of one commit until its limits are reached.
type reader struct {
	fs.FS
	limits
	read    int64
	visited int
}

func (r *reader) readFile(name string) ([]byte, error) {
	info, err := fs.Stat(r.FS, name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: not a regular file", name)
	}
	if info.Size() > r.file {
		return nil, fmt.Errorf("%s: %d bytes are more than the %d that a file may have", name, info.Size(), r.file)
	}
	if r.visited++; r.visited > r.files {
		return nil, fmt.Errorf("%s: one file more than the %d that a commit may have", name, r.files)
	}
	if r.read += info.Size(); r.read > r.total {
		return nil, fmt.Errorf("%s: one file more than the %d bytes that a commit may have", name, r.total)
	}
	data, err := fs.ReadFile(r.FS, name)
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > info.Size() {
		return nil, fmt.Errorf("%s: %w", name, errors.New("longer than it says"))
	}
	return data, nil
}
