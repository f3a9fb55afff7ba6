package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/oauth2"

	"github.com/exeat-dev/exeat/client"
	"github.com/exeat-dev/exeat/identity/oidc"
)

// loginOptions are the flags of `exeat login`.
type loginOptions struct {
	remote
	issuer, clientID string
	maxAge           time.Duration
	acr              string
}

func loginCommand() *cobra.Command {
	var o loginOptions
	cmd := &cobra.Command{
		Use:   "login",
		Short: "Sign in with OpenID Connect, to view, approve and revoke",
		Long: `Signs in by the device flow (RFC 8628): it shows an address and a code, which
you enter in a browser anywhere. The issuers are those of the catalog's Access
objects. The token is kept in the data folder, for this user alone, until it
expires or exeat logout removes it.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.take(cmd)
			s, err := login(cmd.Context(), o, cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "signed in as %s (%s) until %s\n", visible(s.Name), visible(s.Issuer), s.Expires.Local().Format(time.RFC3339))
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.issuer, "issuer", "", "URL of the issuer, when the catalog has several")
	f.StringVar(&o.clientID, "client-id", "", "client ID, when the issuer has several")
	f.DurationVar(&o.maxAge, "max-age", 0, "authenticate anew unless you did within this time")
	f.StringVar(&o.acr, "acr", "", "how to authenticate: the authentication context class reference that is wanted")
	o.flags(f)
	return cmd
}

func logoutCommand() *cobra.Command {
	return &cobra.Command{
		Use: "logout", Short: "Forget the token that exeat login got", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			data, _ := cmd.Flags().GetString("data")
			there, err := forgetSession(data)
			if err == nil && there {
				fmt.Fprintln(cmd.OutOrStdout(), "signed out")
			} else if err == nil {
				fmt.Fprintln(cmd.OutOrStdout(), "nobody was signed in")
			}
			return err
		},
	}
}

// login gets a token and keeps it.
func login(ctx context.Context, o loginOptions, out io.Writer) (account, error) {
	issuer, err := o.chooseIssuer(ctx)
	if err != nil {
		return account{}, err
	}
	raw, err := deviceFlow(ctx, issuer, o, out)
	if err != nil {
		return account{}, fmt.Errorf("sign in with %s: %w", issuer.Issuer, err)
	}
	// The API verifies it each time; here it is so that nobody is told they are
	// someone who they are not.
	t, err := oidc.NewVerifier(nil, nil).Verify(ctx, []oidc.Issuer{{URL: issuer.Issuer, ClientID: issuer.ClientID}}, raw)
	if err != nil {
		return account{}, fmt.Errorf("%s gave a token that is none: %w", issuer.Issuer, err)
	}
	if o.maxAge > 0 && (t.AuthTime.IsZero() || time.Since(t.AuthTime) > o.maxAge+oidc.Skew) {
		return account{}, fmt.Errorf("%s did not ask you anew: it must support max_age, and say auth_time in its tokens", issuer.Issuer)
	}
	s := account{
		Issuer: issuer.Issuer, ClientID: issuer.ClientID, Name: t.Name, Expires: t.Expires, Token: raw,
	}
	return s, keepSession(o.data, s)
}

// chooseIssuer asks the API where people sign in.
func (o loginOptions) chooseIssuer(ctx context.Context) (client.Issuer, error) {
	if o.issuer != "" && o.clientID != "" {
		return client.Issuer{Issuer: o.issuer, ClientID: o.clientID, Scopes: []string{"openid"}}, nil
	}
	api, err := o.public()
	if err != nil {
		return client.Issuer{}, err
	}
	defer api.Close()
	all, err := api.Issuers(ctx)
	if err != nil {
		return client.Issuer{}, err
	}
	var fit []client.Issuer
	var names []string
	for _, i := range all {
		names = append(names, i.Issuer+" (client "+i.ClientID+")")
		if (o.issuer == "" || o.issuer == i.Issuer) && (o.clientID == "" || o.clientID == i.ClientID) {
			fit = append(fit, i)
		}
	}
	switch {
	case len(all) == 0:
		return client.Issuer{}, errors.New("the catalog has no Access, so nobody can sign in; add one (docs/approvals.md)")
	case len(fit) == 0:
		return client.Issuer{}, fmt.Errorf("the catalog has no such issuer or client; it has %s", strings.Join(names, ", "))
	case len(fit) > 1:
		return client.Issuer{}, fmt.Errorf("choose one with --issuer and --client-id: %s", strings.Join(names, ", "))
	}
	return fit[0], nil
}

// loginTimeout of one request to the issuer.
const loginTimeout = 15 * time.Second

// deviceFlow is RFC 8628: it shows where to go, and waits until someone was there.
func deviceFlow(ctx context.Context, i client.Issuer, o loginOptions, out io.Writer) (string, error) {
	hc := &http.Client{Timeout: loginTimeout}
	d, err := oidc.Discover(ctx, hc.Transport, i.Issuer)
	if err != nil {
		return "", err
	}
	if d.DeviceURL == "" || d.TokenURL == "" {
		return "", errors.New("it has no device flow (RFC 8628); turn that on for the client")
	}
	ctx = context.WithValue(ctx, oauth2.HTTPClient, hc)
	cfg := oauth2.Config{
		ClientID: i.ClientID, Scopes: i.Scopes,
		Endpoint: oauth2.Endpoint{DeviceAuthURL: d.DeviceURL, TokenURL: d.TokenURL, AuthStyle: oauth2.AuthStyleInParams},
	}
	var anew []oauth2.AuthCodeOption
	if o.maxAge > 0 {
		anew = append(anew, oauth2.SetAuthURLParam("max_age", strconv.Itoa(int(o.maxAge.Seconds()))))
	}
	if o.acr != "" {
		anew = append(anew, oauth2.SetAuthURLParam("acr_values", o.acr))
	}
	device, err := cfg.DeviceAuth(ctx, anew...)
	if err != nil {
		return "", oauthWords(err)
	}
	printDevice(out, device)
	token, err := cfg.DeviceAccessToken(ctx, device)
	if err != nil {
		return "", oauthWords(err)
	}
	raw, _ := token.Extra("id_token").(string)
	if raw == "" {
		return "", errors.New("it gave no ID token; the scope openid is needed")
	}
	return raw, nil
}

func printDevice(out io.Writer, d *oauth2.DeviceAuthResponse) {
	fmt.Fprintf(out, "Open  %s\nEnter %s\n", visible(d.VerificationURI), visible(d.UserCode))
	if d.VerificationURIComplete != "" {
		fmt.Fprintf(out, "or open %s and compare the code\n", visible(d.VerificationURIComplete))
	}
}

// oauthWords keeps the error code of RFC 6749 section 5.2 and drops the body,
// which may hold anything.
func oauthWords(err error) error {
	var answered *oauth2.RetrieveError
	if !errors.As(err, &answered) || answered.ErrorCode == "" {
		return err
	}
	if answered.ErrorDescription == "" {
		return errors.New(visible(answered.ErrorCode))
	}
	return fmt.Errorf("%s: %s", visible(answered.ErrorCode), visible(answered.ErrorDescription))
}
