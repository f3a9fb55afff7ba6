package policy

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/exeat-dev/exeat/api/v1alpha1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// broken is a change to the fixture and the one problem that it is to give.
type broken struct {
	why    string
	change func(*v1alpha1.Set)
	field  string // "Kind name: field"
	says   string
}

func (b broken) run(t *testing.T) {
	t.Parallel()
	set := fixtureSet(t)
	b.change(set)
	cat, problems := Compile(set)
	if cat != nil {
		t.Error("there is a catalog all the same")
	}
	if len(problems) != 1 {
		t.Fatalf("want one problem, got %q", problems)
	}
	p := problems[0]
	if got := p.Kind + " " + p.Name + ": " + p.Field; got != b.field {
		t.Errorf("problem at %q, want %q", got, b.field)
	}
	if !strings.Contains(p.String(), b.says) {
		t.Errorf("problem says %q, want %q in it", p, b.says)
	}
}

func runBroken(t *testing.T, cases []broken) {
	t.Helper()
	for _, b := range cases {
		t.Run(b.why, b.run)
	}
}

func dest(fn func(*v1alpha1.DestinationSpec)) func(*v1alpha1.Set) {
	return func(s *v1alpha1.Set) { fn(&s.Destinations[0].Spec) }
}

func addHost(h string) func(*v1alpha1.Set) {
	return dest(func(d *v1alpha1.DestinationSpec) { d.Hosts = append(d.Hosts, h) })
}

func addAddress(a string) func(*v1alpha1.Set) {
	return dest(func(d *v1alpha1.DestinationSpec) { d.Addresses = append(d.Addresses, "10.0.0.1", a) })
}

func addHeader(h string) func(*v1alpha1.Set) {
	return dest(func(d *v1alpha1.DestinationSpec) { d.Headers = append(d.Headers, h) })
}

func env(name, value string) func(*v1alpha1.Set) {
	return dest(func(d *v1alpha1.DestinationSpec) { d.ClientEnv = map[string]string{name: value} })
}

func ca(file, text string) func(*v1alpha1.Set) {
	return func(s *v1alpha1.Set) {
		s.Destinations[0].Spec.TLS = &v1alpha1.DestinationTLS{CA: v1alpha1.FileRef{File: file}}
		s.CAs = map[string]string{"ca.pem": text}
	}
}

func TestBrokenDestinations(t *testing.T) {
	t.Parallel()
	const hosts, addresses, headers = "Destination tickets: spec.hosts[2]", "Destination tickets: spec.addresses[1]", "Destination tickets: spec.headers[2]"
	const caFile, clientEnv = "Destination tickets: spec.tls.ca.file", "Destination tickets: spec.clientEnv."
	cert := certificate(t)
	runBroken(t, []broken{
		{"no hosts", func(s *v1alpha1.Set) { s.Destinations[1].Spec.Hosts = nil }, "Destination plain: spec.hosts", "at least one"},
		{"an empty host", addHost(""), hosts, "is empty"},
		{"a host in capitals", addHost("API.example.org"), hosts, `write "api.example.org"`},
		{"a host with a port", addHost("api.example.org:443"), hosts, "spec.port"},
		{"a wildcard", addHost("*.example.org"), hosts, "wildcard"},
		{"an address", addHost("10.0.0.1"), hosts, "spec.addresses"},
		{"an address in hexadecimal", addHost("0x7f.1"), hosts, "spec.addresses"},
		{"an IPv6 address", addHost("[::1]"), hosts, "spec.addresses"},
		{"a URL", addHost("https://api.example.org"), hosts, "want a DNS name"},
		{"a trailing dot", addHost("api.example.org."), hosts, "ends in a dot"},
		{"Exeat's own host", addHost("exeat.internal"), hosts, "Exeat's own"},
		{"a host under Exeat's own", addHost("x.exeat.internal"), hosts, "Exeat's own"},
		{"a host twice", addHost("tickets.example.org"), hosts, "stands twice"},
		{"a host of another destination", func(s *v1alpha1.Set) {
			s.Destinations[2].Spec.Port = 0
			s.Destinations[2].Spec.Hosts = append(s.Destinations[2].Spec.Hosts, "tickets.example.net")
		}, "Destination files: spec.hosts[2]", `is Destination "tickets" already`},
		{"a port out of range", dest(func(d *v1alpha1.DestinationSpec) { d.Port = 65536 }), "Destination tickets: spec.port", "1 to 65535"},
		{"a negative port", dest(func(d *v1alpha1.DestinationSpec) { d.Port = -1 }), "Destination tickets: spec.port", "1 to 65535"},
		{"an unknown protocol", dest(func(d *v1alpha1.DestinationSpec) { d.Protocol = "gopher" }), "Destination tickets: spec.protocol", `want "http"`},
		{"a name for an address", addAddress("localhost"), addresses, "want an IP"},
		{"an address without its port", addAddress("10.0.0.2:"), addresses, "want an IP"},
		{"port 0", addAddress("10.0.0.2:0"), addresses, "want an IP"},
		{"an address with a zone", addAddress("fe80::1%eth0"), addresses, "want an IP"},
		{"the unspecified address", addAddress("0.0.0.0"), addresses, "single machine"},
		{"a multicast address", addAddress("[ff02::1]:443"), addresses, "single machine"},
		{"an address twice", addAddress("::ffff:10.0.0.1"), addresses, "stands twice"},
		{"a header that is no name", addHeader("X Trace"), headers, "not a header name"},
		{"a star inside", addHeader("X-*-Id"), headers, "not a header name"},
		{"a star alone", addHeader("*"), headers, "not a header name"},
		{"the agent's own credential", addHeader("Authorization"), headers, "can never pass"},
		{"cookies", addHeader("cookie"), headers, "can never pass"},
		{"a proxy header", addHeader("Proxy-Authorization"), headers, "can never pass"},
		{"a method override", addHeader("X-HTTP-Method-Override"), headers, "can never pass"},
		{"one spelled with underscores", addHeader("X_Forwarded_For"), headers, "can never pass"},
		{"a prefix over forbidden ones", addHeader("X-*"), headers, "would let"},
		{"a prefix within forbidden ones", addHeader("x-envoy-up*"), headers, "would let"},
		{"a prefix of an override", addHeader("x-http-*"), headers, "would let"},
		{"a header twice", addHeader("x-ticket-VERSION"), headers, "stands twice"},
		{"a variable that is no name", env("A-B", "x"), clientEnv + "A-B", "letters, digits"},
		{"the program search path", env("PATH", "/tmp"), clientEnv + "PATH", "not for a catalog"},
		{"a proxy variable", env("https_proxy", "http://evil"), clientEnv + "https_proxy", "not for a catalog"},
		{"a value with a line break", env("KEY", "a\nb"), clientEnv + "KEY", "does not print"},
		{"one name with two values", func(s *v1alpha1.Set) {
			s.Destinations[0].Spec.ClientEnv = map[string]string{"KEY": "a"}
			s.Destinations[2].Spec.ClientEnv = map[string]string{"KEY": "b"}
		}, clientEnv + "KEY", `Destination "files" gives it another`},
		{"a CA without a file", ca("", cert), caFile, "is missing"},
		{"a CA that was not read", ca("other.pem", cert), caFile, "was not read"},
		{"a CA that is no PEM", ca("ca.pem", "hello"), caFile, "no certificate"},
		{"a CA that cannot be parsed", ca("ca.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("x")}))), caFile, "cannot be read"},
		{"a CA with a key in it", ca("ca.pem", cert+string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("x")}))), caFile, "other than certificates"},
		{"a CA that breaks off", ca("ca.pem", cert+"-----BEGIN CERTIFICATE-----\nMII"), caFile, "cannot be read"},
	})
}

func certificate(t *testing.T) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: t0, NotAfter: t0.Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

func prov(i int, fn func(*v1alpha1.ProviderSpec)) func(*v1alpha1.Set) {
	return func(s *v1alpha1.Set) { fn(&s.Providers[i].Spec) }
}

func TestBrokenProviders(t *testing.T) {
	t.Parallel()
	runBroken(t, []broken{
		{"no kind", prov(1, func(p *v1alpha1.ProviderSpec) { p.Static = nil }), "Provider key: spec", "has no kind"},
		{"two kinds", prov(1, func(p *v1alpha1.ProviderSpec) { p.JWT = &v1alpha1.JWTProvider{Audience: "x"} }), "Provider key: spec", "two kinds"},
		{"no audience", prov(0, func(p *v1alpha1.ProviderSpec) { p.JWT.Audience = "" }), "Provider jwt: spec.jwt.audience", "is missing"},
		{"two audiences in one", prov(0, func(p *v1alpha1.ProviderSpec) { p.JWT.Audience = "a b" }), "Provider jwt: spec.jwt.audience", "one audience"},
		{"a negative TTL", prov(0, func(p *v1alpha1.ProviderSpec) { p.JWT.TTL.Duration = -1 }), "Provider jwt: spec.jwt.ttl", "want 1s"},
		{"no form", prov(1, func(p *v1alpha1.ProviderSpec) { p.Static.Header = nil }), "Provider key: spec.static", "no form"},
		{"two forms", prov(1, func(p *v1alpha1.ProviderSpec) { p.Static.Basic = &v1alpha1.StaticBasic{} }), "Provider key: spec.static", "two forms"},
		{"a header that is no name", prov(1, func(p *v1alpha1.ProviderSpec) { p.Static.Header.Name = "" }), "Provider key: spec.static.header.name", "not a header name"},
		{"a header that steers", prov(1, func(p *v1alpha1.ProviderSpec) { p.Static.Header.Name = "Host" }), "Provider key: spec.static.header.name", "cannot carry"},
		{"a prefix with a line break", prov(1, func(p *v1alpha1.ProviderSpec) { p.Static.Header.Prefix = "a\r\n" }), "Provider key: spec.static.header.prefix", "does not print"},
		{"no file", prov(1, func(p *v1alpha1.ProviderSpec) { p.Static.Header.Value.File = "" }), "Provider key: spec.static.header.value.file", "is missing"},
		{"a user name with a colon", basic("a:b", "f"), "Provider key: spec.static.basic.username", "colon"},
		{"no user name", basic("", "f"), "Provider key: spec.static.basic.username", "is missing"},
		{"no password file", basic("a", ""), "Provider key: spec.static.basic.password.file", "is missing"},
	})
	set := fixtureSet(t)
	basic("a", "f")(set)
	if _, problems := Compile(set); len(problems) > 0 {
		t.Error(problems)
	}
}

func basic(user, file string) func(*v1alpha1.Set) {
	return prov(1, func(p *v1alpha1.ProviderSpec) {
		p.Static = &v1alpha1.StaticProvider{Basic: &v1alpha1.StaticBasic{Username: user, Password: v1alpha1.FileRef{File: file}}}
	})
}

func capa(i int, fn func(*v1alpha1.CapabilitySpec)) func(*v1alpha1.Set) {
	return func(s *v1alpha1.Set) { fn(&s.Capabilities[i].Spec) }
}

// browse changes the capability without parameters.
func browse(fn func(*v1alpha1.CapabilitySpec)) func(*v1alpha1.Set) { return capa(2, fn) }

func rulePath(path string) func(*v1alpha1.Set) {
	return browse(func(c *v1alpha1.CapabilitySpec) { c.Calls[1].Path = path })
}

func ruleMethod(m string) func(*v1alpha1.Set) {
	return browse(func(c *v1alpha1.CapabilitySpec) { c.Calls[1].Method = m })
}

func ruleHost(h string) func(*v1alpha1.Set) {
	return browse(func(c *v1alpha1.CapabilitySpec) { c.Calls[1].Host = h })
}

func ruleQuery(name, pattern string) func(*v1alpha1.Set) {
	return browse(func(c *v1alpha1.CapabilitySpec) {
		c.Calls[1].Query = &v1alpha1.QueryRule{Params: map[string]string{name: pattern}}
	})
}

func TestRulesThatMatchNothing(t *testing.T) {
	t.Parallel()
	const path, method, host, query = "Capability browse: spec.calls[1].path", "Capability browse: spec.calls[1].method",
		"Capability browse: spec.calls[1].host", "Capability browse: spec.calls[1].query"
	runBroken(t, []broken{
		{"no calls", browse(func(c *v1alpha1.CapabilitySpec) { c.Calls = nil }), "Capability browse: spec.calls", "is empty"},
		{"no path", rulePath(""), path, "is empty"},
		{"a path without its slash", rulePath("v1/x"), path, "write /v1/x"},
		{"a path with a query", rulePath("/v1?x=1"), path, "under query"},
		{"a path with a fragment", rulePath("/v1#x"), path, "fragment"},
		{"an encoded path", rulePath("/a%20b"), path, "write the character itself"},
		{"a dot segment", rulePath("/v1/../x"), path, "dot segment"},
		{"an empty segment", rulePath("/v1//x"), path, "empty segment"},
		{"a path parameter", rulePath("/v1;a=b"), path, "no call's path"},
		{"a backslash", rulePath(`/v1\x`), path, "no call's path"},
		{"a line break", rulePath("/v1\n"), path, "no call's path"},
		{"a path that is not UTF-8", rulePath("/\xff"), path, "not UTF-8"},
		{"** not last", rulePath("/v1/**/x"), path, "only stand last"},
		{"a star for a part", rulePath("/v1/x*"), path, "a whole segment"},
		{"** for a part", rulePath("/v1/x**"), path, "a whole segment"},
		{"an unknown parameter", rulePath("/v1/${x}"), path, `no parameter "x"`},
		{"a parameter that is not closed", rulePath("/v1/${x"), path, "not closed"},
		{"a parameter that is no name", rulePath("/v1/${x y}"), path, "not a parameter name"},
		{"a path that is too long", rulePath("/" + strings.Repeat("a", 1100)), path, "longer than"},
		{"a path that is too deep", rulePath(strings.Repeat("/a", 200)), path, "segments"},
		{"no method", ruleMethod(""), method, "is missing"},
		{"a method in lower case", ruleMethod("get"), method, `write "GET"`},
		{"any method", ruleMethod("*,GET"), method, "not a method"},
		{"CONNECT", ruleMethod("CONNECT"), method, "never granted"},
		{"TRACE", ruleMethod("TRACE"), method, "never granted"},
		{"a host that is not the destination's", ruleHost("evil.example.org"), host, "none of the hosts"},
		{"a host in capitals", ruleHost("Tickets.example.org"), host, "none of the hosts"},
		{"a host of an unknown parameter", ruleHost("${x}.example.org"), host, "no parameter"},
		{"a host that is not closed", ruleHost("${x"), host, "not closed"},
		{"a query parameter without a name", ruleQuery("", "a"), query + ".", "no name"},
		{"a query parameter that does not print", ruleQuery("a\n", "a"), query + ".a\n", "does not print"},
		{"a query pattern that is empty", ruleQuery("a", ""), query + ".a", "no pattern"},
		{"a query pattern that is broken", ruleQuery("a", "("), query + ".a", "want an RE2"},
		{"a query pattern that closes its group", ruleQuery("a", "x)|(y"), query + ".a", "want an RE2"},
		{"a query pattern that matches nothing", ruleQuery("a", `[^\x00-\x{10FFFF}]`), query + ".a", "can match nothing"},
		{"a query pattern with an unknown parameter", ruleQuery("a", "${b}"), query + ".a", "no parameter"},
		{"any query and a list", browse(func(c *v1alpha1.CapabilitySpec) {
			c.Calls[0].Query = &v1alpha1.QueryRule{Any: true, Params: map[string]string{"a": "b"}}
		}), "Capability browse: spec.calls[0].query", "one of them"},
		{"a body rule that says nothing", browse(func(c *v1alpha1.CapabilitySpec) { c.Calls[0].Body = &v1alpha1.BodyRule{} }),
			"Capability browse: spec.calls[0].body", "means nothing"},
	})
}

func param1(name, pattern string) func(*v1alpha1.Set) {
	return browse(func(c *v1alpha1.CapabilitySpec) {
		c.Params = map[string]v1alpha1.Param{name: {Pattern: pattern}}
		c.Calls[1].Path = "/v1/${" + name + "}"
	})
}

func TestBrokenParameters(t *testing.T) {
	t.Parallel()
	const at = "Capability browse: spec.params.x.pattern"
	runBroken(t, []broken{
		{"no pattern", param1("x", ""), at, "no pattern"},
		{"a pattern that is too long", param1("x", strings.Repeat("a", 1025)), at, "longer than"},
		{"a broken pattern", param1("x", "[a"), at, "want an RE2"},
		{"a bomb", param1("x", "((a{100}){100}){100}"), at, "want an RE2"},
		{"a named group", param1("x", "(?P<y>a)"), at, "named group"},
		{"a quoting escape", param1("x", `\Qa\E`), at, `\Q`},
		{"itself", param1("x", "${x}"), at, "x -> x"},
		{"an unknown parameter", param1("x", "${y}"), at, `no parameter "y"`},
		{"a name that is none", func(s *v1alpha1.Set) {
			browse(func(c *v1alpha1.CapabilitySpec) { c.Params = map[string]v1alpha1.Param{"1x": {Pattern: "a"}} })(s)
		}, "Capability browse: spec.params.1x", "not a parameter name"},
		{"an unused parameter", browse(func(c *v1alpha1.CapabilitySpec) { c.Params = map[string]v1alpha1.Param{"x": {Pattern: "a"}} }),
			"Capability browse: spec.params.x", "used nowhere"},
		{"a circle", browse(func(c *v1alpha1.CapabilitySpec) {
			c.Params = map[string]v1alpha1.Param{"x": {Pattern: "a${z}"}, "y": {Pattern: "${x}"}, "z": {Pattern: "${y}"}}
			c.Calls[1].Path = "/${x}"
		}), at, "x -> z -> y -> x"},
		{"a parameter in a class", browse(func(c *v1alpha1.CapabilitySpec) {
			c.Params = map[string]v1alpha1.Param{"x": {Pattern: "[^]${y}]"}, "y": {Pattern: "a"}}
			c.Calls[1].Path = "/${x}/${y}"
		}), at, "character class"},
		{"parameters that double", browse(func(c *v1alpha1.CapabilitySpec) {
			c.Params = map[string]v1alpha1.Param{"a": {Pattern: strings.Repeat("a", 1000)}, "b": {Pattern: strings.Repeat("${a}", 5)}, "x": {Pattern: strings.Repeat("${b}", 5)}}
			c.Calls[1].Path = "/${x}"
		}), at, "too long"},
	})
}

func TestBrokenCapabilities(t *testing.T) {
	t.Parallel()
	sec := func(n int) *metav1.Duration { return &metav1.Duration{Duration: time.Duration(n) * time.Second} }
	limits := func(ttl, most *metav1.Duration) func(*v1alpha1.Set) {
		return browse(func(c *v1alpha1.CapabilitySpec) { c.Limits = v1alpha1.Limits{TTL: ttl, MaxTTL: most} })
	}
	scope := func(key, value string) func(*v1alpha1.Set) {
		return capa(0, func(c *v1alpha1.CapabilitySpec) { c.Credential.Scope[key] = value })
	}
	const at = "Capability browse: spec."
	runBroken(t, []broken{
		{"an unknown destination", browse(func(c *v1alpha1.CapabilitySpec) { c.Destination = "ticket" }), at + "destination", `want one of "files", "plain", "tickets"`},
		{"no destination", browse(func(c *v1alpha1.CapabilitySpec) { c.Destination = "" }), at + "destination", "is missing"},
		{"an unknown provider", capa(0, func(c *v1alpha1.CapabilitySpec) { c.Credential.Provider = "oauth" }),
			"Capability read-ticket: spec.credential.provider", `no Provider "oauth"`},
		{"an unknown risk", browse(func(c *v1alpha1.CapabilitySpec) { c.Risk = "none" }), at + "risk", "low, medium or high"},
		{"high risk without approval", browse(func(c *v1alpha1.CapabilitySpec) { c.Risk = "high" }), at + "approval", "high risk needs approval with stepUp"},
		{"high risk without step-up", browse(func(c *v1alpha1.CapabilitySpec) { c.Risk, c.Approval = "high", approval(nil) }),
			at + "approval.stepUp", "authenticated just now"},
		{"approval by no group", browse(func(c *v1alpha1.CapabilitySpec) { c.Approval = approval(nil); c.Approval.Groups = nil }), at + "approval.groups", "is empty"},
		{"approval by too many", browse(func(c *v1alpha1.CapabilitySpec) { c.Approval = approval(nil); c.Approval.Count = 11 }), at + "approval.count", "1 to 10"},
		{"approval by fewer than nobody", browse(func(c *v1alpha1.CapabilitySpec) { c.Approval = approval(nil); c.Approval.Count = -1 }), at + "approval.count", "1 to 10"},
		{"approval that waits for ever", browse(func(c *v1alpha1.CapabilitySpec) { c.Approval = approval(nil); c.Approval.ExpiresAfter = sec(86401) }),
			at + "approval.expiresAfter", "24h"},
		{"step-up of any age", browse(func(c *v1alpha1.CapabilitySpec) { c.Approval = approval(&v1alpha1.StepUp{}) }), at + "approval.stepUp.maxAge", "is missing"},
		{"step-up of no age", browse(func(c *v1alpha1.CapabilitySpec) { c.Approval = approval(&v1alpha1.StepUp{MaxAge: sec(0)}) }), at + "approval.stepUp.maxAge", "out of range"},
		{"an unknown sensitivity", browse(func(c *v1alpha1.CapabilitySpec) { c.Sensitivity = "secret" }), at + "sensitivity", "confidential"},
		{"restricted data", browse(func(c *v1alpha1.CapabilitySpec) { c.Sensitivity = "restricted" }), at + "sensitivity", "response filter"},
		{"a negative TTL", limits(sec(-1), nil), at + "limits.ttl", "want 1s"},
		{"a zero TTL", limits(sec(0), nil), at + "limits.ttl", "want 1s"},
		{"a TTL over its maximum", limits(sec(60), sec(30)), at + "limits.ttl", "at most that"},
		{"a maximum of days", limits(nil, sec(25*3600)), at + "limits.maxTTL", "want 1s"},
		{"a token without a scope", capa(0, func(c *v1alpha1.CapabilitySpec) { c.Credential.Scope = nil }),
			"Capability read-ticket: spec.credential.scope", "read as one for everything"},
		{"a static secret with a scope", capa(3, func(c *v1alpha1.CapabilitySpec) { c.Credential.Scope = map[string]string{"a": "b"} }),
			"Capability read-file: spec.credential.scope", "cannot be narrowed"},
		{"a scope of an unknown parameter", scope("x", "${y}"), "Capability read-ticket: spec.credential.scope.x", `no parameter "y"`},
		{"an empty scope entry", scope("x", ""), "Capability read-ticket: spec.credential.scope.x", "is empty"},
		{"a scope entry that is no name", scope("x y", "a"), "Capability read-ticket: spec.credential.scope.x y", "not a name"},
		{"a scope that is not closed", scope("x", "${y"), "Capability read-ticket: spec.credential.scope.x", "not closed"},
		{"a scope with a line break", scope("x", "a\nb"), "Capability read-ticket: spec.credential.scope.x", "does not print"},
		{"a reserved claim", scope("sub", "me"), "Capability read-ticket: spec.credential.scope.sub", "Exeat sets itself"},
	})
}

func TestBrokenNames(t *testing.T) {
	t.Parallel()
	runBroken(t, []broken{
		{"no name", func(s *v1alpha1.Set) {
			s.Destinations[1].Name = ""
		}, "Destination : metadata.name", "is missing"},
		{"a name in capitals", func(s *v1alpha1.Set) { s.Destinations[1].Name = "Plain" }, "Destination Plain: metadata.name", "DNS label"},
		{"a name with a dot", func(s *v1alpha1.Set) { s.Agents[1].Name = "a.b" }, "Agent a.b: metadata.name", "DNS label"},
		{"one name twice", func(s *v1alpha1.Set) { s.Destinations[1].Name = "files" }, "Destination files: metadata.name", "another Destination"},
	})
}

func TestAllProblemsComeAtOnce(t *testing.T) {
	t.Parallel()
	set := fixtureSet(t)
	set.Destinations[0].Spec.Hosts[0] = "Tickets"
	set.Providers[0].Spec.JWT.Audience = ""
	set.Capabilities[0].Spec.Calls[0].Path = "x"
	set.Capabilities[2].Spec.Calls[0].Method = "get"
	set.Capabilities[3].Spec.Risk = "high"
	set.Agents[0].Spec.Owner.Groups = nil
	set.Agents[1].Spec.SPIFFEID = ""
	_, problems := Compile(set)
	if len(problems) != 8 { // high risk and a static provider are two
		t.Errorf("%d problems: %q", len(problems), problems)
	}
	if _, problems := Compile(nil); len(problems) != 1 {
		t.Errorf("nil: %q", problems)
	}
}

func TestCatalogIsWhatWasWritten(t *testing.T) {
	t.Parallel()
	set := fixtureSet(t)
	set.Destinations[0].Spec.TLS = &v1alpha1.DestinationTLS{CA: v1alpha1.FileRef{File: "ca.pem"}}
	set.CAs = map[string]string{"ca.pem": certificate(t)}
	cat, problems := Compile(set)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	d, _ := cat.DestinationByHost("tickets.example.net", 443)
	if d == nil || d.Name != "tickets" || d.Plain || d.CAPEM == "" || strings.Join(d.Headers, " ") != "x-ticket-version x-trace-*" {
		t.Errorf("%+v", d)
	}
	if d, _ := cat.Destination("files"); strings.Join(d.Addresses, " ") != "127.0.0.1:8443 [::1]:9000" || d.Port != 8443 {
		t.Errorf("%+v", d)
	}
	if d, _ := cat.DestinationByHost("plain.example.org", 80); d == nil || !d.Plain {
		t.Errorf("%+v", d)
	}
	p, _ := cat.Capability("write-ticket")
	if p.TTL != 5*time.Minute || p.MaxTTL != p.TTL || p.Risk != v1alpha1.RiskLow || p.Sensitivity != v1alpha1.SensitivityInternal {
		t.Errorf("%+v", p)
	}
	a, _ := cat.Agent("triage")
	if a.Environment != "production" || len(a.Eligible()) != 3 || a.Eligible()[0].Capability.Name != "read-file" {
		t.Errorf("%+v", a)
	}
	if len(cat.Agents()) != 2 || len(cat.Destinations()) != 3 || len(cat.Capabilities()) != 4 || len(cat.Providers()) != 2 || cat.Agents()[0].Name != "browser" {
		t.Error("a list is not complete or not in order")
	}
}

func TestCatalogDoesNotShareWithItsSource(t *testing.T) {
	t.Parallel()
	set := fixtureSet(t)
	cat, _ := Compile(set)
	before, _ := cat.Resolve("triage", "read-ticket", map[string]string{"project": "OPS", "ticket": "OPS-1"})
	set.Providers[0].Spec.JWT.Audience = "evil"
	set.Providers[0].Spec.JWT.TTL.Duration = time.Hour
	set.Capabilities[0].Spec.Params["project"] = v1alpha1.Param{Pattern: ".*"}
	set.Agents[0].Spec.Capabilities[0].Params["project"][0] = "EVIL"
	after, err := cat.Resolve("triage", "read-ticket", map[string]string{"project": "OPS", "ticket": "OPS-1"})
	if err != nil || before.Digest != after.Digest {
		t.Error("the catalog changed with the set", err)
	}
}

func TestNilCatalogHoldsNothing(t *testing.T) {
	t.Parallel()
	var cat *Catalog
	_, agent := cat.Agent("a")
	_, sidecar := cat.AgentBySidecar("a/b")
	_, id := cat.AgentBySPIFFEID("a")
	_, dest := cat.Destination("a")
	_, host := cat.DestinationByHost("a", 443)
	_, capability := cat.Capability("a")
	_, provider := cat.Provider("a")
	if agent || sidecar || id || dest || host || capability || provider {
		t.Error("found something")
	}
	if cat.Revision() != "" || len(cat.Agents())+len(cat.Destinations())+len(cat.Capabilities())+len(cat.Providers()) > 0 {
		t.Error("lists something")
	}
	if _, err := cat.Resolve("a", "b", nil); err == nil {
		t.Error("resolves something")
	}
	if _, problems := Compile(new(v1alpha1.Set)); len(problems) > 0 {
		t.Error("an empty catalog is a catalog", problems)
	}
}

func approval(stepUp *v1alpha1.StepUp) *v1alpha1.Approval {
	return &v1alpha1.Approval{Count: 2, Groups: []string{"leads"}, StepUp: stepUp}
}
