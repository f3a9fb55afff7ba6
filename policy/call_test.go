package policy

import (
	"errors"
	"net/url"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestCallIsMadeCanonical(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		why, scheme, authority, target string
		wantURL                        string
		wantSegments                   []string
		wantQuery                      []QueryParam
	}{
		{why: "a plain call stays as it is", target: "/v1/tickets/OPS-42", wantURL: "https://h.example/v1/tickets/OPS-42"},
		{why: "the host is in lower case", authority: "H.Example", target: "/", wantURL: "https://h.example/", wantSegments: []string{""}},
		{why: "the default port is left out", authority: "h.example:443", target: "/", wantURL: "https://h.example/"},
		{why: "another port is kept", authority: "h.example:8443", target: "/", wantURL: "https://h.example:8443/"},
		{why: "http has port 80", scheme: "http", target: "/", wantURL: "http://h.example/"},
		{why: "an IDN is its A-label", authority: "xn--bcher-kva.example", target: "/", wantURL: "https://xn--bcher-kva.example/"},
		{why: "a name of one label is a name", authority: "intranet", target: "/", wantURL: "https://intranet/"},
		{why: "a name may begin with digits", authority: "0x7f.example", target: "/", wantURL: "https://0x7f.example/"},
		{why: "what needs no encoding is decoded", target: "/%4F%50S%2d42%7e", wantURL: "https://h.example/OPS-42~"},
		{why: "a reserved character means the same encoded", target: "/a%3Ab%40c!", wantURL: "https://h.example/a:b@c!"},
		{why: "what needs encoding is encoded in capitals", target: "/%c3%a9%20%3f", wantURL: "https://h.example/%C3%A9%20%3F", wantSegments: []string{"é ?"}},
		{why: "three dots are a name", target: "/.../..a", wantURL: "https://h.example/.../..a"},
		{why: "a trailing slash is a segment", target: "/v1/", wantURL: "https://h.example/v1/", wantSegments: []string{"v1", ""}},
		{why: "an empty query is none", target: "/?", wantURL: "https://h.example/"},
		{why: "a plus in a path is a plus", target: "/a+b", wantURL: "https://h.example/a+b", wantSegments: []string{"a+b"}},
		{why: "query parameters are decoded in order", target: "/?b=%C3%A9+1&a=x%20y&b=&c", wantURL: "https://h.example/",
			wantQuery: []QueryParam{{"b", "é 1"}, {"a", "x y"}, {"b", ""}, {"c", ""}}},
		{why: "empty query pieces are skipped", target: "/?&a=1&&", wantURL: "https://h.example/", wantQuery: []QueryParam{{"a", "1"}}},
		{why: "a value may hold = and ?", target: "/?a=b=c?d", wantURL: "https://h.example/", wantQuery: []QueryParam{{"a", "b=c?d"}}},
		{why: "an encoded separator in a value is text", target: "/?a=1%26b%3D2%3B%25", wantURL: "https://h.example/", wantQuery: []QueryParam{{"a", "1&b=2;%"}}},
		{why: "brackets in a query are usual", target: "/?f[x]=%7B1}", wantURL: "https://h.example/", wantQuery: []QueryParam{{"f[x]", "{1}"}}},
	} {
		t.Run(tt.why, func(t *testing.T) {
			t.Parallel()
			c, err := ParseCall(RawCall{Method: "GET", Scheme: or(tt.scheme, "https"), Authority: or(tt.authority, "h.example"), Target: tt.target})
			if err != nil {
				t.Fatal(err)
			}
			if c.URL() != tt.wantURL {
				t.Errorf("URL %q, want %q", c.URL(), tt.wantURL)
			}
			if tt.wantSegments != nil && !slices.Equal(c.Segments, tt.wantSegments) {
				t.Errorf("segments %q, want %q", c.Segments, tt.wantSegments)
			}
			if !slices.Equal(c.Query, tt.wantQuery) {
				t.Errorf("query %q, want %q", c.Query, tt.wantQuery)
			}
		})
	}
}

func or(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

func TestCallThatCouldBeReadTwoWaysIsRefused(t *testing.T) {
	t.Parallel()
	for why, r := range map[string]RawCall{
		"no method":                    {Method: "-"},
		"a method that is no token":    {Method: "GE T"},
		"a method with a line break":   {Method: "GET\r\n"},
		"a method that is too long":    {Method: strings.Repeat("A", 33)},
		"CONNECT":                      {Method: "CONNECT"},
		"TRACE":                        {Method: "TRACE"},
		"trace in lower case":          {Method: "trace"},
		"another scheme":               {Scheme: "ftp"},
		"a scheme in capitals":         {Scheme: "HTTPS"},
		"no authority":                 {Authority: "-"},
		"userinfo":                     {Authority: "h.example@evil.example"},
		"empty userinfo":               {Authority: "@h.example"},
		"a trailing dot":               {Authority: "h.example."},
		"an empty label":               {Authority: "h..example"},
		"a label that ends in hyphen":  {Authority: "h-.example"},
		"an underscore":                {Authority: "h_h.example"},
		"a host that is not ASCII":     {Authority: "bücher.example"},
		"the Kelvin sign as a k":       {Authority: "\u212Aelvin.example"},
		"a fullwidth dot":              {Authority: "h\uff0eexample"},
		"an encoded host":              {Authority: "h%2eexample"},
		"a blank in the host":          {Authority: "h.example "},
		"a slash in the host":          {Authority: "h.example/x"},
		"an empty port":                {Authority: "h.example:"},
		"port 0":                       {Authority: "h.example:0"},
		"a port with a leading zero":   {Authority: "h.example:0443"},
		"a port with a sign":           {Authority: "h.example:+443"},
		"a port that is too large":     {Authority: "h.example:65979"},
		"a label that is too long":     {Authority: strings.Repeat("a", 64) + ".example"},
		"a host that is too long":      {Authority: strings.Repeat("a.", 127) + "example"},
		"an authority that is huge":    {Authority: strings.Repeat("a", 300)},
		"no target":                    {Target: "-"},
		"the asterisk form":            {Target: "*"},
		"the absolute form":            {Target: "https://h.example/"},
		"a fragment":                   {Target: "/a#b"},
		"a fragment in the query":      {Target: "/?a#b"},
		"a backslash":                  {Target: `/a\b`},
		"an encoded backslash":         {Target: "/a%5Cb"},
		"an encoded slash":             {Target: "/a%2Fb"},
		"an encoded slash, lower case": {Target: "/a%2fb"},
		"an encoded NUL":               {Target: "/a%00"},
		"an encoded line break":        {Target: "/a%0d%0aX:%201"},
		"a raw control character":      {Target: "/a\x01"},
		"a raw blank":                  {Target: "/a b"},
		"a raw octet beyond ASCII":     {Target: "/é"},
		"a dot segment":                {Target: "/a/./b"},
		"a parent segment":             {Target: "/a/../b"},
		"a parent at the end":          {Target: "/a/.."},
		"an encoded parent":            {Target: "/a/%2e%2E/b"},
		"a half encoded parent":        {Target: "/a/.%2e/b"},
		"a double slash":               {Target: "//a"},
		"a double slash inside":        {Target: "/a//b"},
		"a double encoding":            {Target: "/a/%252e%252e/b"},
		"an encoded percent sign":      {Target: "/100%25"},
		"a path parameter":             {Target: "/a;b=1/c"},
		"a parent with a parameter":    {Target: "/a/..;/b"},
		"an encoded semicolon":         {Target: "/a/..%3B/b"},
		"a fullwidth slash":            {Target: "/a%EF%BC%8Fb"},
		"a fullwidth full stop":        {Target: "/%EF%BC%8E%EF%BC%8E/b"},
		"an overlong slash":            {Target: "/a%c0%afb"},
		"an invisible character":       {Target: "/a%E2%80%8Bb"},
		"a right-to-left override":     {Target: "/a%E2%80%AEb"},
		"an encoding of one digit":     {Target: "/a%2"},
		"an encoding that is none":     {Target: "/a%zz"},
		"a percent sign at the end":    {Target: "/a%"},
		"a wide encoding":              {Target: "/a%u002f"},
		"a path character to encode":   {Target: "/a|b"},
		"too many segments":            {Target: strings.Repeat("/a", 129)},
		"a target that is too long":    {Target: "/" + strings.Repeat("a", 8192)},
		"a semicolon in the query":     {Target: "/?a=1;b=2"},
		"a nameless parameter":         {Target: "/?=1"},
		"a quote in the query":         {Target: `/?a="`},
		"a blank in the query":         {Target: "/?a=b c"},
		"an encoded line break there":  {Target: "/?a=b%0ac"},
		"an encoded NUL there":         {Target: "/?a%00=b"},
		"a query that is not UTF-8":    {Target: "/?a=%ff"},
		"a bad encoding in a name":     {Target: "/?%g0=1"},
		"a bad encoding in a value":    {Target: "/?a=%4"},
		"too many parameters":          {Target: "/?" + strings.Repeat("a&", 256)},
		"a grant that is no ID":        {GrantID: "g_1"},
		"a grant in lower case":        {GrantID: "g_01j00000000000000000000001"},
		"a task for a grant":           {GrantID: string(t1)},
		"two grants":                   {GrantID: string(g1 + "," + g2)},
	} {
		t.Run(why, func(t *testing.T) {
			t.Parallel()
			c, err := ParseCall(complete(r))
			if err == nil {
				t.Fatalf("accepted as %s %s", c.Method, c.URL())
			}
			if !errors.Is(err, ErrMalformed) || c.ok || c.URL() != "" {
				t.Errorf("%v, %+v", err, c)
			}
		})
	}
}

// complete fills in what a case does not mention; "-" is an empty text.
func complete(r RawCall) RawCall {
	for field, usual := range map[*string]string{&r.Method: "GET", &r.Scheme: "https", &r.Authority: "h.example", &r.Target: "/"} {
		switch *field {
		case "":
			*field = usual
		case "-":
			*field = ""
		}
	}
	return r
}

func TestCallByAddressIsRefusedInEveryNotation(t *testing.T) {
	t.Parallel()
	for _, authority := range []string{
		"127.0.0.1", "127.0.0.1:443", "127.1", "2130706433", "0x7f000001", "0x7f.1", "0177.0.0.1", "0X7F.0.0.1",
		"[::1]", "[::1]:443", "::1", "[::ffff:127.0.0.1]", "1.2.3.4.5", "h.example.1", "h.0x", "[fe80::1%25eth0]",
	} {
		_, err := ParseCall(RawCall{Method: "GET", Scheme: "https", Authority: authority, Target: "/"})
		if !errors.Is(err, ErrByAddress) || !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", authority, err)
		}
	}
}

func TestErrorsNeverHoldAValue(t *testing.T) {
	t.Parallel()
	const secret = "s3cr3t"
	for _, r := range []RawCall{
		{Method: secret + " "}, {Scheme: secret}, {Authority: secret + "@"}, {Authority: secret + "_"}, {Authority: "h:" + secret},
		{Target: secret}, {Target: "/" + secret + "/../"}, {Target: "/?=" + secret}, {GrantID: secret},
	} {
		if _, err := ParseCall(complete(r)); err == nil || strings.Contains(err.Error(), secret) {
			t.Errorf("%+v: %v", r, err)
		}
	}
}

// genTarget makes targets that are often valid and often nearly so.
func genTarget() *rapid.Generator[string] {
	piece := rapid.SampledFrom([]string{"/", "a", "Z", ".", "..", "%2e", "%2F", "%41", "%c3%a9", "%20", "+", "~", "!", ";", "%25", "%3F", "v1",
		"?", "=", "&", "#", "é", "\\", "%", "%EF%BC%8F", "*", "$", "'", ":"})
	return rapid.Custom(func(t *rapid.T) string {
		return "/" + strings.Join(rapid.SliceOfN(piece, 0, 12).Draw(t, "pieces"), "")
	})
}

func TestCanonicalPathIsAFixedPoint(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) { checkCanonical(t, genTarget().Draw(t, "target")) })
}

type fataler interface {
	Fatalf(format string, args ...any)
}

// checkCanonical: what is accepted parses to itself, holds no structure in its
// segments, and is read the same way by another parser.
func checkCanonical(t fataler, target string) {
	c, err := ParseCall(RawCall{Method: "GET", Scheme: "https", Authority: "h.example", Target: target})
	if err != nil {
		return
	}
	again, err := ParseCall(RawCall{Method: "GET", Scheme: "https", Authority: "h.example", Target: c.Path})
	if err != nil || again.Path != c.Path || !slices.Equal(again.Segments, c.Segments) {
		t.Fatalf("%q is canonically %q, which is canonically %q (%v)", target, c.Path, again.Path, err)
	}
	for _, s := range c.Segments {
		if s == "." || s == ".." || strings.ContainsAny(s, "/\\%;\x00\r\n") {
			t.Fatalf("%q has segment %q", target, s)
		}
	}
	u, err := url.ParseRequestURI(target)
	if err != nil || u.Path != "/"+strings.Join(c.Segments, "/") {
		t.Fatalf("%q: segments %q, but net/url reads %v (%v)", target, c.Segments, u, err)
	}
	if values, err := url.ParseQuery(u.RawQuery); err != nil || len(values) > len(c.Query) {
		t.Fatalf("%q: query %q, but net/url reads %v (%v)", target, c.Query, values, err)
	}
}

func FuzzParseCall(f *testing.F) {
	for _, target := range []string{"/", "/v1/tickets/OPS-42?page=2", "/a/%2e%2e/b", "/a%2Fb", "/%c0%af", "/..;/x", "/?a=1&a=2", "/%252e", "/é", "/a//b"} {
		f.Add("GET", "h.example:443", target)
	}
	f.Add("TRACE", "user@h.example", "/")
	f.Add("get", "0x7f.1", "*")
	f.Fuzz(func(t *testing.T, method, authority, target string) {
		checkCanonical(t, target)
		c, err := ParseCall(RawCall{Method: method, Scheme: "https", Authority: authority, Target: target})
		if err != nil {
			if c.ok || !errors.Is(err, ErrMalformed) {
				t.Fatal(c, err)
			}
			return
		}
		if strings.ToUpper(method) == "CONNECT" || hostFault(c.Host) != "" || c.Port == 0 {
			t.Fatalf("%+v", c)
		}
		again, err := ParseCall(RawCall{Method: method, Scheme: "https", Authority: c.authority(), Target: target})
		if err != nil || again.URL() != c.URL() {
			t.Fatalf("%q then %q (%v)", c.URL(), again.URL(), err)
		}
	})
}
