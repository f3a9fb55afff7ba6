package server

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestNullIsAValueOnlyWhereItIsSaid(t *testing.T) {
	t.Parallel()
	for _, body := range []string{`null`, `{"a":null}`, `{"a":[1,null]}`} {
		if p := scanJSON([]byte(body), false); p == nil || p.Code != "invalid_json" {
			t.Errorf("%s: %v", body, p)
		}
		if p := scanJSON([]byte(body), true); p != nil {
			t.Errorf("%s: %v", body, p)
		}
	}
}

func TestScanJSON(t *testing.T) {
	t.Parallel()
	nested := func(n int) string { return strings.Repeat("[", n) + strings.Repeat("]", n) }
	for name, c := range map[string]struct{ body, code, field string }{
		"an object is accepted":                    {`{"a":1,"b":{"a":[1,2,{"a":null}]}}`, "", ""},
		"white space around is accepted":           {" {} \n", "", ""},
		"the deepest allowed nesting is accepted":  {nested(maxDepth), "", ""},
		"one level more is not":                    {nested(maxDepth + 1), "too_deep", strings.Repeat("[0]", maxDepth+1)},
		"a name twice is refused":                  {`{"a":1,"a":2}`, "duplicate_key", "a"},
		"a name twice deep inside is refused":      {`{"a":[0,{"b":{"c":1,"d":2,"c":3}}]}`, "duplicate_key", "a[1].b.c"},
		"a name twice by way of an escape as well": {`{"a":1,"\u0061":2}`, "duplicate_key", "a"},
		"the same name in two objects is accepted": {`{"a":{"x":1},"b":{"x":1}}`, "", ""},
		"broken UTF-8 is refused":                  {"{\"a\":\"\xff\"}", "invalid_utf8", ""},
		"an overlong encoding is refused":          {"{\"a\":\"\xc0\xaf\"}", "invalid_utf8", ""},
		"half a surrogate pair is refused":         {`{"a":{"b":"\ud800"}}`, "invalid_utf8", "a.b"},
		"half a pair in a name is refused":         {`{"\udc00":1}`, "invalid_utf8", "\ufffd"},
		"a whole pair is accepted":                 {`{"a":"\ud83d\ude00"}`, "", ""},
		"a second text is refused":                 {`{} {}`, "trailing_data", ""},
		"a text after a number is refused":         {`1 2`, "trailing_data", ""},
		"garbage after the text is refused":        {`{}x`, "invalid_json", ""},
		"a body that breaks off is refused":        {`{"a":[1,`, "invalid_json", "a[1]"},
		"a trailing comma is refused":              {`{"a":1,}`, "invalid_json", "a"},
		"a comment is refused":                     {`{/**/}`, "invalid_json", ""},
		"a NUL is refused":                         {"{\x00}", "invalid_json", ""},
		"a raw control character is refused":       {"{\"a\":\"\x01\"}", "invalid_json", "a"},
		"a byte order mark is refused":             {"\ufeff{}", "invalid_json", ""},
		"nothing but space is refused":             {"  ", "invalid_json", ""},
		"NaN is refused":                           {`{"a":NaN}`, "invalid_json", "a"},
		"a leading zero is refused":                {`{"a":01}`, "invalid_json", "a"},
		"a closing bracket of the other kind":      {`{"a":[1}}`, "invalid_json", "a[1]"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := scanJSON([]byte(c.body), true)
			if p == nil {
				if c.code != "" {
					t.Fatalf("accepted, want %s", c.code)
				}
				return
			}
			field := ""
			if len(p.Errors) > 0 {
				field = p.Errors[0].Field
			}
			if p.Code != c.code || field != c.field {
				t.Errorf("%s at %q, want %s at %q", p.Code, field, c.code, c.field)
			}
		})
	}
}

func TestLongFieldPathsAreShortened(t *testing.T) {
	t.Parallel()
	key := strings.Repeat("é", 1000)
	p := scanJSON([]byte(`{"`+key+`":1,"`+key+`":2}`), true)
	if p == nil || len(p.Errors[0].Field) > maxField+3 {
		t.Fatalf("got %v", p)
	}
}

// FuzzScanJSON: what is accepted is JSON to the standard library as well, and
// says the same when it is written again.
func FuzzScanJSON(f *testing.F) {
	for _, s := range []string{`{}`, `{"a":[1,{"b":"\u0061"}],"c":null}`, `[[]]`, `{"a":1,"a":2}`, `"x" 1`, "\"\xff\"", `{"a":}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		p := scanJSON(data, true)
		if p != nil {
			if p.Code == "" || p.Status < 400 {
				t.Fatalf("a refusal without a code: %+v", p)
			}
			return
		}
		if !json.Valid(data) {
			t.Fatalf("accepted %q, which is not JSON", data)
		}
		var v any
		if err := json.Unmarshal(data, &v); err != nil {
			return // a number beyond float64: refused later, by its type
		}
		again, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		if p := scanJSON(again, true); p != nil {
			t.Fatalf("%q is accepted, written again as %q it is refused: %v", data, again, p)
		}
	})
}
