package source

import (
	"strings"
	"testing"
	"time"
)

func TestOptionsValidate(t *testing.T) {
	valid := Options{
		URL: "https://git.example.org/platform/access.git", Branch: "main", Path: "grants",
		Interval: time.Minute, Timeout: time.Minute, Namespace: "sallyport-system", Name: DefaultName,
	}
	with := func(change func(*Options)) Options {
		o := valid
		change(&o)
		return o
	}
	for name, tc := range map[string]struct {
		reason  string
		options Options
		want    string // part of the error; empty for none
	}{
		"HTTPS": {
			reason:  "The common case.",
			options: valid,
		},
		"SSH": {
			reason:  "A user in an ssh URL is no credential.",
			options: with(func(o *Options) { o.URL = "ssh://git@git.example.org/platform/access" }),
		},
		"File": {
			reason:  "A repository on a volume needs no server.",
			options: with(func(o *Options) { o.URL = "file:///srv/access.git" }),
		},
		"Path": {
			reason:  "A bare path is a file URL.",
			options: with(func(o *Options) { o.URL = "/srv/access.git" }),
		},
		"Zero": {
			reason: "The zero value syncs nothing.",
			want:   "cannot sync without a Git URL",
		},
		"HTTP": {
			reason:  "Whoever can change a response could grant access.",
			options: with(func(o *Options) { o.URL = "http://git.example.org/platform/access" }),
			want:    "must begin with https://",
		},
		"SCP": {
			reason:  "One form of ssh URL is enough to explain.",
			options: with(func(o *Options) { o.URL = "git@git.example.org:platform/access" }),
			want:    "ssh://git@host/owner/repo",
		},
		"Ext": {
			reason:  "Git's ext:: runs commands.",
			options: with(func(o *Options) { o.URL = "ext::sh -c id" }),
			want:    "must begin with https://",
		},
		"PasswordInURL": {
			reason:  "A URL is logged.",
			options: with(func(o *Options) { o.URL = "https://ada:hunter22@git.example.org/platform/access" }),
			want:    "holds credentials",
		},
		"TokenInURL": {
			reason:  "A token stands where a user would.",
			options: with(func(o *Options) { o.URL = "https://hunter22@git.example.org/platform/access" }),
			want:    "holds credentials",
		},
		"SSHPassword": {
			reason:  "ssh uses keys.",
			options: with(func(o *Options) { o.URL = "ssh://git:hunter22@git.example.org/platform/access" }),
			want:    "holds credentials",
		},
		"Unparsable": {
			reason:  "The parser's error would quote the URL.",
			options: with(func(o *Options) { o.URL = "https://ada:hunter22@git.example.org:port/%zz" }),
			want:    "must begin with https://",
		},
		"TokenInQuery": {
			reason:  "Some servers take tokens there.",
			options: with(func(o *Options) { o.URL = "https://git.example.org/access?private_token=hunter22" }),
			want:    "query",
		},
		"NoBranch": {
			reason:  "A default branch can be changed by whoever administers the repository.",
			options: with(func(o *Options) { o.Branch = "" }),
			want:    "without a branch",
		},
		"BadBranch": {
			reason:  "What Git would not accept has no commits.",
			options: with(func(o *Options) { o.Branch = "ma..in" }),
			want:    `branch "ma..in"`,
		},
		"Upwards": {
			reason:  "A path leads downwards.",
			options: with(func(o *Options) { o.Path = "grants/../../etc" }),
			want:    "downwards",
		},
		"Absolute": {
			reason:  "A path is within the repository.",
			options: with(func(o *Options) { o.Path = "/etc" }),
			want:    "downwards",
		},
		"Interval": {
			reason:  "A busy loop is nobody's wish.",
			options: with(func(o *Options) { o.Interval = 0 }),
			want:    "shortest interval",
		},
		"Namespace": {
			reason:  "The state has to live somewhere.",
			options: with(func(o *Options) { o.Namespace = "" }),
			want:    "as the namespace",
		},
	} {
		t.Run(name, func(t *testing.T) {
			err := tc.options.Validate()
			switch {
			case tc.want == "" && err != nil:
				t.Fatalf("%s\ngot error %v", tc.reason, err)
			case tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)):
				t.Fatalf("%s\ngot error %v, want one with %q", tc.reason, err, tc.want)
			case err != nil && strings.Contains(err.Error(), "hunter22"):
				t.Fatalf("%s\nthe error tells a secret: %v", tc.reason, err)
			}
		})
	}
}
