package policy

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/exeat-dev/exeat/api/v1alpha1"
)

// destination compiles one destination. It is noted even when broken, so that
// the capabilities that name it are checked as well.
func (c *compiler) destination(in *v1alpha1.Destination) {
	r := report{"Destination", in.Name, c}
	d := &Destination{Name: in.Name, Port: r.port(in.Spec.Port), ClientEnv: maps.Clone(in.Spec.ClientEnv)}
	d.Plain = d.Port == 80 && in.Spec.TLS == nil
	if p := in.Spec.Protocol; p != "" && p != v1alpha1.ProtocolHTTP {
		r.add("spec.protocol", "%q is not supported; want %q", p, v1alpha1.ProtocolHTTP)
	}
	if len(in.Spec.Hosts) == 0 {
		r.add("spec.hosts", "is empty; want at least one DNS name")
	}
	for i, h := range in.Spec.Hosts {
		r.host(d, fmt.Sprintf("spec.hosts[%d]", i), h)
	}
	for i, a := range in.Spec.Addresses {
		r.address(d, fmt.Sprintf("spec.addresses[%d]", i), a)
	}
	for i, h := range in.Spec.Headers {
		r.header(d, fmt.Sprintf("spec.headers[%d]", i), h)
	}
	for _, name := range slices.Sorted(maps.Keys(in.Spec.ClientEnv)) {
		r.clientEnv(name, in.Spec.ClientEnv[name])
	}
	if in.Spec.TLS != nil {
		d.CAPEM = r.ca(in.Spec.TLS.CA.File)
	}
	c.cat.destinations[d.Name] = d
}

// port fills in the default.
func (r report) port(port int32) uint16 {
	switch {
	case port == 0:
		return 443
	case port < 0 || port > 65535:
		r.add("spec.port", "%d is not a port; want 1 to 65535", port)
		return 0
	}
	return uint16(port)
}

// host adds a host to d unless something is wrong with it or it is taken.
func (r report) host(d *Destination, field, h string) {
	key := hostPort{h, d.Port}
	other := r.c.cat.byHost[key]
	switch fault := r.hostName(h); {
	case fault != "":
		r.add(field, "%q %s", h, fault)
	case other == d:
		r.add(field, "%q stands twice; remove one", h)
	case other != nil:
		r.add(field, "%q on port %d is Destination %q already; a host and port belong to one destination", h, d.Port, other.Name)
	default:
		r.c.cat.byHost[key] = d
		d.Hosts = append(d.Hosts, h)
	}
}

// hostName says what is wrong with a host in the catalog and what would be right.
func (r report) hostName(h string) string {
	host, port, _ := strings.Cut(h, ":")
	_, notPort := parsePort(port)
	_, err := netip.ParseAddr(strings.Trim(h, "[]"))
	fault := hostFault(h)
	switch {
	case err == nil || fault == "is an address":
		return "is an address; want a DNS name, and put addresses under spec.addresses"
	case strings.Contains(h, "*"):
		return "is a wildcard, which is not supported; list the exact names"
	case notPort == nil && hostFault(host) == "":
		return fmt.Sprintf("holds a port; write %q and put the port under spec.port", host)
	case fault != "" && hostFault(lowerASCII(h)) == "":
		return fmt.Sprintf("has capitals; write %q", lowerASCII(h))
	case fault != "":
		return fault + "; want a DNS name such as api.example.org"
	case reservedHost(h):
		return "is Exeat's own; use another name"
	}
	return ""
}

// address adds an address to dial, with the destination's port when it names none.
func (r report) address(d *Destination, field, s string) {
	ap, err := netip.ParseAddrPort(s)
	if err != nil {
		var ip netip.Addr
		ip, err = netip.ParseAddr(s)
		ap = netip.AddrPortFrom(ip, d.Port)
	}
	if err != nil || ap.Port() == 0 && d.Port != 0 || ap.Addr().Zone() != "" {
		r.add(field, "%q is not an address; want an IP or IP:port", s)
		return
	}
	ap = netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port()) // one spelling of one address
	if ip := ap.Addr(); ip.IsUnspecified() || ip.IsMulticast() || ip == netip.AddrFrom4([4]byte{255, 255, 255, 255}) {
		r.add(field, "%q is no single machine's address; want one that can be dialled", s)
		return
	}
	if slices.Contains(d.Addresses, ap.String()) {
		r.add(field, "%q stands twice; remove one", s)
		return
	}
	d.Addresses = append(d.Addresses, ap.String())
}

// header adds a name or a prefix that may pass. What can never pass is refused
// here, so that a catalog does not seem to allow it.
func (r report) header(d *Destination, field, h string) {
	name, prefix := strings.CutSuffix(h, "*")
	lower := lowerASCII(h)
	under := ""
	if prefix {
		under = forbiddenUnder(name)
	}
	switch {
	case !isToken(name) || strings.Contains(name, "*"):
		r.add(field, "%q is not a header name; want a name such as X-Trace-Id, or a prefix such as X-Trace-*", h)
	case !prefix && ForbiddenHeader(name):
		r.add(field, "%q can never pass: it carries a credential, steers a proxy or changes what the call is; remove it", h)
	case prefix && under != "":
		r.add(field, "%q would let %q pass, which can never pass; want a longer prefix or exact names", h, under)
	case slices.Contains(d.Headers, lower):
		r.add(field, "%q stands twice; remove one", h)
	default:
		d.Headers = append(d.Headers, lower)
	}
}

// clientEnv refuses variables that would change how the agent's programs run
// or leave, instead of satisfying a client library.
func (r report) clientEnv(name, value string) {
	field := "spec.clientEnv." + name
	upper := strings.ToUpper(name)
	switch {
	case !isEnvName(name):
		r.add(field, "is not the name of an environment variable; want letters, digits and _")
	case upper == "PATH" || upper == "HOME" || strings.HasSuffix(upper, "_PROXY") ||
		strings.HasPrefix(upper, "EXEAT_") || strings.HasPrefix(upper, "LD_") || strings.HasPrefix(upper, "DYLD_"):
		r.add(field, "is not for a catalog to set; want a placeholder for a client library, such as TICKETS_API_KEY")
	}
	r.printable(field, value)
}

func isEnvName(s string) bool {
	for i := 0; i < len(s); i++ {
		if c := s[i]; !(c == '_' || 'A' <= c && c <= 'Z' || 'a' <= c && c <= 'z' || i > 0 && '0' <= c && c <= '9') {
			return false
		}
	}
	return s != ""
}

// clientEnvs: one environment holds the placeholders of all destinations, so
// one name has one value.
func (c *compiler) clientEnvs() {
	first := map[string]*Destination{}
	for _, d := range sortedValues(c.cat.destinations) {
		for _, name := range slices.Sorted(maps.Keys(d.ClientEnv)) {
			if o, ok := first[name]; ok && o.ClientEnv[name] != d.ClientEnv[name] {
				report{"Destination", d.Name, c}.add("spec.clientEnv."+name,
					"Destination %q gives it another value; want the same in both", o.Name)
			} else if !ok {
				first[name] = d
			}
		}
	}
}

// ca finds the certificates by which the destination is known.
func (r report) ca(file string) string {
	const field = "spec.tls.ca.file"
	if file == "" {
		r.add(field, "is missing; want a PEM file of CA certificates, or no tls at all for the system's roots")
		return ""
	}
	text, ok := r.c.set.CAs[file]
	if !ok {
		r.add(field, "%q was not read; want a PEM file of CA certificates", file)
		return ""
	}
	if err := checkPEM([]byte(text)); err != nil {
		r.add(field, "%q %v; want PEM certificates and nothing else", file, err)
	}
	return text
}

// checkPEM takes certificates only: a key in a trust bundle is a key about to
// be handed to every sidecar.
func checkPEM(text []byte) error {
	n := 0
	for {
		var block *pem.Block
		block, text = pem.Decode(text)
		if block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return errors.New("holds something other than certificates")
		}
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			return errors.New("holds a certificate that cannot be read")
		}
		n++
	}
	switch {
	case n == 0:
		return errors.New("holds no certificate")
	case strings.Contains(string(text), "-----BEGIN"):
		return errors.New("holds a block that cannot be read")
	}
	return nil
}
