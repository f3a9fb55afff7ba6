package attack

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/exeat-dev/exeat/client"
	"github.com/exeat-dev/exeat/test/stack"
)

const (
	mirrorHost = "mirror.example.org" // speaks HTTP/1.1
	otherHost  = "other.example.org"  // speaks HTTP/2
	granted    = "/v1/items/OPS-42"
	follow     = "/v1/items/OPS-42/stream"
)

// catalogText has an agent of the attacker's with two destinations. %s are the
// two mirrors' addresses.
const catalogText = `
apiVersion: exeat.dev/v1alpha1
kind: Agent
metadata: {name: mallory}
spec:
  spiffeID: spiffe://example.org/agent/mallory
  sidecarID: spiffe://example.org/sidecar/mallory/{instance}
  owner: {groups: [red], contact: red@example.org}
  capabilities: [{name: read-item}, {name: write-item}, {name: follow-item}, {name: read-other}, {name: slow-item}, {name: small-item}, {name: read-dead}]
---
apiVersion: exeat.dev/v1alpha1
kind: Destination
metadata: {name: mirror}
spec: {hosts: [mirror.example.org], addresses: ["%s"], tls: {ca: {file: mirror.pem}}, headers: [X-Item-Version]}
---
apiVersion: exeat.dev/v1alpha1
kind: Destination
metadata: {name: dead}
spec: {hosts: [dead.example.org], addresses: ["127.0.0.1:1"], tls: {ca: {file: mirror.pem}}}
---
apiVersion: exeat.dev/v1alpha1
kind: Destination
metadata: {name: other}
spec: {hosts: [other.example.org], addresses: ["%s"], tls: {ca: {file: other.pem}}, headers: [X-Item-Version]}
---
apiVersion: exeat.dev/v1alpha1
kind: Provider
metadata: {name: mirror-jwt}
spec: {jwt: {audience: "https://mirror.example.org", ttl: 60s}}
---
apiVersion: exeat.dev/v1alpha1
kind: Capability
metadata: {name: read-item}
spec:
  params: {item: {pattern: "[A-Z]{2,5}-[0-9]+"}}
  destination: mirror
  calls: [{method: GET, path: "/v1/items/${item}"}]
  credential: {provider: mirror-jwt, scope: {scope: read}}
  limits: {ttl: 5m, maxTTL: 15m}
---
apiVersion: exeat.dev/v1alpha1
kind: Capability
metadata: {name: write-item}
spec:
  params: {item: {pattern: "[A-Z]{2,5}-[0-9]+"}}
  destination: mirror
  calls: [{method: POST, path: "/v1/items/${item}", body: any}]
  credential: {provider: mirror-jwt, scope: {scope: write}}
  limits: {ttl: 5m, maxTTL: 15m}
---
apiVersion: exeat.dev/v1alpha1
kind: Capability
metadata: {name: follow-item}
spec:
  params: {item: {pattern: "[A-Z]{2,5}-[0-9]+"}}
  destination: mirror
  calls: [{method: GET, path: "/v1/items/${item}/stream"}]
  credential: {provider: mirror-jwt, scope: {scope: read}}
  limits: {ttl: 5m, maxTTL: 15m}
---
apiVersion: exeat.dev/v1alpha1
kind: Capability
metadata: {name: slow-item}
spec:
  params: {item: {pattern: "[A-Z]{2,5}-[0-9]+"}}
  destination: mirror
  calls: [{method: GET, path: "/v1/items/${item}"}]
  credential: {provider: mirror-jwt, scope: {scope: read}}
  limits: {ttl: 5m, maxTTL: 15m, rate: {calls: 3, per: 1h}}
---
apiVersion: exeat.dev/v1alpha1
kind: Capability
metadata: {name: small-item}
spec:
  params: {item: {pattern: "[A-Z]{2,5}-[0-9]+"}}
  destination: mirror
  calls: [{method: GET, path: "/v1/items/${item}"}, {method: POST, path: "/v1/items/${item}", body: any}]
  credential: {provider: mirror-jwt, scope: {scope: read}}
  limits: {ttl: 5m, maxTTL: 15m, bytes: 20000}
---
apiVersion: exeat.dev/v1alpha1
kind: Capability
metadata: {name: read-dead}
spec:
  params: {item: {pattern: "[A-Z]{2,5}-[0-9]+"}}
  destination: dead
  calls: [{method: GET, path: "/v1/items/${item}"}]
  credential: {provider: mirror-jwt, scope: {scope: read}}
  limits: {ttl: 5m, maxTTL: 15m, maxUses: 1}
---
apiVersion: exeat.dev/v1alpha1
kind: Capability
metadata: {name: read-other}
spec:
  params: {item: {pattern: "[A-Z]{2,5}-[0-9]+"}}
  destination: other
  calls: [{method: GET, path: "/v1/items/${item}"}, {method: POST, path: "/v1/items/${item}", body: any}]
  credential: {provider: mirror-jwt, scope: {scope: read}}
  limits: {ttl: 5m, maxTTL: 15m}
`

// scene is a whole system with an attacker in it, who holds a task.
type scene struct {
	*stack.Stack
	mirror, other *stack.Mirror
	sidecar       *stack.Sidecar
	task          *stack.Task
}

// newScene starts one; the attacker's task holds nothing yet.
func newScene(t *testing.T) *scene {
	t.Helper()
	s := &scene{mirror: stack.NewMirror(t, mirrorHost, false), other: stack.NewMirror(t, otherHost, true)}
	s.Stack = stack.StartWith(t, map[string]string{
		"attack.yaml": fmt.Sprintf(catalogText, s.mirror.Address, s.other.Address),
		"mirror.pem":  string(s.mirror.CAPEM), "other.pem": string(s.other.CAPEM),
	})
	s.sidecar = s.Sidecar(t, "mallory")
	s.task = s.sidecar.Task(t)
	return s
}

// grant gives the task one capability for the item that all tests are about.
func (s *scene) grant(t *testing.T, capability string) client.Grant {
	t.Helper()
	return s.task.Grant(t, capability, 5*time.Minute, "item", "OPS-42")
}

// itemAt is the granted item at a mirror.
func itemAt(m *stack.Mirror) string { return "https://" + m.Host + granted }

// onlyControl runs an attack and then one call that is granted, which must come
// through: so the way is open, and what did not arrive was kept back. It fails
// if anything but that call reached either mirror.
func (s *scene) onlyControl(t *testing.T, attack func()) {
	t.Helper()
	here, there, bytes := len(s.mirror.Seen()), len(s.other.Seen()), len(s.mirror.Bytes())
	attack()
	stack.WantOK(t, stack.Get(t, s.task.HTTP(t), itemAt(s.mirror), func(r *http.Request) { r.Header.Set("X-Item-Version", "control") }))
	var arrived []string
	for _, seen := range slices.Concat(s.mirror.Seen()[here:], s.other.Seen()[there:]) {
		if seen.Header.Get("X-Item-Version") != "control" {
			arrived = append(arrived, fmt.Sprintf("%s %s Host %s", seen.Method, seen.Target, seen.Host))
		}
	}
	if len(arrived) > 0 {
		t.Errorf("reached the upstream: %s", strings.Join(arrived, "; "))
	}
	// Nor did half a request.
	if raw := string(s.mirror.Bytes()[bytes:]); strings.Count(raw, "HTTP/1.1\r\n") != 1 || strings.Count(raw, "\r\n\r\n") != 1 {
		t.Errorf("reached the upstream: %q", raw)
	}
}

// refused is how an attack is answered: by a denial of ours when reason is set,
// else by Envoy alone, with this status. Status 0 is a closed connection.
type refused struct {
	status int
	reason string
}

func (want refused) check(t *testing.T, r stack.Reply) {
	t.Helper()
	got := refused{r.Status, r.Denial().Reason}
	if want.status == 0 && r.Err != nil {
		return
	}
	if got != want {
		t.Errorf("answered %d %q %s %v, want %d %q", r.Status, got.reason, r.Body, r.Err, want.status, want.reason)
	}
}
