package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"strings"

	"sigs.k8s.io/yaml"
)

// tamper changes one word in a .tar.gz, and nothing else.
func tamper(archive []byte) ([]byte, error) {
	unzipped, err := gzip.NewReader(bytes.NewReader(archive))
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	zipped := gzip.NewWriter(&out)
	from, to := tar.NewReader(unzipped), tar.NewWriter(zipped)
	for {
		header, err := from.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		content, err := io.ReadAll(from)
		if err != nil {
			return nil, err
		}
		if strings.HasSuffix(header.Name, "data.json") {
			content = bytes.Replace(content, []byte(`"Deny"`), []byte(`"Warn"`), 1)
		}
		if err := to.WriteHeader(header); err != nil {
			return nil, err
		}
		if _, err := to.Write(content); err != nil {
			return nil, err
		}
	}
	if err := errors.Join(to.Close(), zipped.Close()); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

func decode(manifest string, into any) error { return yaml.Unmarshal([]byte(manifest), into) }

func encode(o any) ([]byte, error) { return yaml.Marshal(o) }

// indent every line.
func indent(s string, n int) string {
	pad := strings.Repeat(" ", n)
	var b strings.Builder
	for line := range strings.Lines(s) {
		b.WriteString(pad + line)
	}
	return b.String()
}
