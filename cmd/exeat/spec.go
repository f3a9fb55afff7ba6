package main

import (
	"fmt"
	"strings"
)

// grantSpec is one --grant: CAPABILITY[:param=value,...].
type grantSpec struct {
	capability string
	params     map[string]string
}

// parseGrant reads the flag. A comma or backslash in a value is written with a
// backslash before it.
func parseGrant(text string) (grantSpec, error) {
	name, rest, has := strings.Cut(text, ":")
	g := grantSpec{capability: name, params: map[string]string{}}
	if name == "" || (has && rest == "") {
		return g, fmt.Errorf("--grant %q: want CAPABILITY:param=value,..., such as read-ticket:ticket=OPS-42", text)
	}
	for _, pair := range splitEscaped(rest) {
		k, v, ok := strings.Cut(pair, "=")
		if !ok || k == "" {
			return g, fmt.Errorf("--grant %s: %q is not param=value", name, pair)
		}
		if _, twice := g.params[k]; twice {
			return g, fmt.Errorf("--grant %s: parameter %s is there twice", name, k)
		}
		g.params[k] = v
	}
	return g, nil
}

// splitEscaped splits at commas that have no backslash before them.
func splitEscaped(s string) []string {
	if s == "" {
		return nil
	}
	parts := []string{""}
	for i := 0; i < len(s); i++ {
		last := len(parts) - 1
		switch {
		case s[i] == '\\' && i+1 < len(s):
			i++
			parts[last] += string(s[i])
		case s[i] == ',':
			parts = append(parts, "")
		default:
			parts[last] += string(s[i])
		}
	}
	return parts
}

// flagValue writes a grant as --grant takes it, for a person to paste.
func flagValue(capability string, names []string, params map[string]string) string {
	var b strings.Builder
	b.WriteString(capability)
	sep := ":"
	for _, name := range names {
		b.WriteString(sep + name + "=" + strings.NewReplacer(`\`, `\\`, ",", `\,`).Replace(params[name]))
		sep = ","
	}
	return shellQuote(b.String())
}

// shellQuote makes s one word of a POSIX shell.
func shellQuote(s string) string {
	if s != "" && strings.IndexFunc(s, func(r rune) bool { return !strings.ContainsRune(plainRunes, r) }) < 0 {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

const plainRunes = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789@%+=:,./_-"
