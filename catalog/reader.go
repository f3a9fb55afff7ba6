package catalog

import (
	"reflect"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/exeat-dev/exeat/api/v1alpha1"
	"github.com/exeat-dev/exeat/policy"
)

// objectKey names an object of a catalog.
type objectKey struct{ kind, name string }

// origin is where an object was read, and what was wrong with it.
type origin struct {
	file  string
	line  int
	lines map[string]int
	wrong []string
}

// lineOf finds a field, or what is nearest above it: a field that is missing
// is missing from its parent.
func (o origin) lineOf(field string) int {
	for ; field != ""; field = parent(field) {
		if line, ok := o.lines[field]; ok {
			return line
		}
	}
	return o.line
}

func parent(field string) string {
	return field[:max(strings.LastIndexAny(field, ".["), 0)]
}

// spoiled reports whether a problem with field may come from an error that
// was reported already.
func (o origin) spoiled(field string) bool {
	return slices.ContainsFunc(o.wrong, func(w string) bool { return within(field, w) || within(w, field) })
}

// within reports whether field is path or lies under it.
func within(field, path string) bool {
	rest, found := strings.CutPrefix(field, path)
	return found && (rest == "" || path == "" || rest[0] == '.' || rest[0] == '[')
}

// reader collects the objects of all files.
type reader struct {
	set     v1alpha1.Set
	objects map[objectKey]origin
	errs    Errors
}

// readAll decodes every document of a folder.
func readAll(f folder) *reader {
	r := &reader{objects: map[objectKey]origin{}, errs: slices.Clone(f.errs)}
	for _, file := range f.files {
		r.file(file)
	}
	r.policies(f.policies)
	return r
}

func (r *reader) file(f file) {
	if err := checkText(f); err != nil {
		r.errs = append(r.errs, *err)
		return
	}
	for _, p := range split(f.text) {
		root, err := p.parse(f.name)
		if err != nil {
			r.errs = append(r.errs, *err)
		} else if root != nil {
			d := newDecoder(f.name, p)
			r.document(d, root)
			r.errs = append(r.errs, d.errs...)
		}
	}
}

// document decodes one object into the set, as far as it can be.
func (r *reader) document(d *decoder, root *yaml.Node) {
	line := d.line(root.Line)
	if root.Kind != yaml.MappingNode {
		d.fail("", line, "want an object with apiVersion, kind, metadata and spec")
		return
	}
	if field(root, "apiVersion") != v1alpha1.APIVersion {
		d.fail("apiVersion", d.lineAt(root, "apiVersion"), "want %s", v1alpha1.APIVersion)
	}
	kind, name := field(root, "kind"), field(root, "metadata", "name")
	decode, ok := r.kinds()[kind]
	if !ok {
		d.unknownKind(kind, d.lineAt(root, "kind"))
		return
	}
	key := objectKey{kind, name}
	first, again := r.objects[key]
	decode(d, root, name != "" && !again)
	d.present(root, "metadata", "name")
	d.present(root, "spec")
	switch {
	case again:
		d.fail("metadata.name", d.lineAt(root, "metadata", "name"),
			"another %s of this name is at %s:%d; a name stands once for each kind", kind, first.file, first.line)
	case name != "":
		r.objects[key] = origin{d.file, line, d.lines, d.wrong}
	}
}

// kinds are the kinds of objects, and how each gets into the set.
func (r *reader) kinds() map[string]func(*decoder, *yaml.Node, bool) {
	return map[string]func(*decoder, *yaml.Node, bool){
		"Access":      into(&r.set.Access),
		"Agent":       into(&r.set.Agents),
		"Capability":  into(&r.set.Capabilities),
		"Destination": into(&r.set.Destinations),
		"Provider":    into(&r.set.Providers),
	}
}

func into[T any](list *[]T) func(*decoder, *yaml.Node, bool) {
	return func(d *decoder, n *yaml.Node, keep bool) {
		var object T
		d.value(n, reflect.ValueOf(&object).Elem(), "", d.line(n.Line))
		if keep {
			*list = append(*list, object)
		}
	}
}

func (d *decoder) unknownKind(kind string, line int) {
	kinds := []string{"Access", "Agent", "Capability", "Destination", "Provider"}
	message := "want " + listed(kinds)
	if guess := closest(kind, kinds); guess != "" {
		message += "; did you mean " + guess + "?"
	}
	d.fail("kind", line, "%s", message)
}

// present reports a field that is missing, unless something was wrong there.
func (d *decoder) present(root *yaml.Node, names ...string) {
	path := strings.Join(names, ".")
	if _, there := d.lines[path]; !there && !(origin{wrong: d.wrong}).spoiled(path) {
		d.fail(path, d.lineAt(root, names...), "is missing")
	}
}

// lineAt is the line of a field, or of what is nearest above it.
func (d *decoder) lineAt(root *yaml.Node, names ...string) int {
	line := d.line(root.Line)
	for n := root; len(names) > 0; names = names[1:] {
		key, value := child(n, names[0])
		if key == nil {
			break
		}
		line, n = d.line(key.Line), value
	}
	return line
}

// field gives the text of a field, or "".
func field(n *yaml.Node, names ...string) string {
	for _, name := range names {
		if _, n = child(n, name); n == nil {
			return ""
		}
	}
	if n.Kind != yaml.ScalarNode || n.ShortTag() != "!!str" {
		return ""
	}
	return n.Value
}

// child finds a field of a mapping.
func child(n *yaml.Node, name string) (key, value *yaml.Node) {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if n.Kind != yaml.MappingNode {
		return nil, nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == name {
			return n.Content[i], n.Content[i+1]
		}
	}
	return nil, nil
}

// compile adds what is wrong with the meaning, where it was written.
func (r *reader) compile() *policy.Catalog {
	compiled, problems := policy.Compile(&r.set)
	for _, p := range problems {
		o, known := r.objects[objectKey{p.Kind, p.Name}]
		switch {
		case p.Line > 0:
			r.errs = append(r.errs, Error{File: p.Name, Line: p.Line, Message: p.Message})
		case !known:
			r.errs = append(r.errs, Error{File: "catalog", Field: p.Field, Message: p.Message})
		case !o.spoiled(p.Field):
			r.errs = append(r.errs, Error{o.file, o.lineOf(p.Field), p.Field, p.Message})
		}
	}
	if len(problems) > 0 || len(r.errs) > 0 {
		return nil
	}
	return compiled
}
