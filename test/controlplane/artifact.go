package controlplane

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"
)

// Artifact is a .tar.gz on an HTTP server of this process, as Flux's sources describe theirs.
type Artifact struct {
	Path   string // below the server's root
	URL    string // http, on loopback
	Digest string // "sha256:" and hex
	Size   int64  // bytes
}

// ServeArtifact packs the regular files of a folder, but not .git, and serves the archive until the fleet is stopped or
// this process ends. The archive's name is its digest: it never changes, and serving the same content twice gives the
// same URL.
func (f *Fleet) ServeArtifact(dir string) (Artifact, error) {
	archive, err := pack(os.DirFS(dir))
	if err != nil {
		return Artifact{}, fmt.Errorf("cannot pack %q: %w", dir, err)
	}
	base, err := f.artifactServer()
	if err != nil {
		return Artifact{}, fmt.Errorf("cannot serve artifacts: %w", err)
	}
	sum := sha256.Sum256(archive)
	digest := hex.EncodeToString(sum[:])
	path := digest + ".tar.gz"
	if err := os.WriteFile(filepath.Join(f.artifactDir(), path), archive, 0o644); err != nil {
		return Artifact{}, err
	}
	return Artifact{Path: path, URL: base + "/" + path, Digest: "sha256:" + digest, Size: int64(len(archive))}, nil
}

func (f *Fleet) artifactDir() string { return filepath.Join(f.Dir(), "artifacts") }

// artifactServer starts the server on first use and returns its URL.
func (f *Fleet) artifactServer() (string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.artifacts != nil {
		return "http://" + f.artifacts.Addr, nil
	}
	if err := os.MkdirAll(f.artifactDir(), 0o755); err != nil {
		return "", err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	server := &http.Server{
		Addr:              listener.Addr().String(),
		Handler:           http.FileServer(http.Dir(f.artifactDir())),
		ReadHeaderTimeout: 10 * time.Second,
	}
	go func() { _ = server.Serve(listener) }() // until Stop closes it
	f.artifacts = server
	return "http://" + server.Addr, nil
}

// pack returns the same archive for the same files, whatever their times and owners.
func pack(files fs.FS) ([]byte, error) {
	var buffer bytes.Buffer
	compressed := gzip.NewWriter(&buffer)
	archive := tar.NewWriter(compressed)
	err := fs.WalkDir(files, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && entry.Name() == ".git" {
			return fs.SkipDir
		}
		if !entry.Type().IsRegular() {
			return nil
		}
		content, err := fs.ReadFile(files, path)
		if err != nil {
			return err
		}
		if err := archive.WriteHeader(&tar.Header{Name: path, Mode: 0o644, Size: int64(len(content))}); err != nil {
			return err
		}
		_, err = archive.Write(content)
		return err
	})
	if err := errors.Join(err, archive.Close(), compressed.Close()); err != nil {
		return nil, err
	}
	return buffer.Bytes(), nil
}
