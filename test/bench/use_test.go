package bench

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"math/big"
	"net/url"
	"path/filepath"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/exeat-dev/exeat/audit"
	"github.com/exeat-dev/exeat/credential"
	"github.com/exeat-dev/exeat/grant"
	"github.com/exeat-dev/exeat/policy"
	"github.com/exeat-dev/exeat/proxy"
	"github.com/exeat-dev/exeat/store"
	"github.com/exeat-dev/exeat/store/storetest"
)

// judge is the real way of a call from its Check on: index, policy, uses, store
// and record, without Envoy and with a credential that costs nothing.
type judge struct {
	*proxy.Server
	store *store.Store
	ctx   context.Context
	n     int
}

type noCredential struct{}

func (noCredential) Apply(context.Context, *policy.Held, *policy.Call) ([]credential.Header, error) {
	return nil, nil
}

func newJudge(b testing.TB) *judge {
	b.Helper()
	st := storetest.Open(b, storetest.WithStaleness(time.Minute))
	set := storetest.Set()
	for i := range set.Capabilities {
		set.Capabilities[i].Spec.Credential = nil
	}
	storetest.Publish(b, st, set)
	log, err := audit.Open(audit.Config{Dir: filepath.Join(b.TempDir(), "audit"), Clock: st.Now})
	must(b, err)
	b.Cleanup(func() { must(b, log.Close()) })
	grants, err := grant.New(grant.Config{Store: st, Audit: log})
	must(b, err)
	s, err := proxy.New(proxy.Config{Index: st.Index(), Now: st.Now, Credentials: noCredential{}, Consumer: grants, Audit: log, Touches: st, Tallies: log})
	must(b, err)
	return &judge{Server: s, store: st, ctx: asPeer(b, string(storetest.Instance))}
}

func must(b testing.TB, err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

// asPeer is the context of a call from a verified peer.
func asPeer(b testing.TB, id string) context.Context {
	b.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(b, err)
	uri, err := url.Parse(id)
	must(b, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), URIs: []*url.URL{uri}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	must(b, err)
	cert, err := x509.ParseCertificate(der)
	must(b, err)
	state := tls.ConnectionState{HandshakeComplete: true, PeerCertificates: []*x509.Certificate{cert}}
	return peer.NewContext(b.Context(), &peer.Peer{AuthInfo: credentials.TLSInfo{State: state}})
}

// task gives the Check of a call under a grant of so many uses; 0: any number.
func (j *judge) task(b testing.TB, uses int64) *authv3.CheckRequest {
	b.Helper()
	t := storetest.Task(b, j.store)
	g := storetest.NewGrant(b, j.store, t, storetest.ReadTicket, "OPS-1")
	g.MaxUses = uses
	rev, err := j.store.CreateGrants(b.Context(), j.store.Index().Revision(), g)
	must(b, err)
	storetest.Await(b, j.store, rev)
	h := &authv3.AttributeContext_HttpRequest{
		Method: "GET", Scheme: "https", Host: storetest.Host, Path: "/v1/tickets/OPS-1", Protocol: "HTTP/2",
		HeaderMap: &corev3.HeaderMap{Headers: []*corev3.HeaderValue{
			{Key: "accept", RawValue: []byte("*/*")}, {Key: "x-request-id", RawValue: []byte("e905d206-39b6-4449-a239-dc1bb73e8adf")},
		}},
	}
	return &authv3.CheckRequest{Attributes: &authv3.AttributeContext{
		Request:    &authv3.AttributeContext_Request{Time: timestamppb.Now(), Http: h},
		TlsSession: &authv3.AttributeContext_TLSSession{Sni: storetest.Host},
		ContextExtensions: map[string]string{
			policy.ExtensionTask: string(t.ID), policy.ExtensionAgent: storetest.Agent, policy.ExtensionDestination: storetest.Destination,
		},
	}}
}

// allow asks once and fails unless the call may leave.
func (j *judge) allow(b testing.TB, req *authv3.CheckRequest) {
	b.Helper()
	j.n++
	req.Attributes.Request.Http.Id = fmt.Sprint(j.n) // Envoy's number for the stream
	resp, err := j.Check(j.ctx, req)
	if err != nil || resp.GetOkResponse() == nil {
		b.Fatalf("denied: %v, %v", resp, err)
	}
}

// BenchmarkUse takes an unlimited check, a limited one and a bare write to the
// store by turns, so that whatever else the machine does meets all three.
func BenchmarkUse(b *testing.B) {
	j := newJudge(b)
	free, limited, bucket := j.task(b, 0), j.task(b, 1_000_000), j.store.Bucket("bench")
	var spent [3]time.Duration
	var rev int64
	timed := func(i int, fn func()) {
		began := time.Now()
		fn()
		spent[i] += time.Since(began)
	}
	for b.Loop() {
		timed(0, func() { j.allow(b, free) })
		timed(1, func() { j.allow(b, limited) })
		timed(2, func() {
			var err error
			rev, err = bucket.Swap(b.Context(), "x", rev, []byte("x"))
			must(b, err)
		})
	}
	n := float64(b.N)
	b.ReportMetric(float64(spent[0].Nanoseconds())/n, "unlimited-ns")
	b.ReportMetric(float64(spent[1].Nanoseconds())/n, "use-ns")
	b.ReportMetric(float64(spent[2].Nanoseconds())/n, "write-ns")
	b.ReportMetric(float64(spent[1])/float64(spent[2]), "use/write")
	b.ReportMetric(float64(spent[1])/float64(spent[0]), "use/unlimited")
}

// A use is one write, and what is not limited writes nothing.
func TestAUseIsOneWrite(t *testing.T) {
	t.Parallel()
	j := newJudge(t)
	free, limited := j.task(t, 0), j.task(t, 100)
	bucket := j.store.Bucket("bench")
	revision := func() int64 { // of a write made just now
		var rev int64
		e, err := bucket.Get(t.Context(), "x")
		if err == nil {
			rev = e.Revision
		}
		rev, err = bucket.Swap(t.Context(), "x", rev, []byte("x"))
		must(t, err)
		return rev
	}
	const calls = 20
	for _, tt := range []struct {
		req  *authv3.CheckRequest
		want int64
	}{{free, 0}, {limited, calls}} {
		before := revision()
		for range calls {
			j.allow(t, tt.req)
		}
		// Beats of the replica may come in between, one in a long while.
		if got := revision() - before - 1; got < tt.want || got > tt.want+2 {
			t.Errorf("%d calls made %d writes, want %d", calls, got, tt.want)
		}
	}
}
