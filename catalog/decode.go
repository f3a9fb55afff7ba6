package catalog

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"
	"unicode"

	"go.yaml.in/yaml/v3"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/exeat-dev/exeat/api/v1alpha1"
)

// Bounds of one document, aliases followed.
const (
	maxValues = 100_000
	maxDepth  = 32
)

// decoder fills one object from one document and goes on after each error.
type decoder struct {
	file   string
	line   func(int) int  // from a node's line to the file's
	lines  map[string]int // of each field path that is there
	wrong  []string       // field paths with an error
	errs   Errors
	budget int
	depth  int
}

func newDecoder(name string, p piece) *decoder {
	return &decoder{file: name, line: p.line, lines: map[string]int{}, budget: maxValues}
}

func (d *decoder) fail(path string, line int, format string, args ...any) {
	d.wrong = append(d.wrong, path)
	d.errs = append(d.errs, Error{d.file, line, path, fmt.Sprintf(format, args...)})
}

// value decodes n, which stands at line, into v. What is wrong with it is
// reported and leaves v as it was.
func (d *decoder) value(n *yaml.Node, v reflect.Value, path string, line int) {
	d.lines[path] = line
	if n = d.follow(n, path, line); n == nil {
		return
	}
	d.depth++
	defer func() { d.depth-- }()
	switch {
	case isNull(n):
		d.fail(path, line, "is empty: give it a value or leave the field out")
	case d.special(n, v, path, line):
	default:
		d.plain(n, v, path, line)
	}
}

// follow resolves an alias, within the document's budget.
func (d *decoder) follow(n *yaml.Node, path string, line int) *yaml.Node {
	if d.budget--; d.budget < 0 {
		if d.budget == -1 { // once is enough
			d.fail(path, line, "the document holds more than %d values, aliases followed", maxValues)
		}
		return nil
	}
	if d.depth == maxDepth {
		d.fail(path, line, "is nested deeper than %d levels", maxDepth)
		return nil
	}
	if n.Kind == yaml.AliasNode {
		return n.Alias
	}
	return n
}

// special decodes the types that have a form of their own.
func (d *decoder) special(n *yaml.Node, v reflect.Value, path string, line int) bool {
	switch target := v.Addr().Interface().(type) {
	case *metav1.ObjectMeta:
		d.metadata(n, target, path, line)
	case *metav1.Duration:
		d.duration(n, target, path, line)
	case *v1alpha1.QueryRule:
		d.query(n, target, path, line)
	case json.Unmarshaler:
		d.unmarshal(n, target, path, line)
	default:
		return false
	}
	return true
}

func (d *decoder) plain(n *yaml.Node, v reflect.Value, path string, line int) {
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		d.depth-- // the same level: a pointer is no nesting
		d.value(n, v.Elem(), path, line)
		d.depth++
	case reflect.Struct:
		d.structure(n, v, path, line)
	case reflect.Map:
		d.mapping(n, v, path, line)
	case reflect.Slice:
		d.list(n, v, path, line)
	case reflect.String:
		if s, ok := d.text(n, path, line); ok {
			v.SetString(s)
		}
	case reflect.Bool:
		d.boolean(n, v, path, line)
	case reflect.Int32, reflect.Int64, reflect.Int:
		d.integer(n, v, path, line)
	default:
		d.fail(path, line, "has a type that a catalog file cannot hold: %s", v.Type())
	}
}

// text reads a string and nothing that YAML takes for another type.
func (d *decoder) text(n *yaml.Node, path string, line int) (string, bool) {
	switch {
	case n.Kind != yaml.ScalarNode:
		d.fail(path, line, "want a text, not a %s", kindOf(n))
	case n.ShortTag() != "!!str":
		d.fail(path, line, "want a text: YAML reads this as %s, so put it in quotes", tagName(n))
	case strings.IndexFunc(n.Value, isControl) >= 0:
		d.fail(path, line, "holds a control character")
	default:
		return n.Value, true
	}
	return "", false
}

func isControl(r rune) bool { return unicode.IsControl(r) && r != '\n' && r != '\t' }

func (d *decoder) boolean(n *yaml.Node, v reflect.Value, path string, line int) {
	b, err := strconv.ParseBool(strings.ToLower(n.Value))
	if n.Kind != yaml.ScalarNode || n.ShortTag() != "!!bool" || err != nil {
		d.fail(path, line, "want true or false")
		return
	}
	v.SetBool(b)
}

func (d *decoder) integer(n *yaml.Node, v reflect.Value, path string, line int) {
	i, err := strconv.ParseInt(n.Value, 10, v.Type().Bits())
	if n.Kind != yaml.ScalarNode || n.ShortTag() != "!!int" || err != nil {
		d.fail(path, line, "want a whole number such as 443, without quotes")
		return
	}
	v.SetInt(i)
}

func (d *decoder) list(n *yaml.Node, v reflect.Value, path string, line int) {
	if n.Kind != yaml.SequenceNode {
		d.fail(path, line, "want a list: write [ ] around it, or a line with - for each item")
		return
	}
	v.Set(reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content)))
	for i, item := range n.Content {
		d.value(item, v.Index(i), fmt.Sprintf("%s[%d]", path, i), d.line(item.Line))
	}
}

func (d *decoder) mapping(n *yaml.Node, v reflect.Value, path string, line int) {
	if n.Kind != yaml.MappingNode {
		d.fail(path, line, "want a map from name to value, not a %s", kindOf(n))
		return
	}
	v.Set(reflect.MakeMap(v.Type()))
	d.fields(n, path, func(key string, n *yaml.Node, path string, line int) {
		item := reflect.New(v.Type().Elem()).Elem()
		d.value(n, item, path, line)
		v.SetMapIndex(reflect.ValueOf(key), item)
	})
}

func (d *decoder) structure(n *yaml.Node, v reflect.Value, path string, line int) {
	if n.Kind != yaml.MappingNode {
		d.fail(path, line, "want an object with %s, not a %s", listed(fieldNames(v.Type())), kindOf(n))
		return
	}
	known := fieldsOf(v)
	d.fields(n, path, func(key string, n *yaml.Node, path string, line int) {
		if field, ok := known[key]; ok {
			d.value(n, field, path, line)
			return
		}
		d.unknown(key, path, line, fieldNames(v.Type()))
	})
}

// unknown reports a field that there is not. The field that was most likely
// meant counts as wrong too: that it is missing needs no second error.
func (d *decoder) unknown(key, path string, line int, names []string) {
	parent := strings.TrimSuffix(path, key)
	guess := closest(key, names)
	path = parent + shortened(key)
	if guess == "" {
		d.fail(path, line, "unknown field; known here: %s", strings.Join(names, ", "))
		return
	}
	d.fail(path, line, "unknown field; did you mean %s?", guess)
	d.wrong = append(d.wrong, parent+guess)
}

// fields calls fn for each field of a mapping, once for each name.
func (d *decoder) fields(n *yaml.Node, path string, fn func(key string, n *yaml.Node, path string, line int)) {
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, line := n.Content[i], d.line(n.Content[i].Line)
		at := join(path, key.Value)
		switch first, again := seen[key.Value]; {
		case key.Kind != yaml.ScalarNode:
			d.fail(path, line, "want a text as the name of a field")
		case key.ShortTag() == "!!merge":
			d.fail(path, line, "merge keys (<<) are not read: write the fields out")
		case key.ShortTag() != "!!str":
			d.fail(join(path, shortened(key.Value)), line, "the name is not a text: put it in quotes")
		case again:
			d.fail(at, line, "is here twice; first in line %d", first)
		default:
			seen[key.Value] = line
			fn(key.Value, n.Content[i+1], at, line)
		}
	}
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

func (d *decoder) duration(n *yaml.Node, v *metav1.Duration, path string, line int) {
	parsed, err := time.ParseDuration(n.Value)
	if n.Kind != yaml.ScalarNode || n.ShortTag() != "!!str" || err != nil {
		d.fail(path, line, "want a duration with its unit, such as 90s, 5m or 1h")
		return
	}
	v.Duration = parsed
}

func (d *decoder) query(n *yaml.Node, v *v1alpha1.QueryRule, path string, line int) {
	switch {
	case n.Kind == yaml.MappingNode:
		d.mapping(n, reflect.ValueOf(&v.Params).Elem(), path, line)
	case n.Kind == yaml.ScalarNode && n.Value == v1alpha1.Any:
		v.Any = true
	default:
		d.fail(path, line, `want "any" or a map from parameter to pattern`)
	}
}

// metadata reads the part of ObjectMeta that people write.
func (d *decoder) metadata(n *yaml.Node, v *metav1.ObjectMeta, path string, line int) {
	var written struct {
		Name        string            `json:"name"`
		Labels      map[string]string `json:"labels"`
		Annotations map[string]string `json:"annotations"`
	}
	d.structure(n, reflect.ValueOf(&written).Elem(), path, line)
	v.Name, v.Labels, v.Annotations = written.Name, written.Labels, written.Annotations
}

// unmarshal lets a type that reads its own JSON do so. Its error says what it wants.
func (d *decoder) unmarshal(n *yaml.Node, v json.Unmarshaler, path string, line int) {
	failed := len(d.errs)
	var any any
	d.free(n, &any, path, line)
	if len(d.errs) > failed {
		return
	}
	text, err := json.Marshal(any)
	if err == nil {
		err = v.UnmarshalJSON(text)
	}
	if err != nil {
		d.fail(path, line, "%s", err.Error())
	}
}

// free reads a value whose type only its reader knows: texts, lists and maps.
func (d *decoder) free(n *yaml.Node, v *any, path string, line int) {
	d.lines[path] = line
	if n = d.follow(n, path, line); n == nil {
		return
	}
	d.depth++
	defer func() { d.depth-- }()
	switch n.Kind {
	case yaml.MappingNode:
		m := map[string]any{}
		d.fields(n, path, func(key string, n *yaml.Node, path string, line int) {
			var item any
			d.free(n, &item, path, line)
			m[key] = item
		})
		*v = m
	case yaml.SequenceNode:
		list := make([]any, len(n.Content))
		for i, item := range n.Content {
			d.free(item, &list[i], fmt.Sprintf("%s[%d]", path, i), d.line(item.Line))
		}
		*v = list
	default:
		d.scalar(n, v, path, line)
	}
}

func (d *decoder) scalar(n *yaml.Node, v *any, path string, line int) {
	switch n.ShortTag() {
	case "!!bool":
		*v = strings.EqualFold(n.Value, "true")
	case "!!int":
		*v = json.Number(n.Value)
		if _, err := strconv.ParseInt(n.Value, 10, 64); err != nil {
			d.fail(path, line, "want a whole number in decimal")
		}
	default:
		*v, _ = d.text(n, path, line)
	}
}
