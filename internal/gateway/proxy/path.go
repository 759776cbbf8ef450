package proxy

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"unicode/utf8"

	"k8s.io/apimachinery/pkg/util/validation"
)

// target of a request.
type target struct {
	cluster string
	// raw is the path on the member, as it came and as it is sent: it begins with "/".
	raw string
	// path is raw, decoded: what is judged.
	path  string
	query string // as it came
}

// maxPath bounds the path on the member.
const maxPath = 8 << 10

// parseTarget takes the cluster and the path on it from a request to PREFIX
// NAME/proxy/PATH. A path that two servers could read in two ways is an error, which
// is for the caller (S23).
func parseTarget(prefix string, r *http.Request) (*target, error) {
	raw := r.URL.EscapedPath()
	if came, _, _ := strings.Cut(r.RequestURI, "?"); r.RequestURI != "" && came != raw {
		return nil, errors.New("the path is not written as it has to be sent on: encode what is not plain")
	}
	rest, ok := strings.CutPrefix(raw, prefix)
	if !ok {
		return nil, errors.New("the path does not lead to a cluster")
	}
	cluster, inner, _ := strings.Cut(rest, "/")
	if len(validation.IsDNS1123Subdomain(cluster)) > 0 {
		return nil, errors.New("the path has no proper name of a cluster")
	}
	inner, ok = strings.CutPrefix(inner, "proxy")
	if !ok || inner != "" && inner[0] != '/' {
		return nil, errors.New("the path does not lead to clusters/NAME/proxy")
	}
	if inner == "" {
		inner = "/"
	}
	path, err := decode(inner)
	if err != nil {
		return nil, err
	}
	// A semicolon divides parameters for some servers and not for others.
	if _, err := url.ParseQuery(r.URL.RawQuery); err != nil || strings.Contains(r.URL.RawQuery, ";") {
		return nil, errors.New("the query cannot be read in one way only: encode semicolons and percents")
	}
	return &target{cluster: cluster, raw: inner, path: path, query: r.URL.RawQuery}, nil
}

// decode a path, unless another server could find another path in it.
func decode(raw string) (string, error) {
	if len(raw) > maxPath {
		return "", errors.New("the path is too long")
	}
	for segment := range strings.SplitSeq(raw[1:], "/") {
		if segment == "." || segment == ".." {
			return "", fmt.Errorf("the path has the segment %q", segment)
		}
	}
	if strings.Contains(raw, "//") {
		return "", errors.New("the path has an empty segment")
	}
	var b strings.Builder
	for i := 0; i < len(raw); i++ {
		c := raw[i]
		switch {
		case c == '%':
			if i+2 >= len(raw) || !isHex(raw[i+1]) || !isHex(raw[i+2]) {
				return "", errors.New("the path has a percent that encodes nothing")
			}
			c = unhex(raw[i+1])<<4 | unhex(raw[i+2])
			if c <= ' ' && c != ' ' || c == 0x7f || strings.IndexByte(`/\.%;?#`, c) >= 0 {
				return "", fmt.Errorf("the path has %s, which servers read in different ways", raw[i:i+3])
			}
			i += 2
		case c <= ' ' || c >= 0x7f || c == '\\' || c == ';':
			return "", errors.New("the path has a character that has to be encoded, or is not allowed")
		}
		b.WriteByte(c)
	}
	path := b.String()
	if !utf8.ValidString(path) {
		return "", errors.New("the path is not valid UTF-8")
	}
	return path, nil
}

func isHex(c byte) bool { return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F' }

func unhex(c byte) byte {
	switch {
	case c <= '9':
		return c - '0'
	case c <= 'F':
		return c - 'A' + 10
	}
	return c - 'a' + 10
}
