package decisionlog

import (
	"errors"
	"io"
	"net"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/pflag"
)

// Options of a Log. NewOptions has the defaults.
type Options struct {
	// Sinks are stdout, file:PATH, https://HOST/PATH, or none; http:// only to this
	// machine.
	Sinks []string
	// Allowed has what is allowed logged as well, where no guardrail objects.
	Allowed bool
	// Queue is how many entries wait for each sink, and QueueSize how many MiB of
	// memory they may take.
	Queue, QueueSize int
	File             FileOptions
	HTTP             HTTPOptions

	// Metrics are registered here, if it is not nil.
	Metrics prometheus.Registerer
	// Logger is told when a sink fails and when it works again.
	Logger logr.Logger
	// Stdout is what stdout is; nil for that of the process.
	Stdout io.Writer
}

// FileOptions of files.
type FileOptions struct {
	// Size at which another file is begun, in MiB.
	Size int
	// Backups are how many full files are kept, and Age for how many days; 0 for all.
	Backups, Age int
}

// HTTPOptions of collectors.
type HTTPOptions struct {
	// CAFile has the certificates, in PEM, that collectors are verified with; empty for
	// those of the system.
	CAFile string
	// TokenFile has a bearer token. It is read for each request, so that it may be
	// renewed; empty for none.
	TokenFile string
	// Timeout of one request.
	Timeout time.Duration
	// Linger is how long entries wait for others to be sent with.
	Linger time.Duration
	// Backoff is the pause after a request that failed. It doubles, up to half a minute.
	Backoff time.Duration
}

// NewOptions has the defaults: everything, to stdout.
func NewOptions() *Options {
	return &Options{
		Sinks: []string{stdout}, Allowed: true, Queue: 10_000, QueueSize: 64,
		File: FileOptions{Size: 100, Backups: 10, Age: 30},
		HTTP: HTTPOptions{Timeout: 10 * time.Second, Linger: time.Second, Backoff: 500 * time.Millisecond},
	}
}

// AddFlags has flags set the options, which have the defaults.
func (o *Options) AddFlags(fs *pflag.FlagSet) {
	fs.StringArrayVar(&o.Sinks, "decision-log", o.Sinks, "where each decision is written as a line of JSON: stdout, file:PATH, https://HOST/PATH or none; may be repeated")
	fs.BoolVar(&o.Allowed, "decision-log-allowed", o.Allowed, "log also what is allowed without that a guardrail has anything to say")
	fs.IntVar(&o.Queue, "decision-log-queue", o.Queue, "entries that may wait for each sink; more are dropped, counted, and told of in the log")
	fs.IntVar(&o.QueueSize, "decision-log-queue-size", o.QueueSize, "MiB of memory that these may take")
	fs.IntVar(&o.File.Size, "decision-log-file-size", o.File.Size, "MiB at which another file is begun")
	fs.IntVar(&o.File.Backups, "decision-log-file-backups", o.File.Backups, "full files that are kept; 0 for all")
	fs.IntVar(&o.File.Age, "decision-log-file-age", o.File.Age, "days for which full files are kept; 0 for ever")
	fs.StringVar(&o.HTTP.CAFile, "decision-log-ca-file", o.HTTP.CAFile, "certificates in PEM to verify the collector with; empty for those of the system")
	fs.StringVar(&o.HTTP.TokenFile, "decision-log-token-file", o.HTTP.TokenFile, "file with a bearer token for the collector, read for each request")
	fs.DurationVar(&o.HTTP.Timeout, "decision-log-timeout", o.HTTP.Timeout, "how long the collector may take for a request")
}

const (
	stdout = "stdout"
	none   = "none"
)

// open a sink by its name.
func (o *Options) open(name string) (destination, error) {
	if name == stdout {
		w := o.Stdout
		if w == nil {
			w = os.Stdout
		}
		return &stream{called: stdout, w: w}, nil
	}
	if path, ok := strings.CutPrefix(name, "file:"); ok && path != "" {
		return openFile(strings.TrimPrefix(path, "//"), o.File)
	}
	u, err := url.Parse(name)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return nil, errors.New("stdout, file:PATH, https://HOST/PATH or none is expected")
	}
	switch {
	case u.User != nil:
		return nil, errors.New("a password belongs in no URL: use a token file")
	case u.Scheme == "http" && !isLocal(u.Hostname()):
		return nil, errors.New("who did what goes in the clear only to this machine: use https")
	}
	return openCollector(u, o.HTTP)
}

func isLocal(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// called is a sink as messages may name it.
func called(name string) string {
	if u, err := url.Parse(name); err == nil && u.Host != "" {
		return withoutSecrets(u)
	}
	return name
}

// withoutSecrets is a URL without what may be one.
func withoutSecrets(u *url.URL) string {
	return (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}).String()
}
