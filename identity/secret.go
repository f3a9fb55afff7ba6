package identity

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"slices"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/anypb"
)

// The names of SPIRE's agent, so that one bootstrap works with either. Besides
// these a certificate has its SPIFFE ID as a name, and a bundle its trust
// domain's.
const (
	SecretDefault = "default" // the caller's first SVID
	SecretRoots   = "ROOTCA"  // the roots of the caller's own trust domain
	SecretAll     = "ALL"     // those of every trust domain it may verify

	secretType = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"
)

// secrets gives the named secrets, all of them when no name is given. A name
// that the caller has no right to fails the whole request, as SPIRE does: to
// leave it out would keep Envoy waiting without a word.
func (m material) secrets(names []string) ([]*tlsv3.Secret, error) {
	if len(names) == 0 {
		names = m.names()
	}
	out := make([]*tlsv3.Secret, 0, len(names))
	for _, name := range names {
		secret, err := m.secret(name)
		if err != nil {
			return nil, err
		}
		out = append(out, secret)
	}
	return out, nil
}

// names are those that tell everything apart.
func (m material) names() []string {
	var out []string
	for _, svid := range m.svids {
		out = append(out, svid.ID.String())
	}
	for _, b := range m.bundles {
		out = append(out, b.TrustDomain().IDString())
	}
	return out
}

func (m material) secret(name string) (*tlsv3.Secret, error) {
	switch name {
	case SecretDefault:
		return certificate(name, m.svids[0])
	case SecretRoots:
		return validation(name, m.bundles[:1])
	case SecretAll:
		return validation(name, m.bundles)
	}
	if i := slices.IndexFunc(m.svids, func(s *x509svid.SVID) bool { return s.ID.String() == name }); i >= 0 {
		return certificate(name, m.svids[i])
	}
	if i := slices.IndexFunc(m.bundles, func(b *x509bundle.Bundle) bool { return b.TrustDomain().IDString() == name }); i >= 0 {
		return validation(name, m.bundles[i:i+1])
	}
	return nil, status.Error(codes.InvalidArgument, "a secret was asked for that the workload has no right to")
}

func certificate(name string, svid *x509svid.SVID) (*tlsv3.Secret, error) {
	certs, key, err := svid.Marshal()
	if err != nil {
		return nil, status.Error(codes.Internal, "the SVID cannot be encoded")
	}
	return &tlsv3.Secret{Name: name, Type: &tlsv3.Secret_TlsCertificate{TlsCertificate: &tlsv3.TlsCertificate{
		CertificateChain: inline(certs),
		PrivateKey:       inline(key),
	}}}, nil
}

// validation is Envoy's SPIFFE validator: it holds a certificate of a trust
// domain to that domain's roots alone.
func validation(name string, bundles []*x509bundle.Bundle) (*tlsv3.Secret, error) {
	config := &tlsv3.SPIFFECertValidatorConfig{}
	for _, b := range bundles {
		config.TrustDomains = append(config.TrustDomains, &tlsv3.SPIFFECertValidatorConfig_TrustDomain{
			Name:        b.TrustDomain().Name(),
			TrustBundle: inline(encodePEM(b.X509Authorities())),
		})
	}
	packed, err := anypb.New(config)
	if err != nil {
		return nil, status.Error(codes.Internal, "the bundle cannot be encoded")
	}
	return &tlsv3.Secret{Name: name, Type: &tlsv3.Secret_ValidationContext{ValidationContext: &tlsv3.CertificateValidationContext{
		CustomValidatorConfig: &core.TypedExtensionConfig{Name: "envoy.tls.cert_validator.spiffe", TypedConfig: packed},
	}}}, nil
}

func inline(data []byte) *core.DataSource {
	return &core.DataSource{Specifier: &core.DataSource_InlineBytes{InlineBytes: data}}
}

func encodePEM(certs []*x509.Certificate) []byte {
	var out bytes.Buffer
	for _, cert := range certs {
		out.Write(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw}))
	}
	return out.Bytes()
}
