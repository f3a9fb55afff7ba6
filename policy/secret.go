package policy

import (
	"errors"
	"fmt"
	"io"
)

// Secret is a string that must not be shown: it prints as [secret] and cannot
// be marshalled. Expose gives the text; each use of it is one to look at.
//
// The text is behind a pointer, because fmt calls no method of a value in an
// unexported field: there it prints what is in the struct.
type Secret struct{ text *string }

const hidden = "[secret]"

var errSecret = errors.New("a secret cannot be marshalled")

// NewSecret wraps text.
func NewSecret(text string) Secret { return Secret{&text} }

// Expose gives the text.
func (s Secret) Expose() string {
	if s.text == nil {
		return ""
	}
	return *s.text
}

// IsZero reports whether there is no text.
func (s Secret) IsZero() bool { return s.Expose() == "" }

// Format prints [secret], whatever the verb.
func (Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, hidden) }

// String is [secret].
func (Secret) String() string { return hidden }

// MarshalText fails, and so do JSON, XML and YAML: a secret that is written by
// accident must be noticed.
func (Secret) MarshalText() ([]byte, error) { return nil, errSecret }

// UnmarshalText fails alike: a secret is made by NewSecret alone.
func (*Secret) UnmarshalText([]byte) error { return errSecret }
