package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// Provider is a way to mint a credential. Exactly one kind is set.
type Provider struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              ProviderSpec `json:"spec"`
}

// ProviderSpec holds one kind of provider.
type ProviderSpec struct {
	JWT    *JWTProvider    `json:"jwt,omitempty"`
	Static *StaticProvider `json:"static,omitempty"`
}

// JWTProvider mints RFC 9068 access tokens signed by Exeat's own issuer.
type JWTProvider struct {
	Audience string `json:"audience"`
	// TTL of one token, at most the grant's end; 60s when absent.
	TTL *metav1.Duration `json:"ttl,omitempty"`
}

// StaticProvider puts a standing secret on the call. It is injected, not
// minted: it outlives its grants. Exactly one of Header and Basic is set.
type StaticProvider struct {
	Header *StaticHeader `json:"header,omitempty"`
	Basic  *StaticBasic  `json:"basic,omitempty"`
}

// StaticHeader is a header whose value is Prefix followed by the file's text.
type StaticHeader struct {
	Name   string  `json:"name"`
	Prefix string  `json:"prefix,omitempty"`
	Value  FileRef `json:"value"`
}

// StaticBasic is HTTP Basic authentication (RFC 7617).
type StaticBasic struct {
	Username string  `json:"username"`
	Password FileRef `json:"password"`
}
