package server

import (
	"errors"
	"net/http"
	"strings"

	"github.com/exeat-dev/exeat/grant"
	"github.com/exeat-dev/exeat/identity/oidc"
	"github.com/exeat-dev/exeat/policy"
)

// tokenWords says what to do about a token that is not taken.
var tokenWords = [...]struct {
	err    error
	code   code
	detail string
}{
	{oidc.ErrExpired, codeTokenExpired, "Sign in again: exeat login."},
	{oidc.ErrFuture, codeTokenRefused, "The token is from the future: set this machine's clock or the issuer's, and sign in again."},
	{oidc.ErrAudience, codeTokenRefused, "The token was issued to another client; sign in with the client ID that the catalog's Access names."},
	{oidc.ErrIssuer, codeTokenRefused, "The token's issuer is in no Access of the catalog; sign in with one that is, or ask an operator for an Access."},
	{oidc.ErrSignature, codeTokenRefused, "No key of the issuer made the token's signature; sign in again."},
	{oidc.ErrMalformed, codeTokenRefused, "Send an ID token of three parts that is signed by an asymmetric key, as exeat login gets one."},
	{oidc.ErrUnavailable, codeUnavailable, "The issuer's keys cannot be had now; try again in a moment."},
}

// apiCaller is the sidecar whose certificate the connection shows; without one,
// the person whose ID token the request carries.
func (s *Server) apiCaller(req *http.Request) (grant.Caller, *Problem) {
	shown := req.TLS != nil && len(req.TLS.PeerCertificates) > 0
	if !shown && req.Header.Get("Authorization") != "" {
		return s.personCaller(req)
	}
	// A sidecar's agent may say what it likes: a token beside a certificate
	// makes nobody of it.
	return s.peerCaller(req)
}

func (s *Server) personCaller(req *http.Request) (grant.Caller, *Problem) {
	cat := s.index.Catalog()
	if cat == nil {
		return grant.Caller{}, problemOf(grant.ErrNoCatalog)
	}
	// RFC 6750 section 2.1; the scheme's case does not matter (RFC 9110 section 11.1).
	scheme, token, _ := strings.Cut(req.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") || token == "" {
		return grant.Caller{}, problem(codeTokenRefused, "Send Authorization: Bearer and an ID token, as exeat login gets one.")
	}
	var issuers []oidc.Issuer
	for _, i := range cat.Issuers() {
		issuers = append(issuers, oidc.Issuer{URL: i.URL, ClientID: i.ClientID, GroupsClaim: i.GroupsClaim})
	}
	t, err := s.people.Verify(req.Context(), issuers, token)
	if err != nil {
		return grant.Caller{}, tokenProblem(err)
	}
	return grant.Caller{
		Person: &grant.Person{Issuer: t.Issuer, Subject: t.Subject, Name: t.Name, ClientID: t.ClientID, Groups: t.Groups, AuthTime: t.AuthTime, ACR: t.ACR},
		Rights: cat.Rights(t.Issuer, t.ClientID, t.Groups), Name: policy.PersonName(t.Issuer, t.Subject),
	}, nil
}

func tokenProblem(err error) *Problem {
	for _, known := range tokenWords {
		if errors.Is(err, known.err) {
			return problem(known.code, known.detail)
		}
	}
	return problem(codeTokenRefused, "The token cannot be verified; sign in again: exeat login.")
}
