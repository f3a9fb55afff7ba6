package v1alpha1

import (
	"encoding/json"
	"errors"
)

// Any is the literal that opts out of a constraint: query: any, body: any.
const Any = "any"

// QueryRule is either `any` or a pattern per query parameter.
type QueryRule struct {
	Any    bool
	Params map[string]string
}

// BodyRule is `any` (constraints by content type come with body inspection).
// An absent rule allows no body.
type BodyRule struct {
	Any bool
}

var (
	errQuery = errors.New(`want "any" or a map from parameter to pattern`)
	errBody  = errors.New(`want "any"`)
)

// UnmarshalJSON reads `any` or a map.
func (q *QueryRule) UnmarshalJSON(b []byte) error {
	var s string
	if json.Unmarshal(b, &s) == nil {
		if s != Any {
			return errQuery
		}
		*q = QueryRule{Any: true}
		return nil
	}
	var m map[string]string
	if json.Unmarshal(b, &m) != nil {
		return errQuery
	}
	*q = QueryRule{Params: m}
	return nil
}

// MarshalJSON writes what UnmarshalJSON reads.
func (q QueryRule) MarshalJSON() ([]byte, error) {
	if q.Any {
		return json.Marshal(Any)
	}
	if q.Params == nil { // null would read back as no rule at all
		return []byte("{}"), nil
	}
	return json.Marshal(q.Params)
}

// UnmarshalJSON reads `any`.
func (r *BodyRule) UnmarshalJSON(b []byte) error {
	var s string
	if json.Unmarshal(b, &s) != nil || s != Any {
		return errBody
	}
	*r = BodyRule{Any: true}
	return nil
}

// MarshalJSON writes what UnmarshalJSON reads; a rule that is not any has no
// form and is an error, never `any` by accident.
func (r BodyRule) MarshalJSON() ([]byte, error) {
	if !r.Any {
		return nil, errBody
	}
	return json.Marshal(Any)
}
