package xds

import (
	"crypto/sha256"
	"encoding/hex"

	resourcev3 "github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

// kind is one of the resource types that are served.
type kind uint8

const (
	clusters kind = iota
	listeners
	routes
	secrets
	kindCount
)

var typeURLs = [kindCount]string{
	resourcev3.ClusterType, resourcev3.ListenerType, resourcev3.RouteType, resourcev3.SecretType,
}

var kindNames = [kindCount]string{"cluster", "listener", "route", "secret"}

func (k kind) String() string { return kindNames[k] }

func kindOf(typeURL string) (kind, bool) {
	for k, url := range typeURLs {
		if url == typeURL {
			return kind(k), true
		}
	}
	return 0, false
}

// resource is one built resource: immutable, shared between streams.
type resource struct {
	name    string
	version string // of the content: the same bytes, the same version
	body    *anypb.Any
}

func newResource(name string, m proto.Message) *resource {
	body := pack(m)
	return &resource{name: name, version: versionOf(body.GetValue()), body: body}
}

func versionOf(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:12])
}

// pack marshals deterministically: anypb.New does not, and bytes that differ for
// no reason would cut streams. What cannot be marshalled (a string that is not
// UTF-8) becomes an empty Any: Envoy refuses it, which shows and lets nothing out.
func pack(m proto.Message) *anypb.Any {
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		return &anypb.Any{}
	}
	return &anypb.Any{TypeUrl: "type.googleapis.com/" + string(m.ProtoReflect().Descriptor().FullName()), Value: b}
}
