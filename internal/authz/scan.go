package authz

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// scanner reads JSON (RFC 8259) in one pass. A review is read for every request that an
// API server serves, and most of what a general decoder does for it is thrown away. This
// one is also stricter: names of fields are matched as they are written, one that is read
// may be there once, and text is valid. FuzzDecode compares it with Kubernetes' decoder.
type scanner struct {
	text string
	at   int
}

var errJSON = errors.New("the body is not JSON")

// deepest nesting of what is skipped.
const deepest = 64

// next character that is no space; 0 at the end.
func (s *scanner) next() byte {
	for s.at < len(s.text) {
		switch c := s.text[s.at]; c {
		case ' ', '\t', '\n', '\r':
			s.at++
		default:
			return c
		}
	}
	return 0
}

func (s *scanner) take(c byte) bool {
	if s.next() != c {
		return false
	}
	s.at++
	return true
}

func (s *scanner) word(w string) bool {
	s.next()
	if !strings.HasPrefix(s.text[s.at:], w) {
		return false
	}
	s.at += len(w)
	return true
}

// end is an error unless nothing is left.
func (s *scanner) end() error {
	if s.next() != 0 || s.at < len(s.text) {
		return errJSON
	}
	return nil
}

// object calls with the name of each field, which has to read the value. It reports
// whether there is an object, and not null.
func (s *scanner) object(field func(name string) error) (bool, error) {
	if s.word("null") {
		return false, nil
	}
	if !s.take('{') {
		return false, errJSON
	}
	if s.take('}') {
		return true, nil
	}
	for {
		name, err := s.str()
		if err != nil {
			return false, err
		}
		if !s.take(':') {
			return false, errJSON
		}
		if err := field(name); err != nil {
			return false, err
		}
		if s.take('}') {
			return true, nil
		}
		if !s.take(',') {
			return false, errJSON
		}
	}
}

// array calls for each element, which has to be read; null is an empty one.
func (s *scanner) array(element func() error) error {
	if s.word("null") {
		return nil
	}
	if !s.take('[') {
		return errJSON
	}
	if s.take(']') {
		return nil
	}
	for {
		if err := element(); err != nil {
			return err
		}
		if s.take(']') {
			return nil
		}
		if !s.take(',') {
			return errJSON
		}
	}
}

// str reads a string. It is a part of the text unless there are escapes in it.
func (s *scanner) str() (string, error) {
	if !s.take('"') {
		return "", errJSON
	}
	begin, plain := s.at, true
	for ; s.at < len(s.text); s.at++ {
		switch c := s.text[s.at]; {
		case c == '"':
			raw := s.text[begin:s.at]
			s.at++
			if !utf8.ValidString(raw) {
				return "", errJSON
			}
			if plain {
				return raw, nil
			}
			var out string
			if json.Unmarshal([]byte(s.text[begin-1:s.at]), &out) != nil {
				return "", errJSON
			}
			return out, nil
		case c == '\\':
			plain = false
			s.at++ // whatever it escapes, it does not end the string
		case c < ' ':
			return "", errJSON
		}
	}
	return "", errJSON
}

// skip a value.
func (s *scanner) skip(depth int) error {
	if depth > deepest {
		return fmt.Errorf("%w: it is nested too deep", errJSON)
	}
	switch c := s.next(); c {
	case '{':
		_, err := s.object(func(string) error { return s.skip(depth + 1) })
		return err
	case '[':
		return s.array(func() error { return s.skip(depth + 1) })
	case '"':
		_, err := s.str()
		return err
	}
	begin := s.at
	for s.at < len(s.text) && strings.IndexByte(" \t\r\n,]}", s.text[s.at]) < 0 {
		s.at++
	}
	// What is left is a number, true, false or null; it is rare, and no business of ours.
	if !json.Valid([]byte(s.text[begin:s.at])) {
		return errJSON
	}
	return nil
}

// text that is read once.
type text struct {
	value string
	set   bool
}

func (t *text) read(s *scanner, name string) (err error) {
	if t.set {
		return twice(name)
	}
	t.set = true
	if s.word("null") {
		return nil
	}
	t.value, err = s.str()
	return err
}

// list of texts that is read once.
type list struct {
	values []string
	set    bool
}

func (l *list) read(s *scanner, name string) error {
	if l.set {
		return twice(name)
	}
	l.set = true
	return s.array(func() error {
		v, err := s.str()
		if l.values == nil {
			l.values = make([]string, 0, 8)
		}
		l.values = append(l.values, v)
		return err
	})
}

func twice(name string) error { return fmt.Errorf("%s is there twice", name) }
