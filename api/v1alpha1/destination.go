package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// Destination is an upstream API.
type Destination struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              DestinationSpec `json:"spec"`
}

// DestinationSpec says which hosts it is, how to reach and to trust them.
type DestinationSpec struct {
	// Hosts are exact DNS names.
	Hosts []string `json:"hosts"`
	// Port that agents call and that is dialled; 443 when absent.
	Port int32 `json:"port,omitempty"`
	// Addresses are dialled instead of what DNS says: IP or IP:port. The only
	// way to a loopback or private address.
	Addresses []string `json:"addresses,omitempty"`
	Protocol  Protocol `json:"protocol,omitempty"`
	// TLS towards the destination; absent means system roots.
	TLS *DestinationTLS `json:"tls,omitempty"`
	// Headers that may pass besides the fixed safe set; a trailing * is a prefix.
	Headers []string `json:"headers,omitempty"`
	// ClientEnv holds placeholders for client libraries that insist on a key.
	ClientEnv map[string]string `json:"clientEnv,omitempty"`
}

// Protocol spoken by a destination.
type Protocol string

// The protocols; an absent one is ProtocolHTTP.
const (
	ProtocolHTTP Protocol = "http"
)

// DestinationTLS says whom to trust. The certificate's SAN is always checked
// against the host.
type DestinationTLS struct {
	CA FileRef `json:"ca"`
}

// FileRef names a file under the secrets root.
type FileRef struct {
	File string `json:"file"`
}
