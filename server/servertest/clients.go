package servertest

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"

	"github.com/exeat-dev/exeat/identity"
)

// Local is the URL of the operator's API, whose host means nothing.
const Local = "http://exeat"

// As gives an HTTP client with the identity of that path.
func (a *API) As(path string) *http.Client {
	a.T.Helper()
	id, err := identity.ParseID("spiffe://" + Domain + path)
	a.Must(err)
	api, err := identity.APIServer(Domain)
	a.Must(err)
	return a.client(&http.Transport{TLSClientConfig: identity.ClientTLS(a.Authority.Source(id, nil, nil), api), ForceAttemptHTTP2: true})
}

// Nobody gives an HTTP client without a certificate.
func (a *API) Nobody() *http.Client {
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(a.Authority.BundlePEM())
	return a.client(&http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: "localhost"}})
}

// Operator gives an HTTP client of the Unix socket.
func (a *API) Operator() *http.Client {
	return a.client(&http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", a.Socket)
	}})
}

func (a *API) client(transport *http.Transport) *http.Client {
	a.T.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}
