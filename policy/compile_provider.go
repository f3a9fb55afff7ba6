package policy

import (
	"strings"
	"time"

	"github.com/exeat-dev/exeat/api/v1alpha1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// provider checks one provider and keeps a copy: what is compiled shares
// nothing with what was read.
func (c *compiler) provider(in *v1alpha1.Provider) {
	r := report{"Provider", in.Name, c}
	jwt, static := in.Spec.JWT, in.Spec.Static
	out := &v1alpha1.Provider{TypeMeta: typeMeta("Provider"), ObjectMeta: metav1.ObjectMeta{Name: in.Name}}
	switch {
	case jwt != nil && static != nil:
		r.add("spec", "has two kinds; want exactly one of jwt, static")
	case jwt != nil:
		r.jwt(jwt)
		copied := *jwt
		if jwt.TTL != nil {
			copied.TTL = &metav1.Duration{Duration: jwt.TTL.Duration}
		}
		out.Spec.JWT = &copied
	case static != nil:
		r.static(static)
		out.Spec.Static = copyStatic(static)
	default:
		r.add("spec", "has no kind; want exactly one of jwt, static")
	}
	c.cat.providers[in.Name] = out
}

func copyStatic(in *v1alpha1.StaticProvider) *v1alpha1.StaticProvider {
	out := new(v1alpha1.StaticProvider)
	if in.Header != nil {
		h := *in.Header
		out.Header = &h
	}
	if in.Basic != nil {
		b := *in.Basic
		out.Basic = &b
	}
	return out
}

// jwt checks whom a token is for (RFC 9068 section 2.2: aud).
func (r report) jwt(p *v1alpha1.JWTProvider) {
	switch {
	case p.Audience == "":
		r.add("spec.jwt.audience", "is missing; want the name by which the destination knows itself, such as its URL")
	case strings.Contains(p.Audience, " "):
		r.add("spec.jwt.audience", "holds a space; want one audience")
	default:
		r.printable("spec.jwt.audience", p.Audience)
	}
	if p.TTL != nil {
		r.duration("spec.jwt.ttl", p.TTL.Duration)
	}
}

// static checks where a standing secret would be put.
func (r report) static(p *v1alpha1.StaticProvider) {
	switch {
	case p.Header != nil && p.Basic != nil:
		r.add("spec.static", "has two forms; want exactly one of header, basic")
	case p.Header != nil:
		r.staticHeader(p.Header)
	case p.Basic != nil:
		r.staticBasic(p.Basic)
	default:
		r.add("spec.static", "has no form; want exactly one of header, basic")
	}
}

// staticHeader: a credential may be in Authorization or Cookie, which an agent
// may never send, and in no header that means something to a proxy.
func (r report) staticHeader(h *v1alpha1.StaticHeader) {
	name := plainHeader(h.Name)
	switch {
	case !isToken(h.Name):
		r.add("spec.static.header.name", "%q is not a header name; want a name such as Authorization", h.Name)
	case name != "authorization" && name != "cookie" && ForbiddenHeader(name):
		r.add("spec.static.header.name", "%q cannot carry a credential: it steers a proxy or changes what the call is", h.Name)
	}
	r.printable("spec.static.header.prefix", h.Prefix)
	r.secretFile("spec.static.header.value.file", h.Value.File)
}

func (r report) staticBasic(b *v1alpha1.StaticBasic) {
	switch {
	case b.Username == "":
		r.add("spec.static.basic.username", "is missing; want a user name")
	case strings.Contains(b.Username, ":"): // RFC 7617 section 2
		r.add("spec.static.basic.username", "holds a colon, which Basic authentication cannot carry")
	default:
		r.printable("spec.static.basic.username", b.Username)
	}
	r.secretFile("spec.static.basic.password.file", b.Password.File)
}

func (r report) secretFile(field, file string) {
	if file == "" {
		r.add(field, "is missing; want a file under the secrets root")
	}
}

// maxTTL bounds every lifetime: what is left of it must fit the eight digits
// of milliseconds that a call's time limit has (grpc-timeout).
const maxTTL = 24 * time.Hour

// duration adds a problem for a time that is no lifetime.
func (r report) duration(field string, d time.Duration) bool {
	if d < time.Second || d > maxTTL {
		r.add(field, "%v is not possible; want 1s to %v", d, maxTTL)
		return false
	}
	return true
}
