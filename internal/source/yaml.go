package source

import (
	"bytes"
	"errors"
	"fmt"
	"path"
	"regexp"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/util/json"
	kjson "sigs.k8s.io/json"
	"sigs.k8s.io/yaml"
)

// document is one YAML document of a file.
type document struct {
	line int // of its first line, from 1
	text []byte
}

// documents divides a file where YAML does: at lines that begin with --- or ...,
// which have that meaning wherever they stand, even within a block of text. The
// usual splitters know only the first, so that what follows the second is lost
// without a word.
func documents(data []byte) []document {
	var docs []document
	start, line := 0, 1 // of the current document
	end := func(at, next int) {
		if len(bytes.TrimSpace(data[start:at])) > 0 {
			docs = append(docs, document{line: line, text: data[start:at]})
		}
		start, line = at, next
	}
	for at, n := 0, 1; at < len(data); n++ {
		next := len(data)
		if i := bytes.IndexByte(data[at:], '\n'); i >= 0 {
			next = at + i + 1
		}
		switch {
		case isMarker(data[at:next], "---") && onlyDirectives(data[start:at]):
			// The document has not begun yet: %YAML, comments, nothing.
		case isMarker(data[at:next], "---"):
			end(at, n)
		case isMarker(data[at:next], "..."):
			end(next, n+1)
		}
		at = next
	}
	end(len(data), 0)
	return docs
}

func isMarker(line []byte, marker string) bool {
	rest, found := bytes.CutPrefix(line, []byte(marker))
	return found && (len(rest) == 0 || strings.ContainsRune(" \t\r\n", rune(rest[0])))
}

// onlyDirectives tells whether nothing but directives and comments stands there.
func onlyDirectives(text []byte) bool {
	for line := range bytes.Lines(text) {
		line = bytes.TrimSpace(line)
		if len(line) > 0 && line[0] != '%' && line[0] != '#' {
			return false
		}
	}
	return true
}

var yamlLine = regexp.MustCompile(`line (\d+): `)

// decode returns the object in a document, nil if it is empty. A key that is
// given twice is an error, for it would hide the other.
func (d document) decode(file string) (map[string]any, error) {
	data, err := yaml.YAMLToJSONStrict(d.text)
	if err != nil {
		return nil, d.yamlError(file, err)
	}
	return d.object(file, data)
}

func (d document) object(file string, data []byte) (map[string]any, error) {
	var value any
	if err := json.Unmarshal(data, &value); err != nil {
		return nil, fmt.Errorf("%s: %w", d.at(file), err)
	}
	switch value := value.(type) {
	case nil:
		return nil, nil
	case map[string]any:
		return value, nil
	default:
		return nil, fmt.Errorf("%s: a Kubernetes object is expected", d.at(file))
	}
}

// at is the place of the document's first line that says something.
func (d document) at(file string) string {
	line := d.line
	for text := range bytes.Lines(d.text) {
		text = bytes.TrimSpace(text)
		if len(text) > 0 && text[0] != '#' && !bytes.Equal(text, []byte("---")) {
			break
		}
		line++
	}
	return fmt.Sprintf("%s:%d", file, line)
}

// yamlError puts the first line that the parser names, counted from the start of
// the file, where editors look for it.
func (d document) yamlError(file string, err error) error {
	text := err.Error()
	found := yamlLine.FindStringSubmatchIndex(text)
	if found == nil {
		text = strings.TrimPrefix(text, "error converting YAML to JSON: ")
		return fmt.Errorf("%s: %s", d.at(file), strings.TrimPrefix(text, "yaml: "))
	}
	n, _ := strconv.Atoi(text[found[2]:found[3]])
	message, _, _ := strings.Cut(text[found[1]:], "\n")
	return fmt.Errorf("%s:%d: %s", file, d.line+n-1, message)
}

// decodeFile returns the objects of a YAML or JSON file with their places.
func decodeFile(file string, data []byte) ([]placed, error) {
	if path.Ext(file) == ".json" {
		doc := document{line: 1, text: data}
		var value any
		strict, err := kjson.UnmarshalStrict(data, &value)
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w", file, jsonLine(data, err), err)
		}
		if len(strict) > 0 {
			return nil, fmt.Errorf("%s: %w", doc.at(file), errors.Join(strict...))
		}
		content, err := doc.object(file, data)
		if err != nil || content == nil {
			return nil, err
		}
		return []placed{{content, doc.at(file)}}, nil
	}
	var all []placed
	for _, doc := range documents(data) {
		content, err := doc.decode(file)
		if err != nil {
			return nil, err
		}
		if content != nil {
			all = append(all, placed{content, doc.at(file)})
		}
	}
	return all, nil
}

func jsonLine(data []byte, err error) int {
	if ok, offset := kjson.SyntaxErrorOffset(err); ok && offset <= int64(len(data)) {
		return 1 + bytes.Count(data[:offset], []byte("\n"))
	}
	return 1
}

// placed is an object as it was read, and where.
type placed struct {
	content map[string]any
	at      string // file:line
}
