package catalog

import (
	"reflect"
	"strings"

	"go.yaml.in/yaml/v3"
)

// fieldsOf finds the fields of a struct by their JSON names, those of inlined
// structs among them.
func fieldsOf(v reflect.Value) map[string]reflect.Value {
	fields := map[string]reflect.Value{}
	for i := range v.NumField() {
		name, inline := jsonName(v.Type().Field(i))
		switch {
		case inline:
			for n, f := range fieldsOf(v.Field(i)) {
				fields[n] = f
			}
		case name != "":
			fields[name] = v.Field(i)
		}
	}
	return fields
}

// fieldNames lists the JSON names of a struct's fields in the order of their
// declaration.
func fieldNames(t reflect.Type) []string {
	var names []string
	for i := range t.NumField() {
		name, inline := jsonName(t.Field(i))
		switch {
		case inline:
			names = append(names, fieldNames(t.Field(i).Type)...)
		case name != "":
			names = append(names, name)
		}
	}
	return names
}

func jsonName(f reflect.StructField) (name string, inline bool) {
	name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
	if name == "-" || !f.IsExported() {
		return "", false
	}
	return name, name == "" && (options == "inline" || f.Anonymous)
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" }

func kindOf(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "map"
	case yaml.SequenceNode:
		return "list"
	default:
		return "single value"
	}
}

// tagName words what YAML takes an unquoted value for.
func tagName(n *yaml.Node) string {
	switch n.ShortTag() {
	case "!!bool":
		return "true or false"
	case "!!int", "!!float":
		return "a number"
	case "!!timestamp":
		return "a date"
	default:
		return "another type"
	}
}
