package server

import (
	"errors"
	"time"

	"github.com/danielgtaylor/huma/v2"
)

// Duration is a length of time as people write it, such as 90s or 1h30m. The
// zero Duration stands for "not said".
type Duration struct{ time.Duration }

var errDuration = errors.New("expected a duration such as 90s or 1h30m")

// UnmarshalText reads what time.ParseDuration reads, except negative ones.
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	if err != nil || v < 0 {
		return errDuration // the parser's own error would quote the text
	}
	d.Duration = v
	return nil
}

// MarshalText writes a form that UnmarshalText reads.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// Schema describes it to OpenAPI.
func (Duration) Schema(huma.Registry) *huma.Schema {
	longest := 32
	return &huma.Schema{
		Type:        huma.TypeString,
		Pattern:     `^([0-9]+(\.[0-9]+)?(ns|us|ms|s|m|h))+$`,
		MaxLength:   &longest,
		Description: "A length of time, such as 90s or 1h30m.",
		Examples:    []any{"5m"},
	}
}
