package catalog

import (
	"fmt"
	"reflect"
)

// Document is one YAML document that was read as strictly as a catalog's are,
// for other files that people write. Its reader adds what is wrong with the
// meaning, so that all errors come at once.
type Document struct {
	origin
	errs Errors
}

// ReadDocument reads text, which is the file name's, into the struct that into
// points to. Fields go by their json names; durations are metav1.Duration. What
// is wrong leaves its field as it was.
func ReadDocument(name string, text []byte, into any) *Document {
	d := &Document{origin: origin{file: name, line: 1}}
	if err := checkText(file{name: name, text: text}); err != nil {
		d.errs = Errors{*err}
		return d
	}
	pieces := split(text)
	if len(pieces) != 1 {
		d.Fail("", "holds %d documents, want one", len(pieces))
		return d
	}
	root, err := pieces[0].parse(name)
	if err != nil {
		d.errs = Errors{*err}
		return d
	}
	if root == nil {
		return d // comments only: every field is missing
	}
	dec := newDecoder(name, pieces[0])
	dec.value(root, reflect.ValueOf(into).Elem(), "", dec.line(root.Line))
	d.lines, d.wrong, d.errs = dec.lines, dec.wrong, dec.errs
	return d
}

// Has reports whether the file gives the field, rightly or not.
func (d *Document) Has(field string) bool {
	_, there := d.lines[field]
	return there || d.spoiled(field)
}

// Fail adds an error at a field, unless one was found there already. A field
// that is missing is missing from what is nearest above it.
func (d *Document) Fail(field, format string, args ...any) {
	if field != "" && d.spoiled(field) {
		return
	}
	d.errs = append(d.errs, Error{d.file, d.lineOf(field), field, fmt.Sprintf(format, args...)})
}

// Errors are all that is wrong, in the order of lines.
func (d *Document) Errors() Errors { return d.errs.sorted() }
