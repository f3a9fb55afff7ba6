package credential

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/exeat-dev/exeat/policy"
	"github.com/exeat-dev/exeat/store/storetest"
)

// printed is a value in every form in which it may be printed by accident.
func printed(values ...any) string {
	var b strings.Builder
	for _, v := range values {
		fmt.Fprintf(&b, "%v %+v %s", v, v, v)
		if text, err := json.Marshal(v); err == nil {
			b.Write(text)
		}
	}
	return b.String()
}

// Nothing that is logged, recorded, counted, printed or stored holds a
// credential or a key, whether all goes well or not.
func TestNoSecretIsShown(t *testing.T) {
	t.Parallel()
	const standing = "hunter2-standing-secret"
	for name, static := range map[string]bool{"a token": false, "a standing secret": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			set := storetest.Set()
			if static {
				set = withStatic(header("X-API-Key", "", "key"))
			}
			w := newWorldOn(t, storetest.Open(t), set)
			w.secret("key", standing)
			r := prometheus.NewRegistry()
			m := w.manager(func(c *Config) { c.Registry = r })
			w.run(m)
			g := w.grant()
			h := w.minted(g)
			headers, err := m.Apply(t.Context(), h, &policy.Call{})
			if err != nil {
				t.Fatal(err)
			}
			secret := headers[0].Value.Expose()
			if static && secret != standing {
				t.Fatalf("the header is %q", secret)
			}
			o, _ := m.opened.Load(g.ID)
			seen := printed(headers, headers[0], o.(*opened).Minted, *h.Credential, w.events.list, gather(t, r), m.Failure(g.ID))
			seen += w.logs.String() + string(stored(w))
			bad := openWrongly(w, h)
			w.end(g)
			w.until("the ledger's end", func() bool { return w.ledgerIsEmpty(g) })
			seen += bad + printed(w.events.list) + w.logs.String()
			for _, part := range []string{secret, strings.TrimPrefix(secret, "Bearer "), signature(secret)} {
				if part != "" && strings.Contains(seen, part) {
					t.Errorf("%q is shown", part)
				}
			}
		})
	}
}

// signature is a token's last part; the parts before it are no secret alone.
func signature(token string) string {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return ""
	}
	return parts[2]
}

// stored is all that the store holds outside what authorisation follows.
func stored(w *world) []byte {
	var b bytes.Buffer
	for _, bucket := range []string{ledgerBucket, issuerBucket} {
		list, err := w.store.Bucket(bucket).List(w.t.Context(), "")
		if err != nil {
			w.t.Fatal(err)
		}
		for _, e := range list {
			b.WriteString(e.Key)
			b.Write(e.Value)
		}
	}
	return b.Bytes()
}

// openWrongly gives the errors of all that can go wrong with a credential.
func openWrongly(w *world, h *policy.Held) string {
	other := w.manager(func(c *Config) { c.Key = [32]byte{9} })
	_, err := other.Apply(w.t.Context(), h, &policy.Call{})
	x := *h
	x.Grant.ID = "g_other"
	_, err2 := w.manager(nil).Apply(w.t.Context(), &x, &policy.Call{})
	return printed(err, err2)
}
